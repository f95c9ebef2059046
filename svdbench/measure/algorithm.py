"""The interface of a timed algorithm.

To add one, define a subclass in a file of its group's package and add a YAML of the same name to
the group's folder in ``conf``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

Tensors = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Problem:
    """The size of one cell: n reflectors of length d as rows, and X (d, m).

    Example:
        >>> Problem(d=64, n=64, m=32).sizes()
        {'d': 64, 'n': 64, 'm': 32}
    """

    d: int
    n: int
    m: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def label(self) -> str:
        """The size in a few words."""
        return f"d = {self.d}"

    def sizes(self) -> dict[str, int]:
        """The size as columns of a row."""
        return {"d": self.d, "n": self.n, "m": self.m}


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one call, a multiply and an add counted as two.

    Example:
        >>> Flops(forward=2.0, backward=4.0).step
        6.0
    """

    forward: float
    backward: float

    @property
    def step(self) -> float:
        return self.forward + self.backward

    def of_pass(self, name: str) -> float:
        """The operations of ``fwd``, ``bwd`` or ``step``."""
        return {"fwd": self.forward, "bwd": self.backward, "step": self.step}[name]


class Algorithm(ABC):
    """One differentiable way to compute something from parameters and X (d, m).

    ``apply``, ``reference`` and ``prepare`` take the parameters and then X, each a tensor, under
    the names that the base class of a group defines.

    Class attributes:
        kind: the family; ``vs_best`` compares with the fastest of another kind.
        builds: the matrix that is formed.
        gradients: how gradients are computed, in a few words.
        source: where the algorithm comes from.
        operation: what is computed, in groups that compute several things.
        orthogonal: whether the output is X times an orthogonal matrix, so that
            inner products must be preserved and the floor is 12ndm operations.
        constants: which entries of the parameters are constants, in words; finite differences
            in them make no sense.

    Example:
        >>> class Twice(Algorithm):
        ...     kind, builds, gradients, source = "product", "2X", "autograd", "arithmetic"
        ...     apply = staticmethod(lambda X: 2 * X)
        ...     reference = staticmethod(lambda X: X + X)
        ...     flops = staticmethod(lambda size: Flops(size.d * size.m, size.d * size.m))
        >>> Twice().apply(torch.ones(2))
        tensor([2., 2.])
    """

    kind: ClassVar[str]
    builds: ClassVar[str]
    gradients: ClassVar[str]
    source: ClassVar[str]
    operation: ClassVar[str | None] = None
    orthogonal: ClassVar[bool] = False
    constants: ClassVar[str] = ""

    def skip(self, problem: Problem) -> str | None:
        """The reason why it does not run on ``problem``; None if it does."""
        return None

    def parameter(self, *given: Any, **_: Any) -> Tensors:
        """The parameters, a tensor or a tuple, made (untimed) from the tensors of the cell."""
        return given

    def block(self, problem: Problem) -> int | None:
        """Reflectors per block, for algorithms that work in blocks."""
        return None

    def prepare(self, *inputs: Any, **_: Any) -> None:
        """Untimed work before the first call, such as tuning or building a module."""
        return None

    @abstractmethod
    def apply(self, *inputs: Any, **_: Any) -> Tensors:
        """The value, a tensor or a tuple, differentiable in every input. This is timed."""

    @abstractmethod
    def reference(self, *inputs: Any, **_: Any) -> Tensors:
        """The same value by the simplest differentiable formula.

        The gate runs it in float64 and compares; it must not share code with
        :meth:`apply`.
        """

    @abstractmethod
    def flops(self, problem: Problem) -> Flops:
        """The operations of ``apply`` and its backward pass, counted from the algorithm."""

    def floor(self, problem: Problem) -> Flops | None:
        """The operations that times are compared with, the same for all in a cell; or None."""
        ndm = problem.n * problem.d * problem.m
        return Flops(4 * ndm, 8 * ndm) if self.orthogonal else None

    def family(self) -> tuple[Any, ...]:
        """A key shared by algorithms that compute the same function of the same parameters."""
        return type(self).reference, type(self).parameter

    def described(self, problem: Problem) -> dict[str, Any]:
        """Further columns of its row in the summary, in jobs whose table has them."""
        return {}
