"""``apply_reflectors`` as operators of PyTorch, so that torch.compile need not look inside.

The compiler asks a fake for the shapes of what the operator saves for its backward pass.
These follow from the sizes of V, the block size and the backend alone, so that the number
of columns may change from call to call without another compilation.
"""

from typing import Any

import torch
from torch import Tensor

from . import core
from .choice import choose_plan
from .plans import Plan
from .tuned_plans import plan_on_gpu

SavedTensors = tuple[Tensor, Tensor, Tensor, Tensor]

COLUMNS = 64  # of X, where a plan depends on their number


def apply_reflectors_op(
    V: Tensor, X: Tensor, block_size: int, transpose: bool, backend: str
) -> Tensor:
    """For V (n, d) and X (d, m), or V (p, n, d) and X (p, d, m); block size 0: the formula's."""
    options = block_size, transpose, backend, V.requires_grad and torch.is_grad_enabled()
    return _forward(V, X, *options)[0]


@torch.library.custom_op("svdbench::apply_reflectors", mutates_args=())
def _forward(
    V: Tensor, X: Tensor, block_size: int, transpose: bool, backend: str, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The product, contiguous, and T, Z, the scale of the rows and the inputs of the blocks.

    The Triton kernels save one buffer in place of these four, and three empty tensors.
    """
    plan = _plan(V, block_size, backend)
    out, saved = core.forward(V, X, None, plan, transpose, keep)
    return out.contiguous(), *_packed(saved, plan)


@_forward.register_fake
def _(
    V: Tensor, X: Tensor, block_size: int, transpose: bool, backend: str, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shapes = _shapes(V, X, _plan(V, block_size, backend), keep)
    saved = (V.new_empty(shape, dtype=core.WORK_DTYPE[V.dtype]) for shape in shapes)
    return X.new_empty(X.shape), *saved  # type: ignore[return-value]


@torch.library.custom_op("svdbench::apply_reflectors_backward", mutates_args=())
def _backward(
    V: Tensor,
    X: Tensor,
    G: Tensor,
    T: Tensor,
    Z: Tensor,
    scale: Tensor,
    inputs: Tensor,
    block_size: int,
    transpose: bool,
    backend: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients at V and X; the former is empty unless ``keep``."""
    plan = _plan(V, block_size, backend)
    saved = (T, Z, scale, inputs) if plan.sweep == "torch" else (T,)
    needs = keep, True, False
    dV, dX, _ = core.backward(V, X, None, G, saved, plan, transpose, needs)
    assert dX is not None
    return V.new_empty(0) if dV is None else dV.contiguous(), dX.contiguous()


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


def _plan(V: Tensor, block_size: int, backend: str) -> Plan:
    """The plan for V and any number of columns, so that they need not be known."""
    if V.is_cuda and V.dtype in core.REAL and not block_size and backend == "auto":
        return plan_on_gpu(int(V.shape[-2]), int(V.shape[-1]), COLUMNS, V.dtype, V.device)
    columns = V.new_empty(V.shape[-1], COLUMNS)
    return choose_plan(V, columns, None, block_size or None, backend)


def _shapes(V: Tensor, X: Tensor, plan: Plan, keep: bool) -> tuple[tuple[Any, ...], ...]:
    """Shapes of T, Z, the scale and the inputs, as ``core.forward`` saves them."""
    *p, n, d = V.shape
    m, k = X.shape[-1], plan.block_size
    nb = -(-n // k)
    if plan.sweep != "torch":
        from .triton_launch import ProductSizes
        from .triton_wy import kept_size

        sizes = ProductSizes(p[0] if p else 1, n, d, m, k)
        return (kept_size(sizes, plan, keep),), (0,), (0,), (0,)
    if k >= n:
        return (*p, n, n), (*p, n, m), (*p, n, 1), (0,)
    blocks = nb * (p[0] if p else 1)
    return (nb, *p, k, k), (nb, *p, k, m), (blocks, k, 1), (nb, *p, m, d) if keep else (0,)


def _packed(saved: core.Saved, plan: Plan) -> SavedTensors:
    """The saved tensors, all of the shapes that follow from the plan."""
    if plan.sweep != "torch":
        (buffer,) = saved
        assert buffer is not None
        return buffer, buffer.new_empty(0), buffer.new_empty(0), buffer.new_empty(0)
    T, Z, scale, inputs, *_ = saved
    assert T is not None
    assert Z is not None
    if scale is None:
        scale = T.new_ones(*T.shape[:-1], 1).flatten(0, -3) if T.ndim > 2 else T.new_ones(len(T), 1)
    if inputs is None:
        inputs = T.new_empty(0)
    return T.contiguous(), Z, scale, inputs
