"""Products of reflectors by LAPACK, and by torch-householder."""

from typing import Any

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.costs import half_precision, missing_peer, not_square, then_product

from .base import Flops, Method, Problem
from .reflectors import ReflectorRows


def columns(V: Tensor) -> tuple[Tensor, Tensor]:
    """The reflectors below a diagonal of ones, and τ = 2/‖·‖², both differentiable in V.

    Args:
        V: shape (n, d), n ≤ d. Only what is right of the diagonal is read.

    Returns:
        A (d, n), lower triangular with a diagonal of zeros (LAPACK takes the ones
        for granted), and τ (n,).
    """
    A = V.T.tril(-1)
    return A, 2 / (1 + (A * A).sum(0))


def rows(V: Tensor) -> Tensor:
    """The same reflectors with their ones, as rows: shape (n, d)."""
    return V.triu(1) + torch.eye(*V.shape, dtype=V.dtype, device=V.device)


def sweep_flops(problem: Problem) -> float:
    """The loop over reflectors in the backward pass of torch's householder_product and ormqr.

    Six products or rank-one updates of 2dl each on a d × d matrix for the
    reflector of length l = d, d − 1, …, d − n + 1.
    """
    n, d = problem.n, problem.d
    return 12 * d * (n * d - n**2 / 2)


def product_flops(problem: Problem) -> Flops:
    """torch.linalg.householder_product of d reflectors, then Q X.

    4d³/3 and 2d²m. Backward 4d²m for Q X, 2d³ for Q Gᵀ, and the loop: 6d³.
    """
    cube = problem.d**3
    return then_product(problem, 4 / 3 * cube, 2 * cube + sweep_flops(problem))


class Trapezoidal(Method):
    """Any algorithm for the product of LAPACK's reflectors, the rows above V's diagonal."""

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors_reference(rows(V), X)


class Ormqr(Trapezoidal):
    """H(a₁)⋯H(aₙ) X without forming Q; aᵢ is row i of V (n, d) right of a diagonal of ones."""

    name = "ormqr"
    kind, builds = "reflectors", "QX"
    gradients = "torch's, reflector by reflector, on a d × d matrix"
    source = "torch.ormqr (LAPACK ormqr)"

    def skip(self, problem: Problem) -> str | None:
        if problem.n > problem.d:
            return f"LAPACK keeps at most d reflectors: n = {problem.n} > d = {problem.d}"
        return half_precision(problem, "torch.ormqr")

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return torch.ormqr(*columns(V), X)

    def flops(self, problem: Problem) -> Flops:
        """2mn(2d − n), since reflector i has length d − i + 1. Backward as much for dX,
        2d²m for the d × d matrix Q X Gᵀ, and torch's loop over it."""
        n, d, m = problem.n, problem.d, problem.m
        product = 2 * m * n * (2 * d - n)
        return Flops(product, product + 2 * d**2 * m + sweep_flops(problem))


class HouseholderProduct(Trapezoidal):
    """Q = H(a₁)⋯H(a_d), then Q X; aᵢ is row i of V (d, d) right of a diagonal of ones.

    With n < d reflectors torch gives the first n columns of Q only.
    """

    name = "householder_product"
    kind, builds = "reflectors", "Q"
    gradients = "torch's, reflector by reflector"
    source = "torch.linalg.householder_product (LAPACK orgqr)"

    def skip(self, problem: Problem) -> str | None:
        what = "torch.linalg.householder_product"
        return not_square(problem, what) or half_precision(problem, what)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return torch.linalg.householder_product(*columns(V)) @ X

    def flops(self, problem: Problem) -> Flops:
        return product_flops(problem)


class TorchHouseholder(ReflectorRows):
    """Q = H(v₁)⋯H(v_d) by torch_householder_orgqr, then Q X; rows of V (d, d) as reflectors.

    With n < d reflectors the package gives the first n columns of Q only.
    """

    name = "torch_householder"
    kind, builds = "reflectors", "Q"
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
        return then_product(problem, 4 * problem.d**3, 12 * problem.d**3)
