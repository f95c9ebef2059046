"""What all drivers of a low-rank SVD share: their result, their checks, half precision, gradients.

A driver is a function ``(A, k) -> SVD`` on float32 or float64; :func:`factorise` makes it fit
for users.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class SVD(NamedTuple):
    """A ≈ U diag(S) Vh, of rank k.

    Attributes:
        U: (..., m, k), orthonormal columns.
        S: (..., k), not negative, descending.
        Vh: (..., k, n), orthonormal rows.
    """

    U: Tensor
    S: Tensor
    Vh: Tensor

    @property
    def mT(self) -> "SVD":
        """That of the transposed matrix."""
        return SVD(self.Vh.mT, self.S, self.U.mT)


Driver = Callable[[Tensor, int], SVD]

_HALF = (torch.float16, torch.bfloat16)


def factorise(driver: Driver, A: Tensor, k: int) -> SVD:
    """What ``driver`` finds for A (..., m, n), in A's dtype.

    Half precision is computed in float32 and rounded at the end. Singular values can be
    differentiated, dσᵢ = uᵢᵀ dA vᵢ; singular vectors cannot, as those of a truncated SVD
    depend on the part that was cut off, and turn freely where values are equal.

    Raises:
        TypeError: A is not a real floating-point tensor, or k not a whole number.
        ValueError: A has no two dimensions or is empty, k is not in 1 … min(m, n), or
            there is a NaN or an infinity in A.
        RuntimeError: on the way back, where U or Vh has a gradient.
    """
    check(A, k)
    if A.requires_grad and torch.is_grad_enabled():
        return SVD(*_Differentiable.apply(A, driver, k))
    return _checked(driver, A, k)


def check(A: Tensor, k: int | None = None) -> None:
    """Refuse what is no real matrix, and a rank that it cannot have; see :func:`factorise`."""
    if not isinstance(A, Tensor):
        raise TypeError(f"A is {type(A).__name__}: give a torch.Tensor of shape (..., m, n)")
    if not A.is_floating_point():
        raise TypeError(f"A is {A.dtype}: give real floating-point numbers, as A.double() does")
    if A.ndim < 2 or not A.numel():
        raise ValueError(f"A has shape {tuple(A.shape)}: give (..., m, n) with no size 0")
    if k is None:
        return
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"k is {k!r}: give a whole number")
    if not 1 <= k <= min(A.shape[-2:]):
        m, n = A.shape[-2:]
        raise ValueError(f"rank {k} of a {m} × {n} matrix: choose from 1 … {min(m, n)}")


def refuse_not_finite(A: Tensor) -> None:
    """Raise ValueError if there is a NaN or an infinity in A."""
    if not A.isfinite().all():
        raise ValueError("A has NaN or infinite entries, and so no SVD: clean it first")


def working(A: Tensor) -> Tensor:
    """A in the precision that is computed in: float32 for half precision."""
    return A.float() if A.dtype in _HALF else A


def _checked(driver: Driver, A: Tensor, k: int) -> SVD:
    """Looks through A only where a driver failed, as it does if A is not finite."""
    try:
        found = driver(working(A), k)
    except torch.linalg.LinAlgError:
        refuse_not_finite(A)
        raise
    return SVD(*(factor.to(A.dtype) for factor in found)) if A.dtype in _HALF else found


class _Differentiable(torch.autograd.Function):
    """The factors, with the gradient of the singular values alone."""

    @staticmethod
    def forward(ctx: FunctionCtx, A: Tensor, driver: Driver, k: int) -> tuple[Tensor, ...]:
        found = _checked(driver, A.detach(), k)
        ctx.save_for_backward(found.U, found.Vh)
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None]:
        gU, gS, gVh = grads
        if gU is not None or gVh is not None:
            raise RuntimeError(
                "the singular vectors of a truncated SVD have no gradient here: differentiate "
                "S alone, detach U and Vh, or use torch.linalg.svd and cut off its factors"
            )
        U, Vh = ctx.saved_tensors
        return None if gS is None else (U * gS.unsqueeze(-2)) @ Vh, None, None
