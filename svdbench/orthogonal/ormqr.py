"""torch.ormqr: LAPACK's product of reflectors with a matrix."""

import torch
from torch import Tensor

from ._lapack import Trapezoidal, columns, sweep_flops
from ._skip import half_precision
from .base import Flops, Problem


class Ormqr(Trapezoidal):
    """H(a₁)⋯H(aₙ) X without forming Q; aᵢ is row i of V (n, d) right of a diagonal of ones."""

    kind = "reflectors"
    builds = "QX"
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
