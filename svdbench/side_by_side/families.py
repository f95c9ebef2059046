"""Families of networks that differ in the widths of their hidden layers alone.

Multilayer networks; and convolutional ones for images, of four convolutions, pooling and one linear
layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor, nn

from svdbench.side_by_side.networks import (
    ACTIVATIONS,
    CountRight,
    Loss,
    count_right,
    loss_for,
    mlp,
)


class NetworkFamily(ABC):
    """A network of an experiment, and the narrower ones of the same kind.

    A network that is compressed must also be compared with a smaller dense one, which is the
    same kind of network with its hidden widths scaled.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """The network in a few characters, as rows and reports have it."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, in float32 on the CPU, with weights drawn from torch's generator."""

    @abstractmethod
    def scaled(self, share: float) -> "NetworkFamily":
        """The family with its hidden widths multiplied by ``share`` and rounded, at least 1 each.

        Inputs, outputs and the number of layers stay. Widths that must be multiples of something,
        such as a number of heads, are rounded to one.
        """

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """Of outputs and labels: the mean of a batch, in nats unless a task says otherwise."""

    @property
    def count_right(self) -> CountRight:
        """How many labels of a batch are right, for outputs and labels that are classes."""
        return count_right


@dataclass(frozen=True)
class MlpFamily(NetworkFamily):
    """Multilayer networks, see :func:`svdbench.side_by_side.networks.mlp`.

    Example:
        >>> MlpFamily((784, 512, 256, 10)).scaled(0.25).label
        '784-128-64-10'
    """

    sizes: Sequence[int]
    activation: str = "relu"

    @property
    def label(self) -> str:
        return "-".join(map(str, self.sizes))

    def build(self) -> nn.Module:
        return mlp(self.sizes, self.activation)

    def scaled(self, share: float) -> "MlpFamily":
        inputs, *hidden, outputs = self.sizes
        return replace(self, sizes=(inputs, *(scaled_width(n, share) for n in hidden), outputs))

    @property
    def loss(self) -> Loss:
        return loss_for(self.sizes[-1])


def scaled_width(width: int, share: float, multiple: int = 1) -> int:
    """``width`` times ``share``, to the nearest multiple, at least one of it.

    Raises:
        ValueError: the share is not above 0.
    """
    if not share > 0:
        raise ValueError(f"the share is {share}: give a number above 0")
    return max(1, round(width * share / multiple)) * multiple


CHANNELS = (32, 64, 128, 128)


class Images(nn.Module):
    """Flat images (N, d) as (N, channels, height, width).

    Args:
        shape: of an image: (height, width), or (height, width, channels).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        height, width, *channels = shape
        self.shape = (height, width, *(channels or (1,)))

    def forward(self, X: Tensor) -> Tensor:
        return X.view(len(X), *self.shape).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ConvFamily(NetworkFamily):
    """3×3 convolutions, each with an activation, and pooling of 2×2 after all but the last.

    The mean over the places that are left goes to one linear layer. A side of one place is
    pooled no more.

    Args:
        shape: of an image: (height, width), or (height, width, channels).
        classes: logits.
        channels: of each convolution.

    Example:
        >>> ConvFamily((28, 28), 10).scaled(0.25).label
        'conv-8-16-32-32'
    """

    shape: Sequence[int]
    classes: int
    channels: Sequence[int] = CHANNELS
    activation: str = "relu"

    @property
    def label(self) -> str:
        return "-".join(["conv", *map(str, self.channels)])

    def build(self) -> nn.Module:
        images = Images(self.shape)
        modules: list[nn.Module] = [images]
        height, width, colours = images.shape
        for number, (inputs, outputs) in enumerate(pairwise((colours, *self.channels)), 1):
            modules += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                ACTIVATIONS[self.activation](),
            ]
            if number < len(self.channels) and min(height, width) > 1:
                modules.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*modules, nn.Linear(self.channels[-1], self.classes))

    def scaled(self, share: float) -> "ConvFamily":
        return replace(self, channels=tuple(scaled_width(n, share) for n in self.channels))

    @property
    def loss(self) -> Loss:
        return loss_for(self.classes)
