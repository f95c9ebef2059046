"""PyTorch's randomised SVD, with as many probes as its default is used with."""

import torch
from torch import Tensor

from .base import TorchDriver


class TorchSVDLowrank(TorchDriver):
    """``torch.svd_lowrank(A, q=k)``: no probes beyond k.

    Args:
        niter: power iterations.
    """

    exact = False
    source = "Halko, Martinsson and Tropp, 2011, Algorithm 5.1; PyTorch's torch.svd_lowrank"

    def __init__(self, niter: int = 2) -> None:
        self.niter = niter

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        U, S, V = torch.svd_lowrank(A, q=k, niter=self.niter)
        return U, S, V.mT
