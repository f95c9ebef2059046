"""Products of reflectors in compact-WY form by the Triton kernels: see ``wy`` for the formulas.

Small blocks (``triton_blocks``) take four launches a step whatever n, d and m; large ones by tiles
(``triton_tiles``) some more. The host's part is a recipe (``triton_launch``) and two buffers a
pass. Nothing waits for the device, so it can be captured in a CUDA graph.

Shapes: V (n, d) and X (d, m), or V (p, n, d) and X (p, d, m), in float32, bfloat16 or
float16; all that is computed, products and gradients too, is float32.
"""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from . import triton_blocks, triton_tiles
from .plans import Plan
from .triton_launch import KEPT, PassRecipe, ProductSizes, padded
from .triton_precision import precision

_BY_SWEEP: dict[str, ModuleType] = {"triton": triton_blocks, "tiles": triton_tiles}


def forward(V: Tensor, X: Tensor, plan: Plan, transpose: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """H(v₁)⋯H(vₙ) X, or its transpose applied, and the buffer that the backward pass needs.

    Args:
        V: reflectors (n, d) or (p, n, d); a row of zeros is the identity.
        X: (d, m) or (p, d, m).
        plan: whose sweep is "triton" or "tiles"; the block size need not divide n.
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether V will need a gradient.
    """
    V, X = V.contiguous(), X.contiguous()
    dtype, device = V.dtype, V.get_device()
    mode = precision(dtype)
    make = _BY_SWEEP[plan.sweep].forward_pass
    found = _recipe(make, V.shape, X.shape[-1], dtype, device, plan, transpose, keep, mode)
    out = _empty_like(X, found.out)
    kept = _empty_float32(X, found.kept)
    found.recipe.run(V, X, out, kept, _scratch(found, kept))
    return (out if found.out is dtype else out.to(dtype)), kept


def backward(
    V: Tensor, X: Tensor, G: Tensor, kept: Tensor, plan: Plan, transpose: bool, need_V: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients at V and X, given that at the output; at V in float16 it is float32 still."""
    V, G = V.contiguous(), G.contiguous()
    dtype, device = V.dtype, V.get_device()
    mode = precision(dtype)
    make = _BY_SWEEP[plan.sweep].backward_pass
    found = _recipe(make, V.shape, G.shape[-1], dtype, device, plan, transpose, need_V, mode)
    X = X.contiguous() if found.reads_X else G
    dX, dV = _empty_like(G, found.out), _empty_like(V, found.dV) if need_V else None
    found.recipe.run(V, X, G, dX, kept, _scratch(found, kept), kept if dV is None else dV)
    return dV, dX if found.out is dtype else dX.to(dtype)


def kept_size(sizes: ProductSizes, plan: Plan, keep: bool) -> int:
    """The numbers in the buffer that ``forward`` returns; sizes may be symbolic."""
    return sum(map(padded, _BY_SWEEP[plan.sweep].kept_sizes(sizes, keep).values()))


def _empty_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Without a dtype it takes half the time."""
    if dtype is tensor.dtype:
        return torch.empty_like(tensor)
    return torch.empty_like(tensor, dtype=dtype)


def _empty_float32(tensor: Tensor, size: int) -> Tensor:
    if tensor.dtype is torch.float32:
        return tensor.new_empty(size)
    return tensor.new_empty(size, dtype=torch.float32)


def _scratch(found: PassRecipe, kept: Tensor) -> Tensor:
    return kept.new_empty(found.scratch) if found.scratch else kept


@lru_cache(maxsize=KEPT)
def _recipe(
    make: Callable[..., PassRecipe],
    shape: torch.Size,
    m: int,
    dtype: torch.dtype,
    device: int,
    plan: Plan,
    transpose: bool,
    with_V: bool,
    precision: str,
) -> PassRecipe:
    """A forward or backward pass; ``with_V`` says whether V needs a gradient."""
    return make(_sizes(shape, m, plan), dtype, transpose, with_V, precision)


def _sizes(shape: torch.Size, m: int, plan: Plan) -> ProductSizes:
    *batch, n, d = shape
    return ProductSizes(batch[0] if batch else 1, n, d, m, plan.block_size)
