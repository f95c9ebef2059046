"""The Cayley map of a skew-symmetric matrix, solved for the product only."""

import torch
from torch import Tensor

from ._skew import scaled, skew
from ._skip import half_precision, not_square
from .base import Flops, Method, Problem


class Cayley(Method):
    """(I + S)⁻¹(I − S) X with S = V − Vᵀ, V (d, d), as 2(I + S)⁻¹X − X.

    The two are equal since I − S = 2I − (I + S); the second spares the product
    S X and its gradient, and never forms the orthogonal matrix.
    """

    kind = "cayley"
    builds = "QX"
    gradients = "torch's, by the LU factors of the forward pass"
    source = "Helfrich, Willmott and Ye, Orthogonal RNNs with Scaled Cayley Transform, ICML 2018"

    def skip(self, problem: Problem) -> str | None:
        return not_square(problem, "the Cayley map of V − Vᵀ") or half_precision(
            problem, "torch.linalg.solve"
        )

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(V.shape[0], dtype=V.dtype, device=V.device)
        return 2 * torch.linalg.solve(eye + skew(V), X) - X

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        eye, S = torch.eye(V.shape[0], dtype=V.dtype, device=V.device), skew(V)
        return torch.linalg.inv(eye + S) @ (eye - S) @ X

    def flops(self, problem: Problem) -> Flops:
        """2d³/3 to factorise and 2d²m to solve; 2d²m to solve and 2d²m for dS backward."""
        d, m = problem.d, problem.m
        return Flops(2 / 3 * d**3 + 2 * d**2 * m, 4 * d**2 * m)
