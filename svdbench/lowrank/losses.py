"""The loss that a model is taken to have been trained with, where none is given."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def usual_loss(output: Any, target: Tensor) -> Tensor:
    """Cross entropy for classes, mean squared error for numbers; the mean over a batch.

    Args:
        output: of the model. For classes (B, …, C) or (B, C, …), or (B, …, 1) where there are
            two, whose logit it is; for numbers of the targets' shape.
        target: whole numbers (B, …) are classes.

    Raises:
        ValueError: an output that doesn't fit either.
    """
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the model returns a {type(output).__name__}: wrap it in a module that returns the "
            "tensor which the loss is of"
        )
    if target.is_floating_point():
        if output.shape == target.shape:
            return F.mse_loss(output, target)
    elif output.shape[:-1] == target.shape:
        if output.shape[-1] == 1:
            return F.binary_cross_entropy_with_logits(output[..., 0], target.to(output.dtype))
        return F.cross_entropy(output.flatten(0, -2), target.flatten())
    elif output.ndim > 1 and output.shape[:1] + output.shape[2:] == target.shape:
        return F.cross_entropy(output, target)
    raise ValueError(
        f"no usual loss is of outputs {tuple(output.shape)} and {target.dtype} targets "
        f"{tuple(target.shape)}: give a loss"
    )
