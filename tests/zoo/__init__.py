"""Real models, offline, as a user would name them: ``zoo.minilm:build`` and ``zoo.minilm:loader``.

Weights come from packages on PyPI (the extra ``zoo``) or are trained here, texts from the
standard library, sounds from a formula. With ``tests`` on the path::

    svdbench compress zoo.pitch:tiny --data zoo.pitch:loader --loss zoo.pitch:loss --params 0.5

What is trained or unpacked stays in ``build/zoo``, or in the folder that SVDBENCH_ZOO names.
"""
