"""What the operations cost. Work of O(d²) and O(dm), such as scaling by Σ, is left out."""

import math

from svdbench.algorithm import Flops, Problem
from svdbench.orthogonal._skew import matrix_exp_flops


def lu_solve(problem: Problem) -> Flops:
    """A⁻¹ X against X alone, by LU.

    2d³/3 to factorise and 2d²m to solve; backward 2d²m to solve with the same factors,
    and 2d²m for the outer product that is dA.
    """
    d, m = problem.d, problem.m
    return Flops(2 / 3 * d**3 + 2 * d**2 * m, 4 * d**2 * m)


def lu_inverse(problem: Problem) -> Flops:
    """A⁻¹, 2d³, and A⁻¹ X; backward dA = −A⁻ᵀ (dA⁻¹) A⁻ᵀ is 4d³ beside the product's 4d²m."""
    d, m = problem.d, problem.m
    return Flops(2 * d**3 + 2 * d**2 * m, 4 * d**3 + 4 * d**2 * m)


def lu_determinant(problem: Problem) -> Flops:
    """W X and log|det W| by LU: 2d³/3 and 2d²m; backward A⁻ᵀ from its factors, 2d³, and 4d²m."""
    d, m = problem.d, problem.m
    return Flops(2 / 3 * d**3 + 2 * d**2 * m, 2 * d**3 + 4 * d**2 * m)


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
