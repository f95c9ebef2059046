"""Whitened SVD: nearest in what a layer puts out, rather than in its weight."""

import torch
from torch import Tensor

from ._small import leading
from .base import Compressor


class Whitened(Compressor):
    """W_k = SVD_k(W C^½) C^−½, which minimises E‖(W − W_k) x‖² for C = E[x xᵀ].

    The left singular vectors of W C^½ are the eigenvectors of W C Wᵀ = E[(W x)(W x)ᵀ],
    and with the k leading ones as columns of U, W_k = U Uᵀ W. So no root of C is formed, nor
    an inverse: it may be singular. C is damped to C + λI with λ a fraction of its mean
    diagonal entry, so that directions in which no calibration row points don't count as free.

    Args:
        damping: that fraction.
    """

    title = "activation-whitened SVD"
    source = "Wang et al., SVD-LLM, 2024 (arXiv 2403.07378), damped"
    needs_inputs = True

    def __init__(self, damping: float = 0.01) -> None:
        if not (isinstance(damping, int | float) and damping >= 0):
            raise ValueError(f"damping is {damping!r}: give a number from 0 up")
        self.damping = damping

    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        assert inputs is not None
        outputs = (inputs @ W.T).double()
        weight = W.double()
        scale = self.damping * inputs.square().mean()
        gram = outputs.T @ outputs / len(inputs) + scale * (weight @ weight.T)
        U = leading(gram, k).to(W.dtype)
        return U, U.T @ W
