"""W X and log|det W| by LU."""

import torch
from torch import Tensor

from svdbench.algorithm import Flops, Problem

from ._flops import lu_determinant
from .base import Dense


class LogdetLU(Dense):
    """W X and torch.linalg.slogdet(W)."""

    operation = "logdet"
    scalar = True
    kind = "lu"
    builds = "matrix"
    gradients = "torch's, W⁻ᵀ by the LU factors of the forward pass"
    source = "torch.linalg.slogdet (LAPACK getrf)"

    def apply(self, W: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return W @ X, torch.linalg.slogdet(W).logabsdet

    def reference(self, W: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return W @ X, torch.linalg.qr(W).R.diagonal().abs().log().sum()

    def flops(self, problem: Problem) -> Flops:
        return lu_determinant(problem)
