"""SVD-DNN: training accelerated by factors of low rank, after some steps with dense weights."""

from svdbench.acceleration.ranks import (
    ALPHA_MEANINGS,
    alpha_rank,
    alpha_rule,
    ceiling,
    layer_rule,
    multiplications,
    size_of,
)
from svdbench.acceleration.svd_dnn import SvdDnn, carry_moments, switch_step

__all__ = [
    "ALPHA_MEANINGS",
    "SvdDnn",
    "alpha_rank",
    "alpha_rule",
    "carry_moments",
    "ceiling",
    "layer_rule",
    "multiplications",
    "size_of",
    "switch_step",
]
