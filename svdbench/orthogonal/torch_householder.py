"""The torch-householder package: compiled loops over the reflectors."""

from typing import Any

from torch import Tensor

from ._rows import ReflectorRows
from ._skip import missing_peer, not_square
from .base import Flops, Problem


class TorchHouseholder(ReflectorRows):
    """Q = H(v₁)⋯H(v_d) by torch_householder_orgqr, then Q X; rows of V (d, d) as reflectors.

    With n < d reflectors the package gives the first n columns of Q only.
    """

    kind = "reflectors"
    builds = "Q"
    gradients = "its own, reflector by reflector"
    source = "Obukhov, Efficient Householder Transformation in PyTorch, 2021"

    def skip(self, problem: Problem) -> str | None:
        return missing_peer("torch_householder", "torch-householder") or not_square(
            problem, "torch_householder_orgqr"
        )

    def prepare(self, V: Tensor, X: Tensor) -> None:
        from torch_householder import torch_householder_orgqr

        self.orgqr: Any = torch_householder_orgqr

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        Q: Tensor = self.orgqr(V.T)
        return Q @ X

    def flops(self, problem: Problem) -> Flops:
        """4d³ for d reflectors on I and 2d²m for Q X; 12d³ and 4d²m backward."""
        d, m = problem.d, problem.m
        return Flops(4 * d**3 + 2 * d**2 * m, 12 * d**3 + 4 * d**2 * m)
