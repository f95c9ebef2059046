"""Plain formulas that the gate compares with, and counts of operations."""

import math

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.algorithm import Flops, Problem
from svdbench.measure.costs import matrix_exp_flops, then_product


def through_factors(U: Tensor, f: Tensor, V: Tensor, X: Tensor) -> Tensor:
    """U diag(f) Vᵀ X reflector by reflector: U (n, d), f (d,), V (n, d), X (d, m)."""
    Z = apply_reflectors_reference(V, X, transpose=True)
    return apply_reflectors_reference(U, f.unsqueeze(-1) * Z)


def solve_by_qr(A: Tensor, X: Tensor) -> Tensor:
    """A⁻¹ X for A (d, d) and X (d, m), by QR where all that is timed goes by LU."""
    Q, R = torch.linalg.qr(A)
    return torch.linalg.solve_triangular(R, Q.mT @ X, upper=True)


def exp_by_series(W: Tensor, X: Tensor) -> Tensor:
    """e^W X = Σ Wʲ X / j! for W (d, d) and X (d, m).

    Sixty terms leave out less than 1e-21 of it while ‖W‖₂ ≤ 10.
    """
    total = term = X
    for j in range(1, 61):
        term = W @ term / j
        total = total + term
    return total


def lu_solve(problem: Problem) -> Flops:
    """A⁻¹ X against X alone, by LU.

    2d³/3 to factorise and 2d²m to solve; backward 2d²m to solve with the same factors,
    and 2d²m for the outer product that is dA.
    """
    return then_product(problem, 2 / 3 * problem.d**3, 0)


def lu_inverse(problem: Problem) -> Flops:
    """A⁻¹, 2d³, and A⁻¹ X; backward dA = −A⁻ᵀ (dA⁻¹) A⁻ᵀ is 4d³ beside the product's 4d²m."""
    return then_product(problem, 2 * problem.d**3, 4 * problem.d**3)


def lu_determinant(problem: Problem) -> Flops:
    """W X and log|det W| by LU: 2d³/3 and 2d²m; backward A⁻ᵀ from its factors, 2d³, and 4d²m."""
    return then_product(problem, 2 / 3 * problem.d**3, 2 * problem.d**3)


# Depend on the numbers: here on eigenvalues even in [½, 3/2], as the command has them.
_MEAN, _RADIUS = 1.0, 0.5


def exponential(problem: Problem) -> Flops:
    """torch.matrix_exp(W) X.

    U (Σ − I) Uᵀ has entries of standard deviation ½/√(3d), so a column of W sums up
    to about 1 + √(2d/π)/√12 in absolute value.
    """
    norm = _MEAN + _RADIUS * math.sqrt(2 * problem.d / (3 * math.pi))
    return matrix_exp_flops(problem, norm)


def exponential_series(problem: Problem, tolerance: float) -> Flops:
    """A product W X, 2d²m, for each term until one is below the tolerance; twice that backward."""
    terms, size = 0, 1.0
    while size > tolerance:
        terms += 1
        size *= _RADIUS / terms
    forward = terms * 2 * problem.d**2 * problem.m
    return Flops(forward, 2 * forward)
