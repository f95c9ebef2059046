"""Householder products in operations that autograd and torch.func differentiate themselves.

``apply_reflectors_reference`` goes reflector by reflector, slow on purpose: everything else is
checked against it. ``apply_reflectors_plain`` is the plain sibling of ``wy``: every order of
derivative, vmap, forward mode and torch.compile, at the price of autograd's memory and time.
"""

import math

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


def apply_reflectors_plain(
    V: Tensor, X: Tensor, *, block_size: int | None = None, transpose: bool = False
) -> Tensor:
    """H(v₁)⋯H(vₙ) X in blocks of ``block_size``, by default about √n.

    Args:
        V: reflectors as rows, shape (..., n, d).
        X: shape (..., d, m); leading dimensions broadcast with those of V.
    """
    n = V.shape[-2]
    scale = V.detach().abs().amax(-1, keepdim=True)
    V = V / torch.where(scale == 0, torch.ones_like(scale), scale)
    blocks = V.split(block_size or max(1, math.isqrt(n)), -2)
    for B in blocks if transpose else reversed(blocks):
        T = _ut_factor(B)
        X = X - B.mT @ ((T.mT if transpose else T) @ (B @ X))
    return X


def _ut_factor(B: Tensor) -> Tensor:
    S = B @ B.mT
    diagonal = S.diagonal(dim1=-2, dim2=-1)
    # A zero row has a zero on the diagonal; any other number there lets it drop out.
    diagonal = torch.where(diagonal == 0, torch.ones_like(diagonal), diagonal / 2)
    eye = torch.eye(B.shape[-2], dtype=B.dtype, device=B.device)
    return torch.linalg.solve_triangular(S.triu(1) + torch.diag_embed(diagonal), eye, upper=True)
