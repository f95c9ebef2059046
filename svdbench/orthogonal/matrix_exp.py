"""The exponential of a skew-symmetric matrix."""

import torch
from torch import Tensor

from ._skew import exp_flops, exp_series, scaled, skew
from ._skip import half_precision, not_square
from .base import Flops, Method, Problem


class MatrixExp(Method):
    """exp(S) X with S = V − Vᵀ, V (d, d)."""

    kind = "exponential"
    builds = "Q"
    gradients = "torch's, by the exponential of a doubled matrix"
    source = "Lezcano-Casado and Martínez-Rubio, Cheap Orthogonal Constraints, ICML 2019"

    def skip(self, problem: Problem) -> str | None:
        # Seen in torch 2.13: it runs, but reads its coefficients as another dtype.
        return not_square(problem, "exp(V − Vᵀ)") or half_precision(
            problem, "torch.matrix_exp", "returns NaN"
        )

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return torch.matrix_exp(skew(V)) @ X

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return exp_series(skew(V)) @ X

    def flops(self, problem: Problem) -> Flops:
        return exp_flops(problem, entries=2)
