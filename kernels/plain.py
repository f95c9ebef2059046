"""Compact WY in operations that autograd and torch.func differentiate themselves.

The plain sibling of ``wy``: every order of derivative, vmap, forward mode and
torch.compile; at the price of the memory and time that autograd takes.
"""

import math

import torch
from torch import Tensor


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
