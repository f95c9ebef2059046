"""The Cayley map by solving against X alone."""

import torch
from torch import Tensor

from svdbench.algorithm import Flops, Problem

from ._flops import lu_solve
from ._plain import solve_by_qr
from .base import Dense


class CayleySolve(Dense):
    """(I − W)(I + W)⁻¹ X as 2(I + W)⁻¹X − X, which spares the product W X and its gradient."""

    operation = "cayley"
    symmetric = True
    kind = "lu"
    builds = "product"
    gradients = "torch's, by the LU factors of the forward pass"
    source = "torch.linalg.solve (LAPACK gesv)"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
        return 2 * torch.linalg.solve(eye + W, X) - X

    def reference(self, W: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
        return solve_by_qr(eye + W, (eye - W) @ X)

    def flops(self, problem: Problem) -> Flops:
        return lu_solve(problem)
