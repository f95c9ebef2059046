"""Low-rank matrices: truncated and randomised SVD, layers as two thin factors, whole models."""

from svdbench.lowrank.compression import Compressed, compress
from svdbench.lowrank.drivers.base import SVD
from svdbench.lowrank.drivers.gram import gram_svd
from svdbench.lowrank.drivers.randomized import randomized_svd
from svdbench.lowrank.drivers.randqb import (
    QB,
    frobenius_error,
    projection_error,
    randqb,
    spectral_error_bound,
)
from svdbench.lowrank.drivers.truncated import choose_driver, truncated_svd
from svdbench.lowrank.layers.attention import LowRankAttention
from svdbench.lowrank.layers.base import Weight
from svdbench.lowrank.layers.conv import LowRankConv1d, LowRankConv2d
from svdbench.lowrank.layers.embedding import LowRankEmbedding
from svdbench.lowrank.layers.factor import Factored, factor, plain_layers, unfactor
from svdbench.lowrank.layers.linear import LowRankLinear
from svdbench.lowrank.layers.recurrent import LowRankRecurrent
from svdbench.lowrank.ranks.certify import Certificate, Increase, certify
from svdbench.lowrank.ranks.curves import Curve, loss_curves
from svdbench.lowrank.ranks.evaluation import example_losses
from svdbench.lowrank.ranks.frontier import Frontier, Ranks, rank_frontier
from svdbench.lowrank.ranks.rivals import (
    energy_ranks,
    exhaustive_ranks,
    minimax_ranks,
    uniform_ranks,
)
from svdbench.lowrank.storage import load, save

__all__ = [
    "QB",
    "SVD",
    "Certificate",
    "Compressed",
    "Curve",
    "Factored",
    "Frontier",
    "Increase",
    "LowRankAttention",
    "LowRankConv1d",
    "LowRankConv2d",
    "LowRankEmbedding",
    "LowRankLinear",
    "LowRankRecurrent",
    "Ranks",
    "Weight",
    "certify",
    "choose_driver",
    "compress",
    "energy_ranks",
    "example_losses",
    "exhaustive_ranks",
    "factor",
    "frobenius_error",
    "gram_svd",
    "load",
    "loss_curves",
    "minimax_ranks",
    "plain_layers",
    "projection_error",
    "randomized_svd",
    "randqb",
    "rank_frontier",
    "save",
    "spectral_error_bound",
    "truncated_svd",
    "unfactor",
    "uniform_ranks",
]
