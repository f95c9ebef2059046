"""Compress networks to low rank: your own model, or a network while it is trained.

With DATASET: trains a network with and without compression, side by side. All networks start from
the same weights and see the same batches, one epoch of each in turn. The report says which
differences are more than noise. A layer is replaced by two factors only if that saves parameters;
operations are counted and the latency is measured.

experiment=three_layer_published follows the code of Keene (2022), and
experiment=three_layer_corrected his text.

Writes results/compress/NAME: CSV tables of epochs, arms and layers, plots, the
configuration and the environment.

Examples:
    svdbench compress mnist --ranks 10 --seeds 3
"""

from svdbench.job import Job
from svdbench.jobs.compress.config import Compress
from svdbench.side_by_side.config import DATASET_OR_MODEL

JOB = Job("compress", Compress, __name__, DATASET_OR_MODEL, panel="Low rank", place=1)
