"""``apply_reflectors`` as operators of PyTorch, so that torch.compile need not look inside.

The compiler asks a fake for the shapes of what the operator saves for its backward
pass, and these depend on the plan. A plan once asked for is therefore kept until the
process ends, even if a block size is tuned later.
"""

from typing import Any

import torch
from torch import Tensor

from . import core, wy
from .choice import case_of, choose_plan
from .tuning import Case, Plan, even_block

SavedTensors = tuple[Tensor, Tensor, Tensor, Tensor]

_plans: dict[tuple[Case, int, str], Plan] = {}


def apply_reflectors_op(
    V: Tensor, X: Tensor, block_size: int, transpose: bool, backend: str
) -> Tensor:
    """For V (n, d) and X (d, m), or V (p, n, d) and X (p, d, m); block size 0: the best known."""
    options = block_size, transpose, backend, V.requires_grad and torch.is_grad_enabled()
    if X.ndim == 3:
        return _forward(V, X, *options)[0]
    return _forward(V.unsqueeze(0), X.unsqueeze(0), *options)[0].squeeze(0)


@torch.library.custom_op("svdbench::apply_reflectors", mutates_args=())
def _forward(
    V: Tensor, X: Tensor, block_size: int, transpose: bool, backend: str, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The product, and T, the inputs of the blocks, Z and the scale of the rows."""
    plan = _plan(V, X, block_size, backend)
    out, saved = core.forward(V, X, plan, transpose, keep)
    return out.to(X.dtype), *_pack(saved, plan, V)


@_forward.register_fake
def _(
    V: Tensor, X: Tensor, block_size: int, transpose: bool, backend: str, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    plan = _plan(V, X, block_size, backend)
    shapes = _shapes(V, X, plan, keep)
    saved = (V.new_empty(shape, dtype=core.WORK_DTYPE[V.dtype]) for shape in shapes)
    return X.new_empty(X.shape), *saved  # type: ignore[return-value]


@torch.library.custom_op("svdbench::apply_reflectors_backward", mutates_args=())
def _backward(
    V: Tensor,
    X: Tensor,
    G: Tensor,
    T: Tensor,
    inputs: Tensor,
    Z: Tensor,
    scale: Tensor,
    block_size: int,
    transpose: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients at V and X; the former is empty unless ``keep``."""
    plan = _plan(V, X, block_size, backend)
    saved = _unpack((T, inputs, Z, scale), plan, V)
    dV, dX = core.backward(V, X, G, saved, plan, transpose, need_V=keep, need_X=True)
    assert dX is not None
    return V.new_empty(0) if dV is None else dV, dX


@_backward.register_fake
def _(V: Tensor, X: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return V.new_empty(V.shape if options[-1] else 0), X.new_empty(X.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    V, X, *ctx.options = inputs
    ctx.save_for_backward(V, X, *output[1:])


def _gradients(ctx: Any, G: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    V, X, *saved = ctx.saved_tensors
    dV, dX = _backward(V, X, G, *saved, *ctx.options)
    return dV if ctx.options[-1] else None, dX, None, None, None, None


_forward.register_autograd(_gradients, setup_context=_setup)


def _plan(V: Tensor, X: Tensor, block_size: int, backend: str) -> Plan:
    key = case_of(V, X), block_size, backend
    if key not in _plans:
        _plans[key] = choose_plan(V, X, block_size or None, backend)
    return _plans[key]


def _shapes(V: Tensor, X: Tensor, plan: Plan, keep: bool) -> tuple[tuple[int, ...], ...]:
    """Shapes of T, the inputs of the blocks, Z and the scale, as ``core.forward`` saves them."""
    (p, n, d), m, k = map(int, V.shape), int(X.shape[-1]), plan.block_size
    if plan.sweep == "triton":
        nb = -(-n // k)
        kept = nb if keep else 0
        return (p, nb, k, k), (p, kept, d, m), (p, kept, k, m), (p, nb, k)
    if k >= n:
        return (p, n, n), (0,), (p, n, m), (p, n, 1)
    k = even_block(n, k)
    nb, h = -(-n // k), plan.panels if p == 1 else 1
    inputs = (nb if keep else 0, p * h, d // h, m)
    return (nb, p, k, k), inputs, (nb if keep else 1, p, k, m), (nb * p, k, 1)


def _pack(saved: core.Saved, plan: Plan, V: Tensor) -> SavedTensors:
    """The saved tensors whose shapes follow from the plan; the others are recomputed from V."""
    if plan.sweep == "triton":
        return saved  # type: ignore[return-value]
    kept: Any = saved
    if plan.block_size >= V.shape[1]:
        T, Z, scale = kept
        inputs = T.new_empty(0)
    else:
        T, inputs, Z, scale = kept.T, kept.inputs, kept.Z, kept.scale
    if scale is None:
        scale = T.new_ones(T.numel() // T.shape[-1] ** 2, T.shape[-1], 1)
    return T.contiguous(), inputs, Z, scale


def _unpack(saved: SavedTensors, plan: Plan, V: Tensor) -> core.Saved:
    T, inputs, Z, scale = saved
    if plan.sweep == "triton":
        return saved
    if plan.block_size >= V.shape[1]:
        return T, Z, scale
    panels = plan.panels if len(V) == 1 else 1
    return wy.restore(V.to(T.dtype), T, inputs, Z, scale, panels)
