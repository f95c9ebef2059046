"""Checks of the arguments of ``apply_reflectors``, and the choice of its plan."""

import torch
from torch import Tensor

from .core import WORK_DTYPE
from .plans import Case, Plan, by_products, products_on_gpu, triton_plan
from .triton_support import BLOCK_SIZES, RESIDENT_LENGTH, triton_runs_on
from .tuned_plans import best_known

BACKENDS = ("auto", "wy", "triton", "plain", "reference")


def check(V: Tensor, X: Tensor, tau: Tensor | None, block_size: int | None, backend: str) -> None:
    """Refuse what ``apply_reflectors`` cannot take, each with a remedy."""
    if V.dtype not in WORK_DTYPE:
        raise TypeError(f"reflectors must be floating point, not {V.dtype}: convert V first")
    for name, other in (("X", X), ("tau", tau)):
        if other is None:
            continue
        if other.dtype != V.dtype:
            raise TypeError(
                f"V is {V.dtype} and {name} is {other.dtype}: convert one to the other's dtype"
            )
        if other.device != V.device:
            raise ValueError(
                f"V is on {V.device} and {name} on {other.device}: move one to the other's device"
            )
    if V.ndim < 2:
        raise ValueError(f"V must hold a reflector per row, (..., n, d), not {tuple(V.shape)}")
    rows = X.shape[-1] if X.ndim == 1 else X.shape[-2] if X.ndim else None
    if rows != V.shape[-1]:
        raise ValueError(
            f"V {tuple(V.shape)} has reflectors of length {V.shape[-1]}, so X must be "
            f"({V.shape[-1]},) or (..., {V.shape[-1]}, m), not {tuple(X.shape)}"
        )
    if tau is not None and (tau.ndim < 1 or tau.shape[-1] != V.shape[-2]):
        raise ValueError(
            f"V {tuple(V.shape)} has {V.shape[-2]} reflectors, so tau must be "
            f"(..., {V.shape[-2]}), not {tuple(tau.shape)}"
        )
    if V.ndim > 2 or X.ndim > 2 or (tau is not None and tau.ndim > 1):
        try:
            batch_shape(V, X, tau)
        except RuntimeError:
            raise ValueError(
                f"the leading dimensions of V {tuple(V.shape)} and X {tuple(X.shape)} don't match"
                + ("" if tau is None else f", or those of tau {tuple(tau.shape)} don't")
                + ": make them broadcast"
            ) from None
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, not {block_size}")
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}: choose from {', '.join(BACKENDS)}")


def batch_shape(V: Tensor, X: Tensor, tau: Tensor | None = None) -> torch.Size:
    """The leading dimensions of V, X and τ, broadcast."""
    return torch.broadcast_shapes(V.shape[:-2], X.shape[:-2], () if tau is None else tau.shape[:-1])


def case_of(V: Tensor, X: Tensor) -> Case:
    """The case of V (..., n, d) and X (..., d, m), on which the best plan depends.

    Raises:
        ValueError, TypeError: shapes or dtypes that ``apply_reflectors`` would not take.
    """
    check(V, X, None, None, "auto")
    return _case(V, X)


def _case(V: Tensor, X: Tensor) -> Case:
    # On a CPU low precision is converted beforehand; the kernels of a GPU read it as it is.
    dtype = V.dtype if V.is_cuda else WORK_DTYPE[V.dtype]
    return Case.of(V.shape[-2], V.shape[-1], X.shape[-1], dtype, V.device)


def plan_for(case: Case, block_size: int | None = None) -> Plan:
    """The plan to run with: the caller's block size, else the measured one, else the formula's."""
    if block_size is not None:
        short = case.for_triton and case.d <= RESIDENT_LENGTH
        if short and block_size in BLOCK_SIZES:
            return triton_plan(case.n, case.d, case.m, block_size)
        return by_products(case, block_size)
    return best_known(case)


def choose_block_size(
    n: int, d: int, m: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> int:
    """The block size that ``apply_reflectors`` uses for V (n, d) and X (d, m).

    Example:
        >>> choose_block_size(n=1024, d=1024, m=128)
        64
    """
    return plan_for(Case.of(n, d, m, dtype, torch.device(device))).block_size


def choose_plan(
    V: Tensor, X: Tensor, tau: Tensor | None, block_size: int | None, backend: str
) -> Plan:
    """The plan to run with, as far as the backend, the coefficients and the device allow."""
    if backend == "triton":
        _check_triton(V, tau)
        return triton_plan(V.shape[-2], V.shape[-1], X.shape[-1], block_size)
    case = _case(V, X)
    plan = plan_for(case, block_size)
    if plan.sweep == "torch":
        return plan
    if backend == "wy" or tau is not None or V.is_complex() or not triton_runs_on(V.device):
        return products_on_gpu(case) if block_size is None else by_products(case, block_size)
    return plan


def _check_triton(V: Tensor, tau: Tensor | None) -> None:
    if not triton_runs_on(V.device):
        raise ValueError(
            f"backend 'triton' needs Triton and an NVIDIA GPU of compute capability 8.0 or more, "
            f"and V is on {V.device}: use backend='auto'"
        )
    if V.dtype == torch.float64:
        raise TypeError("backend 'triton' has no float64: use backend='wy', or convert V and X")
    if V.is_complex() or tau is not None:
        what = "complex numbers" if V.is_complex() else "coefficients tau"
        raise TypeError(f"backend 'triton' has no {what}: use backend='wy'")
