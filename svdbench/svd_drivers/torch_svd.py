"""LAPACK's, or the GPU's own, through PyTorch."""

import torch
from torch import Tensor

from .base import TorchDriver


class TorchSVD(TorchDriver):
    """``torch.linalg.svd`` of all, cut off at k."""

    exact = True
    source = "LAPACK gesdd; PyTorch's torch.linalg.svd"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        U, S, Vh = torch.linalg.svd(A, full_matrices=False)
        return U[:, :k], S[:k], Vh[:k]
