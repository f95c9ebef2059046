"""Time truncated SVDs: svdbench's drivers, PyTorch's, scikit-learn's and SciPy's.

Each driver computes the first k singular triplets of matrices with polynomial, exponential,
stepped and flat spectra. The report compares times at equal error. A driver gets no time if its
factors are not orthonormal, if its error is below the smallest possible, or if it claims to be
exact and its singular values disagree with float64.

Writes results/time-svd/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment. Takes about ten minutes.

Examples:
    svdbench time-svd --quick
    svdbench time-svd --shapes 1024x1024 --ranks 10,64 --methods auto,torch_svd
"""

from svdbench.job import Job
from svdbench.jobs.time_svd.config import TimeSVD

JOB = Job("time-svd", TimeSVD, __name__, panel="Timing", place=5)
