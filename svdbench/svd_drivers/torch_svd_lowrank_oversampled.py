"""PyTorch's randomised SVD with probes to spare, as its users should call it."""

import torch
from torch import Tensor

from svdbench.lowrank.drivers.randomized import default_oversampling

from .torch_svd_lowrank import TorchSVDLowrank


class TorchSVDLowrankOversampled(TorchSVDLowrank):
    """``torch.svd_lowrank(A, q=k + p)`` with our p, cut off at k."""

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        q = min(k + default_oversampling(k), *A.shape)
        U, S, V = torch.svd_lowrank(A, q=q, niter=self.niter)
        return U[:, :k], S[:k], V.mT[:k]
