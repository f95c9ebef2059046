"""All reflectors in one compact-WY block: no sequential step, n²d more work.

The fastest where n is small (Likhosherstov et al., "CWY Parametrization",
2021). See ``wy`` for the formulas and for more than one block.

Shapes: V (p, n, d), X and G (p, d, m).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .ut import half_triangle, ut_factors


class Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    T: Tensor  # (p, n, n)
    Z: Tensor  # (p, n, m) T B X
    scale: Tensor | None  # (p, n, 1) B is V divided by this


def forward(V: Tensor, X: Tensor, transpose: bool) -> tuple[Tensor, Saved]:
    """H(v₁)⋯H(vₙ) X, or its transpose applied."""
    B, T, scale = ut_factors(V)
    Z = torch.bmm(T.mT if transpose else T, torch.bmm(B, X))
    return torch.baddbmm(X, B.mT, Z, alpha=-1), Saved(T, Z, scale)


def backward(
    V: Tensor, X: Tensor, G: Tensor, saved: Saved, transpose: bool, need_V: bool, need_X: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients with respect to V and X, given the one at the output."""
    T, Z, scale = saved
    B = V if scale is None else V / scale
    W = torch.bmm(T if transpose else T.mT, torch.bmm(B, G))  # −dY
    dX = torch.baddbmm(G, B.mT, W, alpha=-1) if need_X else None
    if not need_V:
        return None, dX
    E = torch.bmm(W, Z.mT).mul_(half_triangle(B.shape[-2], transpose, B.dtype, B.device))
    dV = torch.bmm(E + E.mT, B)
    dV.baddbmm_(W, X.mT, alpha=-1)
    dV.baddbmm_(Z, G.mT, alpha=-1)
    return dV if scale is None else dV / scale, dX
