"""What a way to parametrise an orthogonal matrix has to say of itself.

Adding one is a file here with a subclass of :class:`Method` and a YAML of the
same name in ``conf/orthogonal``; nothing else is edited.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """The size of one cell: φ(V)·X with V (n, d) and X (d, m)."""

    d: int
    n: int
    m: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one call, a multiply and an add counted as two."""

    forward: float
    backward: float

    @property
    def step(self) -> float:
        return self.forward + self.backward


class Method(ABC):
    """A differentiable map V ↦ φ(V) with orthogonal values, applied to X.

    Class attributes:
        kind: the family; ``vs_best`` compares a method with the fastest one of
            another kind.
        builds: ``"QX"`` when only the product is formed, ``"Q"`` when the whole
            orthogonal matrix is.
        gradients: how they are had, in a few words.
        source: where the algorithm comes from.
    """

    kind: ClassVar[str]
    builds: ClassVar[str]
    gradients: ClassVar[str]
    source: ClassVar[str]

    def skip(self, problem: Problem) -> str | None:
        """Why this method does not run on ``problem``, or None if it does."""
        return None

    def parameter(self, V: Tensor) -> Tensor:
        """The raw parameter of this map, made (untimed) from the cell's V (n, d)."""
        return V

    def block(self, problem: Problem) -> int | None:
        """Reflectors to a block, for methods that work in blocks."""
        return None

    def prepare(self, V: Tensor, X: Tensor) -> None:
        """Untimed work before the first call, such as tuning or building a module."""
        return None

    @abstractmethod
    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        """φ(V) X, shape (d, m), differentiable in both. This is what is timed."""

    @abstractmethod
    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        """The same φ(V) X by the plainest differentiable formula there is.

        The gate runs it in float64 and compares; it must not share code with
        :meth:`apply`.
        """

    @abstractmethod
    def flops(self, problem: Problem) -> Flops:
        """The operations that ``apply`` and its backward pass need, by count of the algorithm."""
