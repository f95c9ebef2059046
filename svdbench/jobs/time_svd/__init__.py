"""Time drivers of the truncated SVD: ours, torch's, scikit-learn's and scipy's.

The first k singular triplets of matrices with polynomial, exponential,
stepped and flat spectra; time against error over the best possible. No driver
gets a number unless its factors are orthonormal and its error not below the
best, and, if it promises the best, its singular values agree with float64.

Writes results/time-svd/NAME: every sample and a summary as CSV, the
environment, the configuration, and plots. All of it takes some ten minutes.
"""

from svdbench.job import Job
from svdbench.jobs.time_svd.config import TimeSVD

JOB = Job("time-svd", TimeSVD, __name__)
