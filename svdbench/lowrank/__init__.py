"""Low-rank matrices: truncated and randomised SVD, and layers kept as two thin factors."""

from svdbench.lowrank.base import SVD
from svdbench.lowrank.conv import LowRankConv2d
from svdbench.lowrank.estimate import frobenius_error, projection_error, spectral_error_bound
from svdbench.lowrank.factor import Factored, Weight, factor, unfactor
from svdbench.lowrank.gram import gram_svd
from svdbench.lowrank.linear import LowRankLinear
from svdbench.lowrank.randomized import randomized_svd
from svdbench.lowrank.randqb import QB, randqb
from svdbench.lowrank.recurrent import LowRankRecurrent
from svdbench.lowrank.truncated import choose_driver, truncated_svd

__all__ = [
    "QB",
    "SVD",
    "Factored",
    "LowRankConv2d",
    "LowRankLinear",
    "LowRankRecurrent",
    "Weight",
    "choose_driver",
    "factor",
    "frobenius_error",
    "gram_svd",
    "projection_error",
    "randomized_svd",
    "randqb",
    "spectral_error_bound",
    "truncated_svd",
    "unfactor",
]
