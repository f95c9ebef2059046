"""W⁻¹ X by forming the inverse."""

import torch
from torch import Tensor

from svdbench.algorithm import Flops, Problem

from ._flops import lu_inverse
from .inverse_solve import InverseSolve


class InverseInv(InverseSolve):
    """torch.linalg.inv(W) X: what the paper compares with, for layers that keep the inverse."""

    builds = "matrix"
    gradients = "torch's, two products with the inverse"
    source = "torch.linalg.inv (LAPACK getrf, getri)"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        return torch.linalg.inv(W) @ X

    def flops(self, problem: Problem) -> Flops:
        return lu_inverse(problem)
