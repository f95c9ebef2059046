"""svdbench: neural networks whose weights carry an SVD, measured and made fast.

The layers are in :mod:`svdbench.nn`, the Householder core in
:mod:`svdbench.kernels`; ``svdbench --help`` lists the experiments.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("svdbench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
