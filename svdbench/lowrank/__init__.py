"""Low-rank matrices: truncated and randomised SVD, and layers kept as two thin factors."""

from svdbench.lowrank.drivers.base import SVD
from svdbench.lowrank.drivers.estimate import (
    frobenius_error,
    projection_error,
    spectral_error_bound,
)
from svdbench.lowrank.drivers.gram import gram_svd
from svdbench.lowrank.drivers.randomized import randomized_svd
from svdbench.lowrank.drivers.randqb import QB, randqb
from svdbench.lowrank.drivers.truncated import choose_driver, truncated_svd
from svdbench.lowrank.layers.conv import LowRankConv2d
from svdbench.lowrank.layers.factor import Factored, Weight, factor, unfactor
from svdbench.lowrank.layers.linear import LowRankLinear
from svdbench.lowrank.layers.recurrent import LowRankRecurrent
from svdbench.lowrank.reveal.certify import Certificate, Increase, certify
from svdbench.lowrank.reveal.curves import Curve, loss_curves
from svdbench.lowrank.reveal.examples import example_losses
from svdbench.lowrank.reveal.frontier import Frontier, Ranks, rank_frontier
from svdbench.lowrank.reveal.rivals import (
    energy_ranks,
    exhaustive_ranks,
    minimax_ranks,
    uniform_ranks,
)

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
