"""PyTorch's randomised SVD with probes to spare, as its users should call it."""

import torch
from torch import Tensor

from svdbench.lowrank.randomized import default_oversampling

from .base import TorchDriver


class TorchSVDLowrankOversampled(TorchDriver):
    """``torch.svd_lowrank(A, q=k + p)`` with our p, cut off at k.

    Args:
        niter: power iterations.
    """

    exact = False
    source = "Halko, Martinsson and Tropp, 2011, Algorithm 5.1; PyTorch's torch.svd_lowrank"

    def __init__(self, niter: int = 2) -> None:
        self.niter = niter

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        q = min(k + default_oversampling(k), *A.shape)
        U, S, V = torch.svd_lowrank(A, q=q, niter=self.niter)
        return U[:, :k], S[:k], V.mT[:k]
