"""What a way to parametrise an orthogonal matrix has to say of itself.

Adding one is a file here with a subclass of :class:`Method` and a YAML of the
same name in ``conf/orthogonal``; nothing else is edited.
"""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from svdbench.measure.algorithm import Algorithm, Flops, Problem

__all__ = ["Flops", "Method", "Problem"]


class Method(Algorithm):
    """A differentiable map V ↦ φ(V) with orthogonal values, applied to X.

    See :class:`svdbench.measure.algorithm.Algorithm` for the class attributes; ``builds`` is
    ``"QX"`` when only the product is formed, ``"Q"`` when the whole orthogonal matrix is.
    """

    orthogonal: ClassVar[bool] = True

    def parameter(self, V: Tensor) -> Tensor:
        """The raw parameter of this map, made (untimed) from the cell's V (n, d)."""
        return V

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
