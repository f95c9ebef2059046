"""W⁻¹ X by solving against X alone."""

import torch
from torch import Tensor

from svdbench.algorithm import Flops, Problem

from ._flops import lu_solve
from ._plain import solve_by_qr
from .base import Dense


class InverseSolve(Dense):
    """torch.linalg.solve(W, X): the fair way, as the inverse itself is not needed."""

    operation = "inverse"
    kind = "lu"
    builds = "product"
    gradients = "torch's, by the LU factors of the forward pass"
    source = "torch.linalg.solve (LAPACK gesv)"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        return torch.linalg.solve(W, X)

    def reference(self, W: Tensor, X: Tensor) -> Tensor:
        return solve_by_qr(W, X)

    def flops(self, problem: Problem) -> Flops:
        return lu_solve(problem)
