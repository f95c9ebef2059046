"""Skew-symmetric matrices, and what their exponential and Cayley map cost."""

import math

import torch
from torch import Tensor

from .base import Flops, Method, Problem


def skew(V: Tensor) -> Tensor:
    """S = V − Vᵀ, shape (d, d)."""
    return V - V.mT


def scaled(V: Tensor) -> Tensor:
    """V (d, d) with rows of root-mean-square length 1, as the parameter of a skew map.

    A Gaussian V then gives angles up to 2√2, about the [−π, π] that these maps
    are initialised with, whatever d is. Reflectors of any length mean the same,
    so V may come much longer, which would cost the exponential more squarings.
    """
    return V * (math.sqrt(len(V)) / torch.linalg.vector_norm(V).clamp_min(1e-30))


def exp_series(S: Tensor) -> Tensor:
    """exp(S) by its Taylor series and repeated squaring, the plainest way.

    (An eigendecomposition would be plainer, but its gradient breaks down where
    eigenvalues meet.)
    """
    norm = torch.linalg.matrix_norm(S.detach(), 1).item()
    squarings = max(0, math.ceil(math.log2(max(norm, 0.5) / 0.5)))
    S = S / 2**squarings
    total = term = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    for i in range(1, 19):  # the rest is below ½¹⁹/19! ≈ 2e-23
        term = term @ S / i
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return total


def exp_flops(problem: Problem, entries: float) -> Flops:
    """torch.matrix_exp of a d × d skew matrix of a Gaussian parameter, scaled as above, then Q X.

    The 1-norm is the largest of d column sums: close to their mean plus √(2 ln d)
    standard deviations.

    Args:
        entries: variance of an entry of S, times d.
    """
    log_d = math.log(max(problem.d, 2))
    mean = math.sqrt(2 * entries * problem.d / math.pi)
    return matrix_exp_flops(problem, mean + math.sqrt(entries * (1 - 2 / math.pi) * 2 * log_d))


def matrix_exp_flops(problem: Problem, norm: float) -> Flops:
    """torch.matrix_exp of a d × d matrix S with that 1-norm, then exp(S) X.

    A polynomial of degree 18 takes 5 products (Bader, Blanes and Casas 2019),
    then s squarings bring back a matrix whose 1-norm was divided by 2ˢ to be
    within the polynomial's reach: (5 + s) 2d³. The gradient is the exponential of
    [[Sᵀ, GXᵀ], [0, Sᵀ]], of twice the size: (5 + s') 16d³, with s' > s squarings
    since GXᵀ is long. exp(S) X is 2d²m, and 4d²m backward.

    s and s' depend on the numbers; here X and G are unit Gaussian.
    """
    d, m = problem.d, problem.m
    log_d = math.log(max(d, 2))
    gradient_norm = norm + d * math.sqrt(2 / math.pi) * (math.sqrt(m) + math.sqrt(log_d))
    reach = 3.01 if problem.dtype == torch.float32 else 1.09

    def products(norm: float) -> int:
        return 5 + max(0, math.ceil(math.log2(norm / reach)))

    return Flops(
        forward=products(norm) * 2 * d**3 + 2 * d**2 * m,
        backward=products(gradient_norm) * 16 * d**3 + 4 * d**2 * m,
    )


def cayley_flops(problem: Problem) -> Flops:
    """Q = (I + S)⁻¹(I − S) by an LU factorisation, then Q X.

    2d³/3 to factorise, 2d³ for d right-hand sides, 2d²m for Q X. Backward: the
    factors serve again for 2d³, the gradient of I + S is 2d³, and 4d²m for Q X.
    """
    d, m = problem.d, problem.m
    return Flops(8 / 3 * d**3 + 2 * d**2 * m, 4 * d**3 + 4 * d**2 * m)


class ExpOfTriangle(Method):
    """Any algorithm for exp(A) X with A = tril(V) − tril(V)ᵀ, V (d, d)."""

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return exp_series(skew(V.tril())) @ X
