"""Products of reflectors in compact-WY form by the Triton kernels: see ``wy`` for the formulas.

A step is four launches whatever n, d and m: the factors, the sweep, the reverse sweep
and the gradient at the reflectors (two more for blocks of 64, and the conversions of
half precision). The host's part is a recipe (``triton_launch``) and one buffer per pass.
Nothing waits for the device, so it can be captured in a CUDA graph.

Shapes: V (n, d) and X (d, m), or V (p, n, d) and X (p, d, m), in float32, bfloat16 or
float16; all that is computed, products and gradients too, is float32.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .triton_factors import BASE, factor_launches
from .triton_gradient import gradient_launch
from .triton_launch import KEPT, Buffer, Recipe, padded
from .triton_precision import precision as precision_of
from .triton_sweep import is_resident, sweep_launch


class _Pass(NamedTuple):
    """A recipe, the size of its buffer, and the dtypes of what it computes."""

    recipe: Recipe
    size: int
    out: torch.dtype  # of the product, or of the gradient at X
    dV: torch.dtype


def forward(V: Tensor, X: Tensor, k: int, transpose: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """H(v₁)⋯H(vₙ) X, or its transpose applied, and the buffer that the backward pass needs.

    Args:
        V: reflectors (n, d) or (p, n, d); a row of zeros is the identity.
        X: (d, m) or (p, d, m).
        k: block size, one of ``triton_support.BLOCK_SIZES``; it need not divide n.
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether V will need a gradient.
    """
    V, X = V.contiguous(), X.contiguous()
    dtype, device = V.dtype, V.get_device()
    found = _forward(V.shape, X.shape[-1], dtype, device, k, transpose, keep, precision_of(dtype))
    out, kept = _empty_like(X, found.out), X.new_empty(found.size, dtype=torch.float32)
    found.recipe.run(V, X, out, kept)
    return (out if found.out is X.dtype else out.to(X.dtype)), kept


def backward(
    V: Tensor, G: Tensor, kept: Tensor, k: int, transpose: bool, need_V: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients at V and X, given that at the output; at V in float16 it is float32 still."""
    V, G = V.contiguous(), G.contiguous()
    dtype, device = V.dtype, V.get_device()
    found = _backward(
        V.shape, G.shape[-1], dtype, device, k, transpose, need_V, precision_of(dtype)
    )
    dX, scratch = _empty_like(G, found.out), G.new_empty(found.size, dtype=torch.float32)
    dV = _empty_like(V, found.dV) if need_V else None
    found.recipe.run(V, G, dX, kept, scratch, scratch if dV is None else dV)
    return dV, dX if found.out is G.dtype else dX.to(G.dtype)


def _empty_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Without a dtype it takes half the time."""
    return torch.empty_like(tensor, dtype=None if dtype is tensor.dtype else dtype)


def kept_size(p: int, n: int, d: int, m: int, k: int, keep: bool) -> int:
    """The numbers in the buffer that ``forward`` returns; sizes may be symbolic."""
    return sum(map(padded, _kept(p, n, d, m, k, keep).values()))


def _kept(p: int, n: int, d: int, m: int, k: int, keep: bool) -> dict[str, int]:
    blocks = p * -(-n // k)
    return {
        "scale": blocks * k,  # (p, nb, k) rows are multiplied with this
        "T": blocks * k * k,  # (p, nb, k, k) UT factors
        "states": blocks * d * m if keep else 0,  # (p, nb, d, m) A, the input of every block
        "Z": blocks * k * m if keep else 0,  # (p, nb, k, m) T B A
    }


@lru_cache(maxsize=KEPT)
def _forward(
    shape: torch.Size,
    m: int,
    dtype: torch.dtype,
    device: int,
    k: int,
    transpose: bool,
    keep: bool,
    precision: str,
) -> _Pass:
    *batch, n, d = shape
    p = batch[0] if batch else 1
    kept = Buffer(_kept(p, n, d, m, k, keep))
    launches = [
        *factor_launches(p, n, d, k),
        sweep_launch(p, n, d, m, k, transpose, keep, precision),
    ]
    given = {"V": None, "X": None, "out": None, "kept": kept}
    recipe = Recipe(launches, given, zeroed=("T",) if k > BASE else ())
    return _Pass(recipe, kept.size, *_dtypes(dtype, k, d))


@lru_cache(maxsize=KEPT)
def _backward(
    shape: torch.Size,
    m: int,
    dtype: torch.dtype,
    device: int,
    k: int,
    transpose: bool,
    need_V: bool,
    precision: str,
) -> _Pass:
    *batch, n, d = shape
    p = batch[0] if batch else 1
    sizes = _kept(p, n, d, m, k, need_V)
    kept = Buffer(sizes)
    scratch = Buffer({"outputs": sizes["states"], "W": sizes["Z"]})
    tensors = ("V", "scale", "T", "G", "dX", "outputs", "W")
    launches = [sweep_launch(p, n, d, m, k, not transpose, need_V, precision, tensors)]
    if need_V:
        launches.append(gradient_launch(p, n, d, m, k, transpose, precision))
    given = {"V": None, "G": None, "dX": None, "kept": kept, "scratch": scratch, "dV": None}
    return _Pass(Recipe(launches, given), scratch.size, *_dtypes(dtype, k, d))


def _dtypes(dtype: torch.dtype, k: int, d: int) -> tuple[torch.dtype, torch.dtype]:
    """Of the product, which a streamed sweep reads again, and of dV, which float16 can't hold."""
    return (
        dtype if is_resident(k, d) else torch.float32,
        torch.float32 if dtype == torch.float16 else dtype,
    )
