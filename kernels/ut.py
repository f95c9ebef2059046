"""The UT transform: H₁⋯H_k = I − Bᵀ T B with T⁻¹ = striu(BBᵀ) + ½ diag(BBᵀ).

Joffrion, Low, Quintana-Ortí, Robert and van de Geijn, "Accumulating Householder
transformations, revisited", ACM TOMS 32(2), 2006. The triangle is inverted by
substitution, which is as stable as the reflectors themselves; powers of its
nilpotent part would not be.
"""

from functools import lru_cache

import torch
from torch import Tensor

from .triton_support import current, triton_runs_on

# 2/‖b‖² outside these bounds: bring the rows to unit size before anything overflows.
_SAFE = (1e-24, 1e24)


@lru_cache(maxsize=64)
def _eye(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        return torch.eye(k, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def half_triangle(k: int, lower: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Ones on one side of the diagonal, halves on it, shape (k, k)."""
    with torch.inference_mode(False):
        ones = torch.ones(k, k, dtype=dtype, device=device)
        return (ones.tril() if lower else ones.triu()) - 0.5 * _eye(k, dtype, device)


def _triangle(B: Tensor) -> Tensor:
    """T⁻¹ in the upper triangle; the lower one is never read."""
    S = torch.bmm(B, B.mT)
    S.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    return S


def _invert(S: Tensor) -> Tensor:
    identity = _eye(S.shape[-1], S.dtype, S.device).expand_as(S)
    # From the right: for row-major matrices LAPACK then needs no transposed copies.
    return torch.linalg.solve_triangular(S, identity, upper=True, left=False)


def ut_factors(B: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The factors of a batch of blocks, and the blocks they belong to.

    Args:
        B: reflectors as rows, shape (blocks, k, d). Zero rows are allowed.

    Returns:
        B itself, or B with every row divided by its largest entry where norms
        are so far from 1 (or zero) that squares would overflow or vanish;
        T of shape (blocks, k, k); and what the rows were divided by, shape
        (blocks, k, 1), or None. H(v) does not depend on the length of v, so
        the product is the same and the gradient at v is that at v/c over c.
    """
    if B.device.type == "cpu":  # elsewhere the look at T would stall the device
        T = _invert(_triangle(B))
        low, high = torch.aminmax(T.diagonal(dim1=-2, dim2=-1))
        if _SAFE[0] < low.item() and high.item() < _SAFE[1]:
            return B, T, None
    if B.dtype == torch.float32 and triton_runs_on(B.device):
        return _by_triton(B)
    scale = B.abs().amax(-1, keepdim=True)
    scale.masked_fill_(scale == 0, 1)
    B = B / scale
    S = _triangle(B)
    diagonal = S.diagonal(dim1=-2, dim2=-1)
    diagonal.masked_fill_(diagonal == 0, 1)  # a zero row drops out: its Y and Z are 0
    return B, _invert(S), scale


def _by_triton(B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The factors in one launch, and one more for each doubling of the block size from 32 on."""
    from . import triton_factors

    k = B.shape[1]
    size = max(16, 1 << (k - 1).bit_length())
    with current(B.device):
        scale, T = triton_factors.factors(B.contiguous(), size)
    scale = scale.view(-1, size, 1)[:, :k]
    return B * scale, T.view(-1, size, size)[:, :k, :k], 1 / scale
