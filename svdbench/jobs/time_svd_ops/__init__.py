"""Time matrix operations through the factors of W = UΣVᵀ against torch.linalg.

Inverse, log-determinant, exponential and Cayley map of W (d, d) on
X (d, 32). One step is the value with its gradients in U, Σ, V and X, or in
W and X. No method gets a number unless it agrees with float64, before its
timing and after; the tables show its error beside its time.

Writes results/time-svd-ops/NAME: every sample and a summary as CSV, the
environment, the configuration, and a plot.
"""

from svdbench.job import Job
from svdbench.jobs.time_svd_ops.config import TimeSvdOps

JOB = Job("time-svd-ops", TimeSvdOps, __name__)
