"""Multilayer networks; losses and scores of networks that classify."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.members import refuse_unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def parse_net(text: str) -> list[int]:
    """The sizes in ``"784-15-15-10"``: inputs, hidden units of each layer, outputs."""
    parts = text.split("-")
    if len(parts) < 2 or not all(re.fullmatch(r"[1-9][0-9]*", part) for part in parts):
        raise ValueError(
            f"the network is {text!r}: give the sizes of its layers, each at least 1, "
            "joined by '-', such as 784-15-15-10"
        )
    return [int(part) for part in parts]


def mlp(sizes: Sequence[int], activation: str = "relu") -> nn.Sequential:
    """Linear layers with an activation between them, none after the last.

    Initialised as torch does: U(−1/√n, 1/√n) for a layer with n inputs.

    Args:
        sizes: inputs, hidden units of each layer, outputs. One output is the logit of
            the second of two classes.
        activation: relu, sigmoid or tanh.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"the sizes are {list(sizes)}: give at least two, inputs and outputs, each at least 1"
        )
    refuse_unknown("activation", [activation], sorted(ACTIVATIONS))
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


def check_sizes(sizes: Sequence[int], features: int, classes: int, name: str) -> None:
    """Refuse a network that does not fit a data set."""
    fitting = f"{features}-…-{classes}" + (f" or {features}-…-1" if classes == 2 else "")
    if sizes[0] != features:
        raise ValueError(
            f"the network has {sizes[0]} inputs, but an example of {name} has {features} values: "
            f"give a net like {fitting}"
        )
    if sizes[-1] != classes and not (classes == 2 and sizes[-1] == 1):
        raise ValueError(
            f"the network has {sizes[-1]} outputs, but {name} has {classes} classes: "
            f"give a net like {fitting}"
        )


def linear_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a network by name, in order."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}


Loss = Callable[[Tensor, Tensor], Tensor]
# Of outputs and labels: how many of the labels are right, a number or a tensor ().
CountRight = Callable[[Tensor, Tensor], Tensor | float]


def loss_for(outputs: int) -> Loss:
    """The loss of a network with so many outputs, in nats, the mean of a batch.

    It takes logits (N, outputs) and labels (N,), int64.
    """
    return F.cross_entropy if outputs > 1 else binary_cross_entropy


def sequence_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−log softmax(z)_y, the mean over logits (N, T, C) and labels (N, T)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−y log σ(z) − (1 − y) log(1 − σ(z)), the mean over logits (N, 1) and labels (N,)."""
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype))


def predictions(logits: Tensor) -> Tensor:
    """The likeliest labels (…) of logits (…, outputs); of one logit, 1 where it is positive."""
    if logits.shape[-1] == 1:
        return (logits.squeeze(-1) > 0).long()
    return logits.argmax(-1)


def count_right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many labels (…) are the likeliest of logits (…, outputs)."""
    return (predictions(logits) == labels).sum()


# Labels at once: enough for fast products, and their activations stay in the cache.
CHUNK = 2048


@dataclass(frozen=True)
class Scores:
    """Mean loss, and the fraction of labels that were right; None where labels are no classes."""

    loss: float
    accuracy: float | None


@torch.no_grad()
def evaluate(
    network: nn.Module,
    X: Tensor,
    y: Tensor,
    loss: Loss,
    chunk: int = CHUNK,
    count: CountRight = count_right,
) -> Scores:
    """The scores of a network, in evaluation mode, on examples (N, …) and labels (N, …).

    Labels that are floating-point numbers, as those of a regression, have no accuracy.

    Args:
        chunk: labels at once, or steps of sequences (N, T, inputs); at least one example.
        count: how many labels of a batch are right.
    """
    if not len(X):
        raise ValueError("there are no examples to evaluate on: give at least one")
    steps = X.shape[1] if X.ndim == 3 else 1
    examples = max(1, chunk // max(steps, y[0].numel()))
    training = network.training
    network.eval()
    losses = torch.zeros((), dtype=torch.float64, device=X.device)
    right = torch.zeros((), dtype=torch.float64, device=X.device)
    classes = not y.is_floating_point()
    for x, labels in zip(X.split(examples), y.split(examples), strict=True):
        outputs = network(x)
        losses += labels.numel() * loss(outputs, labels)
        if classes:
            right += count(outputs, labels)
    network.train(training)
    return Scores(float(losses) / y.numel(), float(right) / y.numel() if classes else None)
