"""Cross-entropy: over classes, or of one logit for two of them."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def loss_for(outputs: int) -> Loss:
    """The loss of a network with so many outputs, in nats, the mean of a batch.

    It takes logits (N, outputs) and labels (N,), int64.
    """
    return F.cross_entropy if outputs > 1 else binary_cross_entropy


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−y log σ(z) − (1 − y) log(1 − σ(z)), the mean over logits (N, 1) and labels (N,)."""
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype))


def predictions(logits: Tensor) -> Tensor:
    """The likeliest labels (N,) of logits (N, outputs); of one logit, 1 where it is positive."""
    if logits.shape[1] == 1:
        return (logits.squeeze(1) > 0).long()
    return logits.argmax(1)
