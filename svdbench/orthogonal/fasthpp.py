"""FastH++: blocks of reflectors made by merging neighbours, pair by pair."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._rows import ReflectorRows, unit_rows
from .base import Flops, Problem


class FastHPP(ReflectorRows):
    """H(v₁)⋯H(vₙ) X with blocks I + WᵀY, merged until they hold ``block_size`` reflectors.

    One reflector is W = −2u, Y = u. Two neighbours are one block again:
    (I + W₁ᵀY₁)(I + W₂ᵀY₂) = I + [W₁; W₂ + (W₂Y₁ᵀ)W₁]ᵀ [Y₁; Y₂].
    All pairs of a level merge at once; the blocks are then applied one by one.
    Out of place, unlike the published code, so that autograd differentiates it.

    Args:
        block_size: where to stop merging, a power of two; 16 as published.
    """

    kind = "householder"
    builds = "QX"
    gradients = "autograd"
    source = "FastH++, github.com/alexandermath/fasth (fasthpp.py)"

    def __init__(self, block_size: int = 16) -> None:
        if block_size < 1 or block_size & (block_size - 1):
            raise ValueError(f"fasthpp merges pairs: block_size must be 2ⁱ, not {block_size}")
        self.block_size = block_size

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        U = pad(unit_rows(V)[0], (0, 0, 0, -len(V) % self.block_size))  # zero rows are I
        Y = U.unsqueeze(1)  # (blocks, reflectors, d)
        W = -2 * Y
        while Y.shape[1] < self.block_size:
            W1, W2 = W.unflatten(0, (-1, 2)).unbind(1)
            Y1 = Y[::2]
            W = torch.cat([W1, torch.baddbmm(W2, W2 @ Y1.mT, W1)], 1)
            Y = Y.reshape(-1, 2 * Y.shape[1], Y.shape[2])
        for w, y in zip(reversed(W.unbind()), reversed(Y.unbind()), strict=True):
            X = torch.addmm(X, w.T, y @ X)
        return X

    def block(self, problem: Problem) -> int:
        return self.block_size

    def flops(self, problem: Problem) -> Flops:
        """4ndm to apply; a merge to k reflectors is k²d, all levels 2nd(k − 1); backward twice."""
        n, d, m, k = problem.n, problem.d, problem.m, self.block_size
        n += -n % k
        forward = 4 * n * d * m + 2 * n * d * (k - 1)
        return Flops(forward, 2 * forward)
