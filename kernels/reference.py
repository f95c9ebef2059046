"""Householder products in operations that autograd and torch.func differentiate themselves.

``apply_reflectors_reference`` applies one reflector at a time; it is slow, and everything else is
checked against it. ``apply_reflectors_plain`` is ``wy`` under autograd: it supports derivatives of
any order, vmap, forward mode and torch.export, and takes autograd's memory and time.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

# Above this many numbers for the iterates of the loop (1 GiB in float64), autograd keeps one
# in √n of them and computes the others again.
LARGEST_GRAPH = 2**27


def reflect(v: Tensor, X: Tensor, tau: Tensor | None = None) -> Tensor:
    """H(v) X = X − 2 v (vᴴX) / ‖v‖², and X itself where v = 0; or X − τ v (vᴴX).

    Args:
        v: reflectors, shape (..., d).
        X: matrices, shape (..., d, m).
        tau: coefficients, shape (...).
    """
    if tau is None:
        # H(v) does not depend on the length of v: dividing by the largest entry
        # first keeps ‖v‖² from overflowing or vanishing.
        scale = v.detach().abs().amax(-1, keepdim=True)
        zero = scale == 0
        v = v / torch.where(zero, torch.ones_like(scale), scale)
        square = (v * v.conj()).real.sum(-1, keepdim=True)
        tau = torch.where(zero, torch.zeros_like(square), 2 / torch.where(zero, 1.0, square))
    else:
        tau = tau.unsqueeze(-1)
    return X - (tau * v).unsqueeze(-1) * (v.conj().unsqueeze(-2) @ X)


def apply_reflectors_reference(
    V: Tensor, X: Tensor, tau: Tensor | None = None, *, transpose: bool = False
) -> Tensor:
    """H(v₁) H(v₂) ⋯ H(vₙ) X, one reflector at a time.

    Args:
        V: reflectors as rows, shape (..., n, d).
        X: shape (..., d, m).
        tau: coefficients, shape (..., n); by default 2/‖v‖².
        transpose: apply the conjugate transpose H(vₙ)ᴴ ⋯ H(v₁)ᴴ X instead.

    Returns:
        The product, shape of X (broadcast over the leading dimensions).

    Example:
        >>> V, X = torch.randn(4, 8), torch.randn(8, 3)
        >>> bool(torch.dist(apply_reflectors_reference(V, X), apply_reflectors(V, X)) < 1e-4)
        True
    """
    taus = [None] * V.shape[-2] if tau is None else (tau.conj() if transpose else tau).unbind(-1)
    steps = list(zip(V.unbind(-2), taus, strict=True))
    if not transpose:
        steps.reverse()
    if not torch.is_grad_enabled() or len(steps) * X.numel() <= LARGEST_GRAPH:
        return _reflect_all(steps, X)
    k = math.isqrt(len(steps))
    for first in range(0, len(steps), k):
        X = checkpoint(_reflect_all, steps[first : first + k], X, use_reentrant=False)
    return X


def _reflect_all(steps: Sequence[tuple[Tensor, Tensor | None]], X: Tensor) -> Tensor:
    for v, coefficient in steps:
        X = reflect(v, X, coefficient)
    return X


def apply_reflectors_plain(
    V: Tensor,
    X: Tensor,
    tau: Tensor | None = None,
    *,
    block_size: int | None = None,
    transpose: bool = False,
    by_products: bool = False,
) -> Tensor:
    """H(v₁)⋯H(vₙ) X in blocks of ``block_size``, by default about √n.

    Args:
        V: reflectors as rows, shape (..., n, d).
        X: shape (..., d, m); leading dimensions broadcast with those of V.
        tau: coefficients, shape (..., n); by default 2/‖v‖².
        by_products: use matrix products alone, no substitution, which ONNX does not have.
    """
    k = block_size or max(1, math.isqrt(V.shape[-2]))
    if tau is None:
        scale = V.detach().abs().amax(-1, keepdim=True)
        V = V / torch.where(scale == 0, torch.ones_like(scale), scale)
    blocks = V.split(k, -2)
    taus = [None] * len(blocks) if tau is None else tau.split(k, -1)
    steps = list(zip(blocks, taus, strict=True))
    for B, coefficients in steps if transpose else reversed(steps):
        C = B.conj()
        T = _ut_factor(C, coefficients, by_products)
        X = X - B.mT @ ((T.mH if transpose else T) @ (C @ X))
    return X


def _ut_factor(C: Tensor, tau: Tensor | None, by_products: bool) -> Tensor:
    """T = (I + diag(τ) striu(CCᴴ))⁻¹ diag(τ) of a block C (..., k, d)."""
    S = C @ C.mH
    if tau is None:
        diagonal = S.diagonal(dim1=-2, dim2=-1)
        # A zero row has a zero on the diagonal; any other number there lets it drop out.
        tau = 2 / torch.where(diagonal == 0, torch.ones_like(diagonal), diagonal)
    M = tau.unsqueeze(-1) * S.triu(1)
    if by_products:
        return _unit_inverse(M) * tau.unsqueeze(-2)
    eye = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    return torch.linalg.solve_triangular(M + eye, torch.diag_embed(tau), upper=True)


def _unit_inverse(N: Tensor) -> Tensor:
    """(I + N)⁻¹ for N strictly upper triangular, by halves, as stable as substitution.

    The inverse of [[A, B], [0, D]] is [[A⁻¹, −A⁻¹BD⁻¹], [0, D⁻¹]]; Higham, *Accuracy and
    Stability*, 2nd ed., §14.2.
    """
    k = N.shape[-1]
    if k == 1:
        return torch.ones_like(N)
    half = k // 2
    A, D = _unit_inverse(N[..., :half, :half]), _unit_inverse(N[..., half:, half:])
    corner = -A @ N[..., :half, half:] @ D
    return torch.cat([torch.cat([A, corner], -1), pad(D, (half, 0))], -2)
