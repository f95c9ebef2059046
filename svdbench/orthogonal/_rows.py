"""Rows of V as reflectors: their plain product, and their unit lengths."""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference

from .base import Method


class ReflectorRows(Method):
    """Any algorithm for H(v₁)⋯H(vₙ) X with the rows of V (n, d) as reflectors."""

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors_reference(V, X)


def unit_rows(V: Tensor) -> tuple[Tensor, Tensor]:
    """Every row over its length, and the lengths; a zero row stays and counts as length 1.

    Args:
        V: reflectors as rows, shape (n, d).

    Returns:
        U (n, d), differentiable, and the lengths (n, 1).
    """
    # The square of a row's length may overflow or vanish, that of a row with
    # largest entry 1 may not. What is computed from U does not depend on the
    # rows' lengths, so the scale needs no gradient.
    scale = V.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    V = V / scale
    length = torch.linalg.vector_norm(V, dim=-1, keepdim=True)
    length = torch.where(length == 0, torch.ones_like(length), length)
    return V / length, scale * length.detach()
