"""Train a network on DATASET as SVD-DNN does, beside the same one dense.

After a share φ of the steps each layer W becomes two factors W₁W₂ of low
rank, which take fewer multiplications, and at the end one matrix again.
All arms start from the same weights and meet the same batches, epoch by
epoch in turn. Beside the speed stands its ceiling, what the saved
multiplications can explain; accuracy comes with an interval.

experiment=svd_dnn_mnist_published repeats document 003's experiment as
its code had it, svd_dnn_mnist_corrected without what is wrong with it;
likewise svd_dnn_xor_… and svd_dnn_cats_…; svd_dnn_alpha sweeps α.

Writes results/accelerate/NAME: every epoch, a summary and the layers as
CSV, the environment, the configuration, and plots.
"""

from svdbench.job import Job, Subject
from svdbench.jobs.accelerate.config import Accelerate

JOB = Job(
    "accelerate",
    Accelerate,
    __name__,
    Subject("[DATASET]", "digits, mnist, xor, …; by default digits.", name="data.name"),
)
