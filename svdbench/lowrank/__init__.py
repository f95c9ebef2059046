"""Low-rank matrices: truncated and randomised SVD, and layers kept as two thin factors."""

from svdbench.lowrank.base import SVD
from svdbench.lowrank.certify import Certificate, Increase, certify
from svdbench.lowrank.conv import LowRankConv2d
from svdbench.lowrank.curves import Curve, loss_curves
from svdbench.lowrank.estimate import frobenius_error, projection_error, spectral_error_bound
from svdbench.lowrank.examples import example_losses
from svdbench.lowrank.factor import Factored, Weight, factor, unfactor
from svdbench.lowrank.frontier import Frontier, Ranks, rank_frontier
from svdbench.lowrank.gram import gram_svd
from svdbench.lowrank.linear import LowRankLinear
from svdbench.lowrank.randomized import randomized_svd
from svdbench.lowrank.randqb import QB, randqb
from svdbench.lowrank.recurrent import LowRankRecurrent
from svdbench.lowrank.rivals import (
    energy_ranks,
    exhaustive_ranks,
    minimax_ranks,
    uniform_ranks,
)
from svdbench.lowrank.truncated import choose_driver, truncated_svd

__all__ = [
    "QB",
    "SVD",
    "Certificate",
    "Curve",
    "Factored",
    "Frontier",
    "Increase",
    "LowRankConv2d",
    "LowRankLinear",
    "LowRankRecurrent",
    "Ranks",
    "Weight",
    "certify",
    "choose_driver",
    "energy_ranks",
    "example_losses",
    "exhaustive_ranks",
    "factor",
    "frobenius_error",
    "gram_svd",
    "loss_curves",
    "minimax_ranks",
    "projection_error",
    "randomized_svd",
    "randqb",
    "rank_frontier",
    "spectral_error_bound",
    "truncated_svd",
    "unfactor",
    "uniform_ranks",
]
