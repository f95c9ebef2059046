"""The result, checks, dtypes and gradients that all low-rank SVD drivers share.

A driver is a function ``(A, k) -> SVD`` on float32 or float64; :func:`factorise` makes it fit
for users.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from svdbench.arguments import integer
from svdbench.errors import refuse_second_derivative


class SVD(NamedTuple):
    """A ≈ U diag(S) Vh, of rank k.

    Attributes:
        U: (..., m, k), orthonormal columns.
        S: (..., k), not negative, descending.
        Vh: (..., k, n), orthonormal rows.

    Example:
        >>> U, S, Vh = truncated_svd(torch.randn(50, 40), k=5)
        >>> (U * S @ Vh).shape
        torch.Size([50, 40])
    """

    U: Tensor
    S: Tensor
    Vh: Tensor

    @property
    def mT(self) -> "SVD":
        """The SVD of the transposed matrix."""
        return SVD(self.Vh.mT, self.S, self.U.mT)


Driver = Callable[[Tensor, int], SVD]

_HALF = (torch.float16, torch.bfloat16)

# The dtypes of matrices that are computed with; torch has no products of others.
FLOATS = (*_HALF, torch.float32, torch.float64)


def factorise(driver: Driver, A: Tensor, k: int) -> SVD:
    """The SVD that ``driver`` finds for A (..., m, n), in A's dtype.

    Half precision is computed in float32 and rounded at the end. Singular values can be
    differentiated, dσᵢ = uᵢᵀ dA vᵢ; singular vectors cannot, as those of a truncated SVD
    depend on the part that was cut off, and turn freely where values are equal.

    The scale of A does not matter: where its singular values are very large or very small for
    the dtype, a multiple of A is factorised in its place.

    Raises:
        TypeError: A is not a real floating-point tensor, or k not a whole number.
        ValueError: A has no two dimensions or is empty, k is not in 1 … min(m, n), there is a
            NaN or an infinity in A, or a singular value is too large for A's dtype.
        RuntimeError: on the way back, where U or Vh has a gradient.
    """
    k = checked_rank(A, k)
    if A.requires_grad and torch.is_grad_enabled():
        return SVD(*_Differentiable.apply(A, driver, k))
    return _checked(driver, A, k)


def check(A: Tensor) -> None:
    """Raise unless A is a real matrix; see :func:`factorise`."""
    if not isinstance(A, Tensor):
        raise TypeError(f"A is {type(A).__name__}: give a torch.Tensor of shape (..., m, n)")
    if A.dtype not in FLOATS:
        raise TypeError(f"A is {A.dtype}: give real floating-point numbers, for example A.double()")
    if A.layout is not torch.strided:
        raise TypeError(f"A is {A.layout}: give a dense matrix, for example A.to_dense()")
    if A.ndim < 2 or not A.numel():
        raise ValueError(f"A has shape {tuple(A.shape)}: give (..., m, n) with no size 0")


def checked_rank(A: Tensor, k: Any) -> int:
    """The rank as an int; raises for one that A cannot have, and unless A is a real matrix."""
    check(A)
    k = integer("k", k)
    if not 1 <= k <= min(A.shape[-2:]):
        m, n = A.shape[-2:]
        raise ValueError(f"rank {k} of a {m} × {n} matrix: choose from 1 … {min(m, n)}")
    return k


def refuse_not_finite(A: Tensor) -> None:
    """Raise ValueError if there is a NaN or an infinity in A."""
    if not A.isfinite().all():
        raise ValueError("A has NaN or infinite entries, and so no SVD: clean it first")


def power_of_two(A: Tensor) -> Tensor:
    """The power of two near the largest entry of each matrix (..., 1, 1): division does not round.

    1 for a zero matrix; never a denormal number, which some processors take for 0.
    """
    largest = A.abs().amax((-2, -1), keepdim=True)
    largest = torch.where(largest > 0, largest.clamp(min=torch.finfo(A.dtype).tiny), 1.0)
    exponent = largest.double().log2().floor()
    return torch.exp2(exponent).to(A.dtype)


def working(A: Tensor) -> Tensor:
    """A in the precision that is computed in: float32 for half precision."""
    return A.float() if A.dtype in _HALF else A


def _checked(driver: Driver, A: Tensor, k: int) -> SVD:
    """The SVD, of a scaled A where squares over- or underflow; raises for NaN and infinity."""
    W = working(A)
    try:
        found = driver(W, k)
        plain = _within(found.S)
    except torch.linalg.LinAlgError:
        plain = False
    except RuntimeError:  # cuSOLVER's status, which of NaN says that a value is invalid
        refuse_not_finite(A)
        raise
    if not plain:
        refuse_not_finite(A)
        scale = power_of_two(W)
        found = driver(W / scale, k)
        found = found._replace(S=found.S * scale.squeeze(-1))
    if A.dtype in _HALF:
        found = SVD(*(factor.to(A.dtype) for factor in found))
    if not plain or A.dtype in _HALF:
        _refuse_overflow(found.S, A.dtype)
    return found


def _within(S: Tensor) -> bool:
    """Whether the largest singular values are far from where products over- or underflow."""
    limits = torch.finfo(S.dtype)
    low, high = S[..., 0].aminmax()
    # Neither holds for a NaN.
    return bool(low > limits.tiny / limits.eps**2 and high < limits.max * limits.eps)


def _refuse_overflow(S: Tensor, dtype: torch.dtype) -> None:
    if not S.isfinite().all():
        wider = "" if dtype == torch.float64 else "give A.double(), or "
        raise ValueError(
            f"a singular value of A is too large for {dtype}: {wider}divide A by its largest entry"
        )


class _Differentiable(torch.autograd.Function):
    """The factors, with the gradient of the singular values alone."""

    @staticmethod
    def forward(ctx: FunctionCtx, A: Tensor, driver: Driver, k: int) -> tuple[Tensor, ...]:
        found = _checked(driver, A.detach(), k)
        ctx.save_for_backward(found.U, found.Vh)
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None]:
        refuse_second_derivative("a truncated SVD")
        gU, gS, gVh = grads
        if gU is not None or gVh is not None:
            raise RuntimeError(
                "the singular vectors of a truncated SVD have no gradient here: differentiate "
                "S alone, detach U and Vh, or use torch.linalg.svd and cut off its factors"
            )
        U, Vh = ctx.saved_tensors
        return None if gS is None else (U * gS.unsqueeze(-2)) @ Vh, None, None
