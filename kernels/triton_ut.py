"""The UT factors of blocks of any size by the Triton kernels, for products by cuBLAS."""

from functools import lru_cache

import torch
from torch import Tensor

from .triton_factors import factor_launches
from .triton_launch import KEPT, Buffer, ProductSizes, Recipe
from .triton_precision import most_precise
from .triton_support import BLOCK_SIZES
from .triton_tile_factors import gram_size, tile_factor_launches


def factors(V: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The UT factors of blocks of k reflectors.

    Args:
        V: reflectors as rows, shape (p, n, d), contiguous; float32, bfloat16 or
            float16. Zero rows are allowed.
        k: block size: 16, 32, 64, … A last block that is not full is filled with
            rows of zeros.

    Returns:
        What the rows have to be multiplied with, shape (p, ⌈n/k⌉, k), and T of the
        multiplied rows, shape (p, ⌈n/k⌉, k, k); both float32.
    """
    p, n, d = V.shape
    sizes = ProductSizes(p, n, d, 0, k)
    recipe, scratch = _recipe(sizes, V.dtype, V.get_device())
    scale = V.new_empty(p, sizes.blocks, k, dtype=torch.float32)
    T = V.new_zeros(p, sizes.blocks, k, k, dtype=torch.float32)
    recipe.run(V, scale, T, scale.new_empty(scratch))
    return scale, T


@lru_cache(maxsize=KEPT)
def _recipe(sizes: ProductSizes, dtype: torch.dtype, device: int) -> tuple[Recipe, int]:
    """The recipe, and the numbers that it needs as scratch."""
    given: dict[str, Buffer | None] = {"V": None, "scale": None, "T": None}
    if sizes.k <= BLOCK_SIZES[-1]:
        return Recipe(factor_launches(sizes), given | {"S": None}), 0
    room = Buffer({"S": gram_size(sizes)})
    launches = tile_factor_launches(sizes, most_precise())
    return Recipe(launches, given | {"scratch": room}), room.size
