"""Compress the weights of a network to a low rank, during training or in a model of your own.

DATASET: trains a network with and without compression, side by side. All arms start from
the same weights and see the same batches, one epoch of each in turn. The report says which
differences are more than noise. A layer becomes two factors only if that saves
parameters; operations are counted and the latency is measured.

experiment=three_layer_published follows the code of Keene (2022), and
experiment=three_layer_corrected the text.

Writes results/compress/NAME: CSV tables of epochs, arms and layers, plots, the
configuration and the environment.
"""

from svdbench.job import Job, Subject
from svdbench.jobs.compress.config import Compress

JOB = Job(
    "compress",
    Compress,
    __name__,
    Subject(
        "[DATASET|MODULE:BUILD]",
        "Data set: digits, mnist, …; by default digits. Or a function that returns a model.",
        name="data.name",
    ),
)
