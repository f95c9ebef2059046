"""Reflectors as LAPACK keeps them: unit lower trapezoidal columns, and factors τ."""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference

from .base import Flops, Method, Problem


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
    d, m = problem.d, problem.m
    return Flops(
        forward=4 / 3 * d**3 + 2 * d**2 * m,
        backward=4 * d**2 * m + 2 * d**3 + sweep_flops(problem),
    )


class Trapezoidal(Method):
    """Any algorithm for the product of LAPACK's reflectors, the rows above V's diagonal."""

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors_reference(rows(V), X)
