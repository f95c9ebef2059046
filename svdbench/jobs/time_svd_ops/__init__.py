"""Time matrix operations through the factors of W = UΣVᵀ, and through torch.linalg.

The operations are the inverse, log-determinant, exponential and Cayley map of W (d, d), applied
to X (d, 32). One repetition computes the value and its gradients with respect to U, Σ, V and X, or
to W and X. Every method is checked against float64 before and after its timing, and its error is
shown next to its time.

Writes results/time-svd-ops/NAME: CSV tables of all samples and a summary, a plot, the
configuration and the environment.

Examples:
    svdbench time-svd-ops --quick
    svdbench time-svd-ops --ops inverse,logdet --d 256,512 --dtype float64
"""

from svdbench.job import Job
from svdbench.jobs.time_svd_ops.config import TimeSvdOps

JOB = Job("time-svd-ops", TimeSvdOps, __name__, panel="Timing", place=3)
