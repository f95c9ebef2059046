"""The loss that a model is taken to have been trained with, where none is given."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

# Targets that cross entropy passes over, by PyTorch's default.
IGNORED = -100


def usual_loss(output: Any, target: Tensor) -> Tensor:
    """Cross entropy for classes, mean squared error for numbers; the mean over a batch.

    Args:
        output: of the model. For classes (B, …, C) or (B, C, …), or (B, …, 1) where there are
            two, whose logit it is; for numbers of the targets' shape.
        target: whole numbers (B, …) of any dtype, and booleans, are classes.

    Targets of −100 are no class and don't count, as in PyTorch.

    Raises:
        ValueError: an output that doesn't fit either.
    """
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the model returns a {type(output).__name__}: wrap it in a module that returns the "
            "tensor which the loss is of"
        )
    if target.is_floating_point() or target.is_complex():
        if output.shape == target.shape and not target.is_complex():
            return F.mse_loss(output, target)
    elif output.shape[:-1] == target.shape:
        if output.shape[-1] == 1:
            return F.binary_cross_entropy_with_logits(output[..., 0], target.to(output.dtype))
        return F.cross_entropy(output.flatten(0, -2), target.flatten().long())
    elif output.ndim > 1 and output.shape[:1] + output.shape[2:] == target.shape:
        return F.cross_entropy(output, target.long())
    raise ValueError(
        f"no usual loss is of outputs {tuple(output.shape)} and {target.dtype} targets "
        f"{tuple(target.shape)}: give a loss"
    )


def check_classes(output: Any, target: Tensor) -> None:
    """Raise ValueError for a target that is no class of the model; apart, for ``torch.vmap``."""
    if not isinstance(output, Tensor) or target.is_floating_point() or target.is_complex():
        return
    binary = output.shape == (*target.shape, 1)
    if binary:
        classes = 2
    elif output.shape[:-1] == target.shape:
        classes = output.shape[-1]
    elif output.ndim > 1 and output.shape[:1] + output.shape[2:] == target.shape:
        classes = output.shape[1]
    else:
        return  # which no usual loss is of
    target = target.long()
    wrong = (target < 0) | (target >= classes)
    if not binary:
        wrong &= target != IGNORED
    if wrong.any():
        raise ValueError(
            f"target {int(target[wrong][0])} is none of the classes 0 to {classes - 1} that the "
            "model has outputs for: check the targets, or the model's last layer"
        )
