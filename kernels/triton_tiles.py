"""Recipes for large compact-WY blocks by tiles, in Triton: for d above 256.

No step waits for another inside a block of 128 to 1024 reflectors: see ``triton_tile_factors``
for T, ``triton_tile_sweep`` for the three launches that apply a block, and
``triton_tile_gradient``. What is kept is bounded: with one block no state at all, since it is
the input; with several, one state a block of at least n/8, while the gradients at outputs are
kept for two times ``SEGMENT`` blocks at a time.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .triton_launch import Buffer, Launch, PassRecipe, Place, ProductSizes, Recipe
from .triton_tile_factors import tile_factor_launches
from .triton_tile_gradient import tile_gradient_launches
from .triton_tile_sweep import parts_of, tile_step_launches

SEGMENT = 4
"""Blocks whose gradients are computed at once."""


def kept_sizes(sizes: ProductSizes, keep: bool) -> dict[str, int]:
    """The pieces of the buffer that the forward pass returns."""
    p, _, d, m, k = sizes
    blocks = p * sizes.blocks
    return {
        "scale": blocks * k,  # (p, nb, k) rows are multiplied with this
        "T": blocks * k * k,  # (p, nb, k, k) UT factors
        # (p, nb, d, m) A, the input of every block where there are several
        "states": blocks * d * m if keep and sizes.blocks > 1 else 0,
        "Z": blocks * k * m if keep else 0,  # (p, nb, k, m) T B A
    }


def forward_pass(
    sizes: ProductSizes, dtype: torch.dtype, transpose: bool, keep: bool, precision: str
) -> PassRecipe:
    """Writes the product and what is kept."""
    p, _, d, m, k = sizes
    nb, state = sizes.blocks, d * m
    kept = Buffer(kept_sizes(sizes, keep))
    room = {"S": p * nb * k * k, "Y": p * parts_of(p, k, d, m) * k * m}
    if not keep:
        room |= {"passing": min(nb - 1, 2) * p * state, "one": p * k * m}
    scratch, order = Buffer(room), _order(nb, transpose)

    def place(i: int) -> Place:
        """Of the state before a block."""
        if nb == 1 or (i == order[0] and not keep):
            return Place("X", state)
        if keep:
            return Place(("states", i * state), nb * state)
        return Place(("passing", i % 2 % (nb - 1) * p * state), state)

    launches = tile_factor_launches(sizes, precision)
    for i, j in zip(order, [*order[1:], None], strict=True):
        Z = Place(("Z", i * k * m), nb * k * m) if keep else Place("one", k * m)
        to = Place("out", state) if j is None else place(j)
        launches += tile_step_launches(sizes, i, place(i), Z, to, transpose, precision)

    def copy(V: Tensor, X: Tensor, out: Tensor, buffer: Tensor, room: Tensor) -> None:
        states = buffer[kept.pieces["states"]].view(p, nb, d, m)
        states[:, order[0]].copy_(X.view(p, d, m))

    given = {"V": None, "X": None, "out": None, "kept": kept, "scratch": scratch}
    recipe = Recipe(launches, given, copy if keep and nb > 1 else None)
    return PassRecipe(recipe, kept.size, scratch.size, *_dtypes(dtype))


def backward_pass(
    sizes: ProductSizes, dtype: torch.dtype, transpose: bool, need_V: bool, precision: str
) -> PassRecipe:
    """Writes the gradients at X and V.

    The gradients at the outputs of the blocks of a segment lie together. Segments have two places
    in turn, as the last block of one writes into the place of the next.
    """
    p, _, d, m, k = sizes
    nb, state = sizes.blocks, d * m
    segment = min(nb, SEGMENT if need_V else 1)
    order = _order(nb, not transpose)
    segments = [order[start : start + segment] for start in range(0, nb, segment)]
    room = {"Y": p * parts_of(p, k, d, m) * k * m, "W": p * segment * k * m}
    if need_V:
        room["F"] = p * segment * k * k
    if nb > 1:
        room["outputs"] = min(len(segments), 2) * p * segment * state
    scratch = Buffer(room)

    def place(i: int) -> Place:
        """Of the gradient at the output of a block."""
        if nb == 1 or (i == order[0] and not need_V):
            return Place("G", state)
        turn = order.index(i) // segment
        first = turn % 2 * p * segment * state + (i - min(segments[turn])) * state
        return Place(("outputs", first), segment * state)

    launches: list[Launch] = []
    following = dict(pairwise(order))
    for part in segments:
        first, count = min(part), len(part)
        for i in part:
            W = Place(("W", (i - first) * k * m), count * k * m)
            to = place(following[i]) if i in following else Place("dX", state)
            launches += tile_step_launches(sizes, i, place(i), W, to, not transpose, precision)
        if need_V:
            states = Place("X" if nb == 1 else "states", nb * state)
            which = first, count, transpose, precision
            launches += tile_gradient_launches(sizes, states, place(first), *which)

    def copy(V: Tensor, X: Tensor, G: Tensor, dX: Tensor, kept: Tensor, *rest: Tensor) -> None:
        outputs = rest[0][scratch.pieces["outputs"]][: p * segment * state]
        first = order[0] - min(segments[0])
        outputs.view(p, segment, d, m)[:, first].copy_(G.view(p, d, m))

    given = dict.fromkeys(("V", "X", "G", "dX"))
    buffers = {"kept": Buffer(kept_sizes(sizes, need_V)), "scratch": scratch}
    recipe = Recipe(launches, given | buffers | {"dV": None}, copy if need_V and nb > 1 else None)
    return PassRecipe(recipe, 0, scratch.size, *_dtypes(dtype), reads_X=need_V and nb == 1)


def _dtypes(dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """Of the product, and of dV, which float16 can't hold."""
    return dtype, torch.float32 if dtype == torch.float16 else dtype


def _order(nb: int, transpose: bool) -> Sequence[int]:
    return range(nb) if transpose else range(nb - 1, -1, -1)
