"""Truncated SVD: the k largest singular values and what belongs to them."""

import torch
from torch import Tensor

from svdbench.lowrank import truncated_svd

from ._small import is_small, leading, projected
from .base import Compressor


class TruncSVD(Compressor):
    """The nearest matrix of rank k, in the Frobenius and the spectral norm.

    Args:
        extra: singular values to keep beyond the rank that was asked for.
    """

    title = "truncated SVD"
    source = "Eckart and Young, The approximation of one matrix by another, Psychometrika 1936"

    def __init__(self, extra: int = 0) -> None:
        if not (isinstance(extra, int) and extra >= 0):
            raise ValueError(f"extra is {extra!r}: give a whole number from 0 up")
        self.extra = extra

    def kept(self, rank: int) -> int:
        return rank + self.extra

    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if is_small(W):
            return projected(W, lambda G: leading(G, k))
        U, S, Vh = truncated_svd(W, k)
        return U * S, Vh
