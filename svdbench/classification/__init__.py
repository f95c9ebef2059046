"""Feed-forward networks that classify, trained side by side on tensors in memory."""

from svdbench.classification.arms import (
    Arm,
    Batches,
    EpochScores,
    same_start,
    side_by_side,
    warm_up,
)
from svdbench.classification.networks import (
    Loss,
    Scores,
    check_sizes,
    evaluate,
    linear_layers,
    loss_for,
    mlp,
    parse_net,
)

__all__ = [
    "Arm",
    "Batches",
    "EpochScores",
    "Loss",
    "Scores",
    "check_sizes",
    "evaluate",
    "linear_layers",
    "loss_for",
    "mlp",
    "parse_net",
    "same_start",
    "side_by_side",
    "warm_up",
]
