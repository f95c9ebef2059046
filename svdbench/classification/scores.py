"""Loss and accuracy of a network on a whole split."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svdbench.classification.losses import Loss, predictions

# Examples at once: enough for fast products, and their activations stay in the cache.
CHUNK = 2048


@dataclass(frozen=True)
class Scores:
    """Mean loss, in nats, and the fraction of labels that were right."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(network: nn.Module, X: Tensor, y: Tensor, loss: Loss, chunk: int = CHUNK) -> Scores:
    """The scores of a network, in evaluation mode, on examples (N, d) and labels (N,).

    Raises:
        ValueError: there are no examples.
    """
    if not len(X):
        raise ValueError("there are no examples to evaluate on: give at least one")
    training = network.training
    network.eval()
    losses = torch.zeros((), dtype=torch.float64, device=X.device)
    right = torch.zeros((), dtype=torch.int64, device=X.device)
    for x, labels in zip(X.split(chunk), y.split(chunk), strict=True):
        logits = network(x)
        losses += len(x) * loss(logits, labels)
        right += (predictions(logits) == labels).sum()
    network.train(training)
    return Scores(float(losses) / len(X), int(right) / len(X))
