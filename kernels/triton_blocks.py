"""Recipes for small compact-WY blocks, in Triton: one launch sweeps over all of them.

The forward pass keeps the UT factors and, for the gradient at V, the state before each block.
"""

import torch
from torch import Tensor

from .triton_factors import BASE, factor_launches
from .triton_gradient import gradient_launch
from .triton_launch import Buffer, PassRecipe, ProductSizes, Recipe
from .triton_sweep import is_resident, sweep_launch


def kept_sizes(sizes: ProductSizes, keep: bool) -> dict[str, int]:
    """The pieces of the buffer that the forward pass returns."""
    p, _, d, m, k = sizes
    blocks = p * sizes.blocks
    return {
        "scale": blocks * k,  # (p, nb, k) rows are multiplied with this
        "T": blocks * k * k,  # (p, nb, k, k) UT factors
        "states": blocks * d * m if keep else 0,  # (p, nb, d, m) A, the input of every block
        "Z": blocks * k * m if keep else 0,  # (p, nb, k, m) T B A
    }


def forward_pass(
    sizes: ProductSizes, dtype: torch.dtype, transpose: bool, keep: bool, precision: str
) -> PassRecipe:
    """Writes the product and what is kept."""
    kept, k = Buffer(kept_sizes(sizes, keep)), sizes.k
    launches = [
        *factor_launches(sizes),
        sweep_launch(sizes, transpose, keep, precision),
    ]

    def clear(V: Tensor, X: Tensor, out: Tensor, buffer: Tensor, scratch: Tensor) -> None:
        buffer[kept.pieces["T"]].zero_()

    given = {"V": None, "X": None, "out": None, "kept": kept, "scratch": None}
    recipe = Recipe(launches, given, clear if k > BASE else None)
    return PassRecipe(recipe, kept.size, 0, *_dtypes(sizes, dtype))


def backward_pass(
    sizes: ProductSizes, dtype: torch.dtype, transpose: bool, need_V: bool, precision: str
) -> PassRecipe:
    """Writes the gradients at X and V."""
    pieces = kept_sizes(sizes, need_V)
    scratch = Buffer({"outputs": pieces["states"], "W": pieces["Z"]})
    tensors = ("V", "scale", "T", "G", "dX", "outputs", "W")
    launches = [sweep_launch(sizes, not transpose, need_V, precision, tensors)]
    if need_V:
        launches.append(gradient_launch(sizes, transpose, precision))
    given = dict.fromkeys(("V", "X", "G", "dX"))
    buffers = {"kept": Buffer(pieces), "scratch": scratch}
    recipe = Recipe(launches, given | buffers | {"dV": None})
    return PassRecipe(recipe, 0, scratch.size, *_dtypes(sizes, dtype))


def _dtypes(sizes: ProductSizes, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """Of the product, which a streamed sweep reads again, and of dV, which float16 can't hold."""
    return (
        dtype if is_resident(sizes.k, sizes.d) else torch.float32,
        torch.float32 if dtype == torch.float16 else dtype,
    )
