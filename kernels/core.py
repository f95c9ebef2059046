"""One product and its gradients by a given plan: which algorithm, on what dtype and threads."""

from typing import Any

import torch
from torch import Tensor

from . import wy
from .tuning import Plan, even_block

WORK_DTYPE = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
"""What each dtype is computed in."""

Saved = tuple[Tensor | None, ...]


def forward(V: Tensor, X: Tensor, plan: Plan, transpose: bool, keep: bool) -> tuple[Tensor, Saved]:
    """H(v₁)⋯H(vₙ) X in the work dtype, and what ``backward`` needs.

    Args:
        V: reflectors (p, n, d).
        X: (p, d, m).
        plan: block size, panels, threads and who sweeps.
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether V will need a gradient.
    """
    if plan.sweep == "triton":
        from . import triton_wy

        return triton_wy.forward(V, X, plan.block_size, transpose, keep)
    work = WORK_DTYPE[V.dtype]
    V, X, n = V.to(work), X.to(work), V.shape[1]
    with _threads(plan.threads):
        if plan.block_size >= n:
            return wy.forward_one_block(V, X, transpose)
        k = even_block(n, plan.block_size)
        if n % k:  # rows of zeros are the identity
            V = torch.nn.functional.pad(V, (0, 0, 0, -n % k))
        return wy.forward(V, X, k, plan.panels if len(V) == 1 else 1, transpose, keep)


def backward(
    V: Tensor,
    X: Tensor,
    G: Tensor,
    saved: Saved,
    plan: Plan,
    transpose: bool,
    need_V: bool,
    need_X: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients at V (p, n, d) and X (p, d, m) in their dtype, given that at the output."""
    kept: Any = saved
    dV: Tensor | None
    dX: Tensor | None
    if plan.sweep == "triton":
        from . import triton_wy

        dV, dX = triton_wy.backward(V, G, triton_wy.SavedFused(*kept), transpose, need_V)
        return _as(V, dV), _as(X, dX)
    work, n = WORK_DTYPE[V.dtype], V.shape[1]
    needs = transpose, need_V, need_X
    with _threads(plan.threads):
        if plan.block_size >= n:
            whole = V.to(work), X.to(work), G.to(work)
            dV, dX = wy.backward_one_block(*whole, wy.SavedBlock(*kept), *needs)
        else:
            dV, dX = wy.backward(G.to(work), wy.SavedBlocks(*kept), *needs)
    if dV is not None and dV.shape[1] > n:  # the rows that were padded
        dV = dV[:, :n].contiguous()
    return _as(V, dV), _as(X, dX)


def _as(tensor: Tensor, gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.to(tensor.dtype)


class _threads:
    """Sets the number of threads for the operations of the calling thread; 0 leaves it as it is.

    OpenMP and MKL keep the number per calling thread, so others don't notice.
    A class, since entering a generator would cost as much as a small product.
    """

    def __init__(self, number: int) -> None:
        self.before = torch.get_num_threads() if number else 0
        self.number = number if number != self.before else 0

    def __enter__(self) -> None:
        if self.number:
            torch.set_num_threads(self.number)

    def __exit__(self, *_: object) -> None:
        if self.number:
            torch.set_num_threads(self.before)
