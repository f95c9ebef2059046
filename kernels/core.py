"""One product and its gradients by a given plan: which algorithm, and in what dtype."""

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from . import wy
from .plans import Plan

WORK_DTYPE = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
"""What each dtype is computed in."""

REAL = frozenset(dtype for dtype in WORK_DTYPE if dtype.is_floating_point)
FULL = frozenset(dtype for dtype in REAL if dtype == WORK_DTYPE[dtype])
"""Real dtypes that are computed in themselves."""

Saved = Sequence[Tensor | None]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def forward(
    V: Tensor, X: Tensor, tau: Tensor | None, plan: Plan, transpose: bool, keep: bool
) -> tuple[Tensor, Saved]:
    """H(v₁)⋯H(vₙ) X, and what ``backward`` needs.

    Args:
        V: reflectors (n, d) or (p, n, d).
        X: (d, m) or (p, d, m).
        tau: coefficients (n,) or (p, n), or None.
        plan: block size and who sweeps.
        transpose: apply the conjugate transpose instead.
        keep: whether V or τ will need a gradient.
    """
    if plan.sweep != "torch":
        result, buffer = _triton_wy().forward(V, X, plan, transpose, keep)
        return result, (buffer,)
    dtype, work = V.dtype, WORK_DTYPE[V.dtype]
    if dtype != work:
        V, X, tau = V.to(work), X.to(work), None if tau is None else tau.to(work)
    result, kept = wy.forward(V, X, tau, plan.block_size, transpose, keep)
    return (result if dtype == work else result.to(dtype)), kept


def backward(
    V: Tensor,
    X: Tensor,
    tau: Tensor | None,
    G: Tensor,
    saved: Saved,
    plan: Plan,
    transpose: bool,
    needs: tuple[bool, ...],
) -> Gradients:
    """Gradients at V, X and τ in their shapes and dtypes, given that at the output."""
    dtype = V.dtype
    if plan.sweep != "torch":
        (buffer,) = saved
        dV, dX = _triton_wy().backward(V, X, G, buffer, plan, transpose, needs[0])
        return _narrowed(dV, dtype), dX, None
    kept, work = wy.Saved(*saved), WORK_DTYPE[dtype]  # type: ignore[arg-type]
    if dtype == work:
        return wy.backward(V, X, tau, G, kept, transpose, needs)
    tau = None if tau is None else tau.to(work)
    wide = V.to(work), X.to(work), tau, G.to(work)
    dV, *others = wy.backward(*wide, kept, transpose, needs)
    dX, dtau = (None if t is None else t.to(dtype) for t in others)
    return _narrowed(dV, dtype), dX, dtau


def _narrowed(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A gradient in half precision: rows that would overflow are shortened until they fit.

    The gradient at a reflector is proportional to 1/‖v‖, so that a tiny one has a huge one.
    """
    if gradient is None or gradient.dtype == dtype:
        return gradient
    if dtype == torch.float16:
        largest = gradient.abs().amax(-1, keepdim=True)
        gradient = gradient * (torch.finfo(dtype).max / largest).clamp_(max=1)
    return gradient.to(dtype)


@lru_cache
def _triton_wy() -> ModuleType:
    """Imports Triton, which is not everywhere."""
    return import_module(".triton_wy", __package__)
