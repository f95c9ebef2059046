"""Compact WY in operations that autograd and torch.func differentiate themselves.

The plain sibling of ``wy``: every order of derivative, vmap, forward mode; at
the price of the memory and time that autograd takes.
"""

import math

import torch
from torch import Tensor

from .ut import half_triangle


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
    k = B.shape[-2]
    eye = torch.eye(k, dtype=B.dtype, device=B.device)
    S = (B @ B.mT) * half_triangle(k, False, B.dtype, B.device)
    # A zero row has a zero on the diagonal; any other number there lets it drop out.
    zero = (S.diagonal(dim1=-2, dim2=-1) == 0).to(B.dtype)
    return torch.linalg.solve_triangular(S + eye * zero.unsqueeze(-1), eye, upper=True)
