"""The Cayley map of a skew-symmetric matrix, solved for the whole orthogonal matrix."""

import torch
from torch import Tensor

from ._skew import cayley_flops, skew
from .base import Flops, Problem
from .cayley import Cayley


class CayleyDense(Cayley):
    """Q = (I + S)⁻¹(I − S) with S = V − Vᵀ, then Q X: what FastH was compared with."""

    builds = "Q"

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        eye, S = torch.eye(V.shape[0], dtype=V.dtype, device=V.device), skew(V)
        return torch.linalg.solve(eye + S, eye - S) @ X

    def flops(self, problem: Problem) -> Flops:
        return cayley_flops(problem)
