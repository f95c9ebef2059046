"""Families of networks that differ in the widths of their hidden layers alone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from svdbench.side_by_side.networks import Loss, loss_for, mlp


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
        """Of outputs and labels: the mean of a batch, in nats."""


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
