"""Householder products reflector by reflector: what everything else is checked against.

Plain differentiable torch operations in whatever dtype comes in; slow on purpose.
"""

import torch
from torch import Tensor


def reflect(v: Tensor, X: Tensor) -> Tensor:
    """H(v) X = X − 2 v (vᵀX) / ‖v‖², and X itself where v = 0.

    Args:
        v: reflectors, shape (..., d).
        X: matrices, shape (..., d, m).
    """
    # H(v) does not depend on the length of v: dividing by the largest entry
    # first keeps ‖v‖² from overflowing or vanishing.
    scale = v.detach().abs().amax(-1, keepdim=True)
    zero = scale == 0
    v = v / torch.where(zero, torch.ones_like(scale), scale)
    square = (v * v).sum(-1, keepdim=True)
    tau = torch.where(zero, torch.zeros_like(square), 2 / torch.where(zero, 1.0, square))
    return X - (tau * v).unsqueeze(-1) * (v.unsqueeze(-2) @ X)


def apply_reflectors_reference(V: Tensor, X: Tensor, *, transpose: bool = False) -> Tensor:
    """H(v₁) H(v₂) ⋯ H(vₙ) X, one reflector at a time.

    Args:
        V: reflectors as rows, shape (..., n, d).
        X: shape (..., d, m).
        transpose: apply the transpose H(vₙ) ⋯ H(v₁) X instead.

    Returns:
        The product, shape of X (broadcast over the leading dimensions).
    """
    rows = V.unbind(-2)
    for v in rows if transpose else reversed(rows):
        X = reflect(v, X)
    return X
