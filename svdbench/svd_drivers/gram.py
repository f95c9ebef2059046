"""Ours by an eigenproblem of the shorter side."""

from torch import Tensor

from svdbench.lowrank import gram_svd

from .base import SVDDriver


class Gram(SVDDriver):
    """``svdbench.lowrank.gram_svd``."""

    exact = True
    ours = True
    source = "the eigenvectors of A Aᵀ, in float64"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        return gram_svd(A, k)
