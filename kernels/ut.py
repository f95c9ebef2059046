"""The UT transform: H₁⋯H_k = I − Bᴴ T B for reflectors that are the conjugated rows of B.

    T⁻¹ = striu(BBᴴ) + ½ diag(BBᴴ)                          for H = I − 2 v vᴴ/‖v‖²
    T   = (I + diag(τ) striu(BBᴴ))⁻¹ diag(τ)                 for H = I − τ v vᴴ

Joffrain, Low, Quintana-Ortí, Robert and van de Geijn, "Accumulating Householder
transformations, revisited", ACM TOMS 32(2), 2006. The triangle is inverted by
substitution, which is as stable as the reflectors themselves; powers of its
nilpotent part would not be.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from .triton_support import triton_runs_on

# ½‖b‖² outside these bounds: bring the rows to unit size before anything overflows.
_LEAST, _MOST = 1e-24, 1e24

_Sizes = ParamSpec("_Sizes")


def _made_once(make: Callable[_Sizes, Tensor]) -> Callable[_Sizes, Tensor]:
    """Keep the constants that ``make`` returns, which are not to be written to.

    A captured CUDA graph reads them at every replay, so those on a GPU are kept for good. What
    a capture makes itself has no values before the first replay, and is not kept.
    """
    on_gpu: dict[tuple[object, ...], Tensor] = {}

    def fresh(*arguments: _Sizes.args, **named: _Sizes.kwargs) -> Tensor:
        with torch.inference_mode(False):  # kept for later calls, which may want gradients
            return make(*arguments, **named)

    elsewhere = lru_cache(maxsize=64)(fresh)

    @wraps(make)
    def constant(*arguments: _Sizes.args, **named: _Sizes.kwargs) -> Tensor:
        device: Any = arguments[-1]
        if device.index is None:  # no GPU: tensors there have a number
            return elsewhere(*arguments)
        if (known := on_gpu.get(arguments)) is not None:
            return known
        if torch.cuda.is_current_stream_capturing():
            return fresh(*arguments, **named)
        made = fresh(*arguments, **named)
        torch.cuda.current_stream(device).synchronize()  # other streams may read it next
        return on_gpu.setdefault(arguments, made)

    return constant


@_made_once
def identity(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The identity (k, k), made once; not to be written to."""
    return torch.eye(k, dtype=dtype, device=device)


@_made_once
def half_triangle(
    k: int, lower: bool, diagonal: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Ones on one side of the diagonal, and ``diagonal``, 0 or ½, on it; shape (k, k)."""
    ones = torch.ones(k, k, dtype=dtype, device=device)
    strict = ones.tril(-1) if lower else ones.triu(1)
    return strict + diagonal * identity(k, dtype, device)


@_made_once
def _half_diagonal(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones(k, k, dtype=dtype, device=device) - 0.5 * identity(k, dtype, device)


@lru_cache(maxsize=64)
def _on_cpu(k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The identity and ``_half_diagonal`` on a CPU: one look-up for both at each step."""
    cpu = torch.device("cpu")
    return identity(k, dtype, cpu), _half_diagonal(k, dtype, cpu)


def _gram(B: Tensor) -> Tensor:
    return torch.mm(B, B.mH) if B.ndim == 2 else torch.bmm(B, B.mH)


def _invert(S: Tensor, one: Tensor) -> Tensor:
    # From the right: for row-major matrices LAPACK then needs no transposed copies.
    return torch.linalg.solve_triangular(
        S, one if S.ndim == 2 else one.expand_as(S), upper=True, left=False
    )


def ut_factors(B: Tensor, spare: int = 0, last: int = 1) -> tuple[Tensor, Tensor, Tensor | None]:
    """The factors of a block or a batch of blocks, and the blocks they belong to.

    Args:
        B: reflectors as rows, shape (k, d) or (blocks, k, d). Zero rows are allowed.
        spare: zero rows at the end of each of the ``last`` last blocks, known beforehand.

    Returns:
        B itself, or B with every row divided by its largest entry where norms
        are so far from 1 (or zero) that squares would overflow or vanish;
        T, (k, k) or (blocks, k, k), upper triangular, with numbers of no meaning below the
        diagonal of none; and what the rows were divided by, (…, k, 1), or None. H(v) does
        not depend on the length of v, so the product is the same and the gradient at v is
        that at v/c over c.
    """
    k = B.shape[-2]
    if B.is_cpu:  # elsewhere the look at the diagonal would stall the device
        # One side of the product is never read.
        one, half = _on_cpu(k, B.dtype)
        S = _gram(B).mul_(half)
        diagonal = S.diagonal(0, -2, -1)
        if spare:
            diagonal[-last:, -spare:] = 1
        if _is_safe(diagonal.real if B.is_complex() else diagonal):
            return B, _invert(S, one), None
    if B.dtype == torch.float32 and triton_runs_on(B.device):
        return _by_triton(B)
    scale = B.abs().amax(-1, keepdim=True)
    scale.masked_fill_(scale == 0, 1)
    B = B / scale
    S = _gram(B).mul_(_half_diagonal(k, B.dtype, B.device))
    diagonal = S.diagonal(0, -2, -1)
    diagonal.masked_fill_(diagonal == 0, 1)  # a zero row drops out: its Y and Z are 0
    return B, _invert(S, identity(k, B.dtype, B.device)), scale


def _is_safe(diagonal: Tensor) -> bool:
    """Whether all of ½‖b‖² are numbers within bounds."""
    if diagonal.ndim == 1 and len(diagonal) <= 64:  # a list is faster than two reductions
        numbers = diagonal.tolist()
        return bool(min(numbers) > _LEAST and max(numbers) < _MOST)
    low, high = torch.aminmax(diagonal)
    return bool(low.item() > _LEAST and high.item() < _MOST)


def scaled_factors(B: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """T for given coefficients, and N = striu(BBᴴ); a coefficient of 0 is the identity.

    Args:
        B: reflectors as rows, shape (k, d) or (blocks, k, d).
        tau: coefficients, (k,) or (blocks, k).

    Returns:
        T and N, each (k, k) or (blocks, k, k).
    """
    N = _gram(B).triu_(1)
    M = tau.unsqueeze(-1) * N
    T = torch.linalg.solve_triangular(M, torch.diag_embed(tau), upper=True, unitriangular=True)
    return T, N


def _by_triton(B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The factors by kernels of ours, in blocks of a power of two."""
    from . import triton_ut

    *batch, k, _ = B.shape
    size = max(16, 1 << (k - 1).bit_length())
    scale, T = triton_ut.factors(B.reshape(-1, *B.shape[-2:]).contiguous(), size)
    scale = scale.view(*batch, size, 1)[..., :k, :]
    return B * scale, T.view(*batch, size, size)[..., :k, :k], scale.reciprocal()
