"""Recipes for large compact-WY blocks by tiles, in Triton: for d above 256.

No step waits for another inside a block of 128 to 1024 reflectors: see ``triton_tile_factors``
for T, ``triton_tile_sweep`` for the three launches that apply a block, and
``triton_tile_gradient``. A state is kept every ``part_of`` reflectors, and none where there are no
more, since it is the input: at most twice as many numbers as V has, or with more columns than
``NARROW`` as many as the blocks ask for. The gradients at outputs are kept for two times
``SEGMENT`` blocks at a time.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

from .triton_launch import Buffer, Launch, PassRecipe, Place, ProductSizes, Recipe
from .triton_tile_factors import gram_size, tile_factor_launches
from .triton_tile_gradient import tile_gradient_launches
from .triton_tile_sweep import Kept, parts_of, tile_step_launches

SEGMENT = 4
"""Blocks whose gradients are computed at once."""

PART, NARROW = 128, 256
"""Reflectors from one kept state to the next, for at most so many columns."""


def part_of(k: int, m: int) -> int:
    """Reflectors from one kept state to the next: fewer make the gradient at V cheaper."""
    return PART if m <= NARROW else k


def kept_sizes(sizes: ProductSizes, keep: bool) -> dict[str, int]:
    """The pieces of the buffer that the forward pass returns."""
    p, n, d, m, k = sizes
    blocks = p * sizes.blocks
    states = -(-n // part_of(k, m))
    return {
        "scale": blocks * k,  # (p, nb, k) rows are multiplied with this
        "T": blocks * k * k,  # (p, nb, k, k) UT factors
        # (p, states, d, m) A, the input of every part where there are several
        "states": p * states * d * m if keep and states > 1 else 0,
        "Z": blocks * k * m if keep else 0,  # (p, nb, k, m) T B A
    }


def forward_pass(
    sizes: ProductSizes, dtype: torch.dtype, transpose: bool, keep: bool, precision: str
) -> PassRecipe:
    """Writes the product and what is kept."""
    p, n, d, m, k = sizes
    nb, state, part = sizes.blocks, d * m, part_of(k, m)
    states = -(-n // part)
    kept = Buffer(kept_sizes(sizes, keep))
    room = {"S": gram_size(sizes), "Y": p * parts_of(p, k, d, m) * k * m}
    if not keep:
        room |= {"passing": min(nb - 1, 2) * p * state, "one": p * k * m}
    scratch, order = Buffer(room), _order(nb, transpose)
    all_states = Place("states", states * state)

    def place(i: int) -> Place:
        """Of the state before a block."""
        if i == order[0]:
            return Place("X", state)
        if keep:
            first = _first_part(sizes, i, part, transpose)
            return Place(("states", first * state), states * state)
        return Place(("passing", i % 2 % (nb - 1) * p * state), state)

    launches = tile_factor_launches(sizes, precision)
    for i, j in zip(order, [*order[1:], None], strict=True):
        Z = Place(("Z", i * k * m), nb * k * m) if keep else Place("one", k * m)
        to = Place("out", state) if j is None else place(j)
        stored = Kept(all_states, part, 0, i == order[0]) if keep and states > 1 else None
        launches += tile_step_launches(sizes, i, place(i), Z, to, transpose, precision, stored)
    given = {"V": None, "X": None, "out": None, "kept": kept, "scratch": scratch}
    return PassRecipe(Recipe(launches, given), kept.size, scratch.size, *_dtypes(dtype))


def backward_pass(
    sizes: ProductSizes, dtype: torch.dtype, transpose: bool, need_V: bool, precision: str
) -> PassRecipe:
    """Writes the gradients at X and V.

    The gradients at the outputs of the parts of a segment lie together. Segments have two places
    in turn, as the last block of one writes into the place of the next.
    """
    p, n, d, m, k = sizes
    nb, state, part = sizes.blocks, d * m, part_of(k, m)
    states, each = -(-n // part), k // part
    segment = min(nb, SEGMENT if need_V else 1)
    order = _order(nb, not transpose)
    segments = [order[start : start + segment] for start in range(0, nb, segment)]
    keep = need_V and states > 1
    room = {"Y": p * parts_of(p, k, d, m) * k * m, "W": p * segment * k * m}
    if need_V:
        room["F"] = p * segment * each * part * part
    most = min(states, segment * each) if keep else 1  # gradients at outputs in a segment
    if keep or nb > 1:
        room["outputs"] = min(len(segments), 2) * p * most * state
    scratch = Buffer(room)

    def outputs(turn: int, part: int = 0) -> Place:
        """Of the gradients at the outputs of the parts of a segment, from one of them on."""
        return Place(("outputs", (turn % 2 * p * most + part) * state), most * state)

    def place(i: int) -> Place:
        """Of the gradient at the output of a block."""
        if i == order[0]:
            return Place("G", state)
        turn = order.index(i) // segment
        if not keep:
            return outputs(turn)
        first = _first_part(sizes, i, part, not transpose)
        return outputs(turn, first - min(segments[turn]) * each)

    launches: list[Launch] = []
    following = dict(pairwise(order))
    for turn, blocks in enumerate(segments):
        first, count = min(blocks), len(blocks)
        stride_W = count * k * m
        for i in blocks:
            W = Place(("W", (i - first) * k * m), stride_W)
            to = place(following[i]) if i in following else Place("dX", state)
            stored = Kept(outputs(turn), part, first * each, i == order[0]) if keep else None
            step = sizes, i, place(i), W, to, not transpose, precision, stored
            launches += tile_step_launches(*step)
        if need_V:
            inputs = Place("states", states * state) if keep else Place("X", state)
            ends = outputs(turn) if keep else Place("G", state)
            number = min(states - first * each, count * each)
            which = first * each, number
            launches += tile_gradient_launches(
                *(sizes, part, inputs, ends, Place("W", stride_W)), *which, transpose, precision
            )

    given = dict.fromkeys(("V", "X", "G", "dX"))
    buffers = {"kept": Buffer(kept_sizes(sizes, need_V)), "scratch": scratch}
    recipe = Recipe(launches, given | buffers | {"dV": None})
    return PassRecipe(recipe, 0, scratch.size, *_dtypes(dtype), reads_X=need_V and not keep)


def _dtypes(dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """Of the product, and of dV, which float16 can't hold."""
    return dtype, torch.float32 if dtype == torch.float16 else dtype


def _order(nb: int, transpose: bool) -> Sequence[int]:
    return range(nb) if transpose else range(nb - 1, -1, -1)


def _first_part(sizes: ProductSizes, block: int, part: int, transpose: bool) -> int:
    """Index, over all blocks, of the first part of a block in the order of a sweep."""
    if transpose:
        return block * (sizes.k // part)
    return -(-min(sizes.n, (block + 1) * sizes.k) // part) - 1
