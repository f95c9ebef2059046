"""Feed-forward networks that classify, trained side by side on tensors in memory."""

from svdbench.side_by_side.arms import (
    Arm,
    Batches,
    EpochScores,
    same_start,
    side_by_side,
    warm_up,
)
from svdbench.side_by_side.networks import (
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
