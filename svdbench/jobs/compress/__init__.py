"""Keep the weights of a network at a low rank: as it is trained on DATASET, or of a model of
your own that the function MODULE:BUILD returns.

DATASET: all arms, with and without compression, start from the same weights and meet
the same batches, epoch by epoch in turn. The table says what is different, by how
much, and whether that is more than noise. Layers become two factors only where that
saves; how much is counted, and the latency measured.

experiment=three_layer_published repeats document 002's experiment as its code had
it, experiment=three_layer_corrected as its text has it.

Writes results/compress/NAME: every epoch, a summary and the layers as CSV, the
environment, the configuration, and plots.
"""

from svdbench.job import Job, Subject
from svdbench.jobs.compress.config import Compress

JOB = Job(
    "compress",
    Compress,
    __name__,
    Subject(
        "[DATASET|MODULE:BUILD]",
        "digits, mnist, …; by default digits. Or a function that returns a model.",
        name="data.name",
    ),
)
