"""Products of reflectors in large compact-WY blocks by tiles, in Triton: for d above 256.

No step waits for another inside a block of 128 to 1024 reflectors: see ``triton_tile_factors``
for T, ``triton_tile_sweep`` for the three launches that apply a block, and
``triton_tile_gradient``. What is kept is bounded: with one block no state at all, since it is
the input; with several, one state a block of at least n/8, while the gradients at outputs are
kept for ``SEGMENT`` blocks at a time. Nothing waits for the device.

Shapes: V (p, n, d) and X (p, d, m) in float32, bfloat16 or float16; all that is
computed, products and gradients too, is float32.
"""

from typing import NamedTuple

import triton
from torch import Tensor

from .triton_precision import precision
from .triton_support import current
from .triton_tile_factors import tile_factors
from .triton_tile_gradient import tile_gradient
from .triton_tile_sweep import parts_of, tile_step

SEGMENT = 4
"""Blocks whose gradients at the outputs are kept at once."""


class SavedTiles(NamedTuple):
    """Saved by the forward pass for the backward pass."""

    T: Tensor  # (p, nb, k, k) UT factors
    inputs: Tensor  # (p, nb, d, m) A, the input of every block; empty if there is one, or unasked
    Z: Tensor  # (p, nb, k, m) T B A; empty if V needs no gradient
    scale: Tensor  # (p, nb, k) rows are multiplied with this


def forward(V: Tensor, X: Tensor, k: int, transpose: bool, keep: bool) -> tuple[Tensor, SavedTiles]:
    """H(v₁)⋯H(vₙ) X, or its transpose applied, and what the backward pass needs.

    Args:
        V: reflectors (p, n, d); a row of zeros is the identity.
        X: (p, d, m).
        k: block size, one of ``triton_support.TILED_BLOCK_SIZES``; it need not divide n.
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether V will need a gradient.
    """
    V, X = V.contiguous(), X.contiguous()
    mode, (p, n, d), m = precision(V.dtype), V.shape, X.shape[-1]
    nb = triton.cdiv(n, k)
    with current(V.device):
        scale, T = tile_factors(V, k, mode)
        out = scale.new_empty(p, d, m)
        inputs = scale.new_empty(p, nb if keep and nb > 1 else 0, d, m)
        Z = scale.new_empty(p, nb if keep else 1, k, m)
        places = inputs if keep else scale.new_empty(p, min(nb - 1, 2), d, m)
        Y = scale.new_empty(p, parts_of(p, k, d, m), k, m)
        order = _order(nb, transpose)
        A = X
        if keep and nb > 1:
            A = inputs[:, order[0]].copy_(X)
        for i, j in zip(order, [*order[1:], None], strict=True):
            to = out if j is None else places[:, j if keep else j % places.shape[1]]
            tile_step(V, scale, T, i, A, Y, Z[:, i if keep else 0], to, transpose, mode)
            A = to
    return out, SavedTiles(T, inputs, Z if keep else Z[:, :0], scale)


def backward(
    V: Tensor, X: Tensor, G: Tensor, saved: SavedTiles, transpose: bool, need_V: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients with respect to V (p, n, d) and X (p, d, m), given that at the output."""
    T, inputs, Z, scale = saved
    V, G, mode = V.contiguous(), G.contiguous(), precision(V.dtype)
    (p, n, d), m, (nb, k) = V.shape, G.shape[-1], T.shape[1:3]
    segment = min(nb, SEGMENT if need_V else 1)
    with current(V.device):
        dX = scale.new_empty(p, d, m)
        dV = scale.new_empty(p, n, d) if need_V else None
        W = scale.new_empty(p, segment, k, m)
        Y = scale.new_empty(p, parts_of(p, k, d, m), k, m)
        # A place more for the gradient at the output of the next segment's first block.
        outputs = G.unsqueeze(1) if nb == 1 else scale.new_empty(p, segment + 1, d, m)
        states = X.contiguous().unsqueeze(1) if nb == 1 else inputs
        order = _order(nb, not transpose)
        A = G
        for start in range(0, nb, segment):
            part = order[start : start + segment]
            first = min(part)
            if nb > 1 and need_V:
                A = outputs[:, part[0] - first].copy_(A)
            for i, j in zip(part, [*part[1:], None], strict=True):
                following = i % 2 if not need_V else segment if j is None else j - first
                to = dX if i == order[-1] else outputs[:, following]
                tile_step(V, scale, T, i, A, Y, W[:, i - first], to, not transpose, mode)
                A = to
            if dV is not None:
                w = W[:, : len(part)].contiguous()
                ends = states, Z, outputs, w
                tile_gradient(dV, V, scale, *ends, first, len(part), transpose, mode)
    return dV, dX


def _order(nb: int, transpose: bool) -> range:
    return range(nb) if transpose else range(nb - 1, -1, -1)
