"""The interface of a parametrisation of orthogonal matrices.

To add one, define a subclass of :class:`Method` in a file here and add a YAML of the same name to
``conf/orthogonal``.
"""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from svdbench.measure.algorithm import Algorithm, Flops, Problem

__all__ = ["Flops", "Method", "Problem"]


class Method(Algorithm):
    """A differentiable map V ↦ φ(V) with orthogonal values, applied to X.

    Define ``apply`` and ``reference``, which take V (n, d) and X (d, m) and return φ(V) X (d, m),
    and ``flops``. ``skip`` refuses problems that the method cannot solve; ``parameter`` makes a
    parameter of another shape from V; ``prepare`` does untimed work before the first call.

    Class attributes:
        kind: the family, such as ``"cayley"``; tables compare with the fastest of another kind.
        builds: ``"QX"`` when only the product is formed, ``"Q"`` when the whole matrix is.
        gradients: how gradients are computed, in a few words.
        source: where the algorithm comes from.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import Flops, Method

            class MyCayley(Method):
                kind, builds, gradients, source = "cayley", "QX", "autograd", "Cayley 1846"

                def skip(self, problem):
                    square = problem.n == problem.d and problem.dtype.itemsize >= 4
                    return None if square else "it needs n = d, in float32 or float64"

                def apply(self, V, X):
                    A, eye = V.triu(1) - V.triu(1).T, torch.eye(len(V), dtype=V.dtype)
                    return torch.linalg.solve(eye + A, X - A @ X)

                def reference(self, V, X):
                    A, eye = V.triu(1) - V.triu(1).T, torch.eye(len(V), dtype=V.dtype)
                    return torch.linalg.inv(eye + A) @ (eye - A) @ X

                def flops(self, problem):
                    forward = 2 / 3 * problem.d**3 + 4 * problem.d**2 * problem.m
                    return Flops(forward, 2 * forward)
    """

    orthogonal: ClassVar[bool] = True

    def parameter(self, V: Tensor) -> Tensor:
        """The parameter of this map, made (untimed) from V (n, d)."""
        return V

    def prepare(self, V: Tensor, X: Tensor) -> None:
        """Untimed work before the first call, such as tuning or building a module."""
        return None

    @abstractmethod
    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        """φ(V) X, shape (d, m), differentiable in both. This is what is timed."""

    @abstractmethod
    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        """The same φ(V) X by the simplest differentiable formula.

        The gate runs it in float64 and compares; it must not share code with
        :meth:`apply`.
        """
