"""A layer's weight as components in the order in which a loss can do without them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from svdbench.lowrank.drivers.base import SVD
from svdbench.lowrank.layers.factor import Weight
from svdbench.lowrank.reveal.statistics import Moments


@dataclass(frozen=True)
class Spectrum:
    """W = Σ lᵢ rᵢᵀ, where leaving out the components from k on costs ½ Σ_{i≥k} σᵢ².

    Attributes:
        weight: which, with its size (m, n).
        energies: σᵢ² (r,), float64, descending.
        left, right: the components as columns (m, r) and rows (r, n), each pair of them of
            one length.
        mean: E[x] (n,) where the bias takes over what the layer's mean input loses.
    """

    weight: Weight
    energies: Tensor
    left: Tensor
    right: Tensor
    mean: Tensor | None

    def driver(self, A: Tensor, k: int) -> SVD:
        """The k leading components in the place of an SVD of the weight."""
        return SVD(self.left[:, :k], A.new_ones(k), self.right[:k])

    def bias_shift(self, W: Tensor, k: int) -> Tensor | None:
        """(W − W_k) E[x] (m,), to be added to the bias; None where the bias stays."""
        if self.mean is None:
            return None
        return W @ self.mean - self.left[:, :k] @ (self.right[:k] @ self.mean)


def spectrum(
    weight: Weight, W: Tensor, moments: Moments | None, *, damping: float, recentre: bool
) -> Spectrum:
    """The components of W (m, n) by the SVD of G^½ W C^½.

    W_k = G^−½ SVD_k(G^½ W C^½) C^−½ minimises tr((W − W_k)ᵀ G (W − W_k) C) among those of
    rank k. Its left vectors U are eigenvectors of LᵀW C WᵀL for G = L Lᵀ, and W_k = L^−ᵀ U_k
    U_kᵀ LᵀW: of the two roots only that of the shorter side is formed, by Cholesky, and
    no component that is kept suffers from squaring.

    Args:
        moments: C, and G or the identity for None; None for both.
        damping: what is added to the diagonals of C and of G, as a fraction of their means,
            so that directions which no calibration row has do not count as free.
        recentre: the bias makes up for (W − W_k) E[x], so that C is the covariance.

    Sources: Wang et al., "SVD-LLM", 2024 (arXiv 2403.07378), for G = I; the same with
    Kronecker-factored curvature (Martens and Grosse 2015) for the loss.
    """
    A = W.detach().double()
    C = G = None
    if moments is not None:
        C = moments.C - torch.outer(moments.mean, moments.mean) if recentre else moments.C
        C = _damped(C, damping)
        G = None if moments.G is None else _damped(moments.G, damping)
    tall = A.shape[0] > A.shape[1]
    energies, left, right = _components(A.mT, G, C) if tall else _components(A, C, G)
    if tall:
        left, right = right.mT, left.mT
    # Equally long, as a factored layer learns best.
    ratio = (right.norm(dim=1) / left.norm(dim=0).clamp(min=1e-300)).clamp(min=1e-300).sqrt()
    mean = moments.mean.to(W.dtype) if moments is not None and recentre else None
    return Spectrum(
        weight,
        energies,
        (left * ratio).to(W.dtype),
        (right / ratio.unsqueeze(1)).to(W.dtype),
        mean,
    )


def _components(A: Tensor, C: Tensor | None, G: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """σ² (m,), left (m, m) and right (m, n) for A (m, n), m ≤ n, whose rows G weighs."""
    L = None if G is None else torch.linalg.cholesky(G)
    B = A if L is None else L.mT @ A
    values, U = torch.linalg.eigh(B @ B.mT if C is None else B @ C @ B.mT)
    values, U = values.flip(0).clamp(min=0), U.flip(1)
    left = U if L is None else torch.linalg.solve_triangular(L.mT, U, upper=True)
    return values, left, U.mT @ B


def _damped(A: Tensor, damping: float) -> Tensor:
    scale = A.diagonal().mean().clamp(min=1e-30)  # of a layer that sees or does nothing
    return A + damping * scale * torch.eye(len(A), dtype=A.dtype, device=A.device)
