"""Feed-forward networks that classify, trained side by side on tensors in memory."""

from svdbench.classification.arm import Arm, EpochScores
from svdbench.classification.batches import Batches
from svdbench.classification.losses import Loss, loss_for
from svdbench.classification.network import check_sizes, linear_layers, mlp, parse_net
from svdbench.classification.scores import Scores, evaluate
from svdbench.classification.side_by_side import same_start, side_by_side, warm_up

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
