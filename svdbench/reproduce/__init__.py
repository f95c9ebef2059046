"""The results that the four documents report, repeated and judged.

A result is a YAML in ``conf/reproduce`` and a function of the same name in
:mod:`svdbench.reproduce.judges`: the one says what was claimed, which runs repeat it and
what decides; the other reads the numbers from those runs.
"""
