"""Networks of linear layers, written as the sizes of their layers: 784-15-15-10."""

import re
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from svdbench.registry import refuse_unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def parse_net(text: str) -> list[int]:
    """The sizes in ``"784-15-15-10"``: inputs, hidden units of each layer, outputs.

    Raises:
        ValueError: fewer than two sizes, or one that is no whole number above 0.
    """
    parts = text.split("-")
    if len(parts) < 2 or not all(re.fullmatch(r"[1-9][0-9]*", part) for part in parts):
        raise ValueError(
            f"the network is {text!r}: give the sizes of its layers, from 1 up, "
            "with '-' between, as in 784-15-15-10"
        )
    return [int(part) for part in parts]


def mlp(sizes: Sequence[int], activation: str = "relu") -> nn.Sequential:
    """Linear layers with an activation between them, none after the last.

    Initialised as torch does: U(−1/√n, 1/√n) for a layer with n inputs.

    Args:
        sizes: inputs, hidden units of each layer, outputs. One output is the logit of
            the second of two classes.
        activation: relu, sigmoid or tanh.

    Raises:
        ValueError: fewer than two sizes, one below 1, or an unknown activation.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"the sizes are {list(sizes)}: give at least two, inputs and outputs, from 1 up"
        )
    refuse_unknown("activation", [activation], sorted(ACTIVATIONS))
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


def check_sizes(sizes: Sequence[int], features: int, classes: int, name: str) -> None:
    """Refuse a network that does not fit a data set.

    Args:
        sizes: of the network.
        features: values of an example.
        classes: labels that there are; for two of them one output will do.
        name: of the data set.

    Raises:
        ValueError: other inputs or outputs than the data set needs.
    """
    fitting = f"{features}-…-{classes}" + (f" or {features}-…-1" if classes == 2 else "")
    if sizes[0] != features:
        raise ValueError(
            f"the network has {sizes[0]} inputs, and an example of {name} has {features} values: "
            f"give a net like {fitting}"
        )
    if sizes[-1] != classes and not (classes == 2 and sizes[-1] == 1):
        raise ValueError(
            f"the network has {sizes[-1]} outputs, and {name} has {classes} classes: "
            f"give a net like {fitting}"
        )


def linear_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a network by name, in order."""
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}
