"""The UT factors of blocks of 128 to 1024 reflectors, tile by tile, in Triton.

The formulas are those of ``triton_factors``, whose first launch inverts the triangle within 32
rows. Then a program computes a tile of S = BBᵀ above the diagonal, each tile once; those on the
diagonal join two halves of 32 rows. Each doubling after that is

    U = S₁₂T₂,   T₁₂ = −T₁U

two launches over all tiles of all pairs of halves, or one for halves of a tile. Tiles of T below
the diagonal are never written nor read.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_factors import BASE, factors_config, factors_kernel
from .triton_precision import add_product, product

TILE = 64


@triton.jit
def gram_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, K)
    p_S,  # (p, nb, K, K) out: tiles above the diagonal
    p_T,  # (p, nb, K, K): its 32 × 32 tiles on the diagonal are given, those of 64 × 64 are out
    n,
    d,
    nb,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    TILE: tl.constexpr,
    BD: tl.constexpr,
):
    """A program computes one tile of S, or joins two halves of T on the diagonal."""
    TILES: tl.constexpr = K // TILE
    EACH: tl.constexpr = TILES * (TILES + 1) // 2
    tile = tl.program_id(0) % EACH
    block = (tl.program_id(0) // EACH).to(tl.int64)
    j = 0
    while (j + 1) * (j + 2) // 2 <= tile:
        j += 1
    i = tile - j * (j + 1) // 2
    o_t, o_d = tl.arange(0, TILE), tl.arange(0, BD)
    rows, columns = (block % nb) * K + i * TILE + o_t, (block % nb) * K + j * TILE + o_t
    p_B1 = p_V + ((block // nb) * n + rows)[:, None] * d + o_d[None, :]
    p_B2 = p_V + ((block // nb) * n + columns)[None, :] * d + o_d[:, None]
    b_scale1 = tl.load(p_scale + block * K + i * TILE + o_t)[:, None]
    b_scale2 = tl.load(p_scale + block * K + j * TILE + o_t)[None, :]
    b_S = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, d, BD):
        m_d = start + o_d < d
        b_B1 = tl.load(p_B1 + start, (rows < n)[:, None] & m_d[None, :], 0.0).to(tl.float32)
        b_B2 = tl.load(p_B2 + start, (columns < n)[None, :] & m_d[:, None], 0.0).to(tl.float32)
        b_S = add_product(b_S, b_B1 * b_scale1, b_B2 * b_scale2, PRECISION)
    o_S = block * K * K + (i * TILE + o_t[:, None]) * K + j * TILE + o_t[None, :]
    if i == j:
        HALF: tl.constexpr = TILE // 2
        first, second = o_t[:, None] < HALF, o_t[None, :] >= HALF
        # The quarters off the diagonal are not there yet.
        b_T = tl.load(p_T + o_S, first != second, 0.0)
        b_U = product(tl.where(first & second, b_S, 0.0), b_T, PRECISION)
        tl.debug_barrier()  # all threads have read what some now write again
        tl.store(p_T + o_S, b_T - product(b_T, b_U, PRECISION))
    else:
        tl.store(p_S + o_S, b_S)


@triton.jit
def join_strip_kernel(
    p_S,  # (p, nb, K, K)
    p_T,  # (p, nb, K, K), written above the diagonal of each pair
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    HALF: tl.constexpr,
    BC: tl.constexpr,
):
    """A program computes BC columns of T₁₂ = −T₁(S₁₂T₂) for one pair of tiles."""
    STRIPS: tl.constexpr = HALF // BC
    PAIRS: tl.constexpr = K // (2 * HALF)
    strip, pair = tl.program_id(0) % STRIPS, (tl.program_id(0) // STRIPS) % PAIRS
    block = (tl.program_id(0) // (STRIPS * PAIRS)).to(tl.int64)
    at = block * K * K + pair * 2 * HALF * (K + 1)
    o_k, o_c = tl.arange(0, HALF), strip * BC + tl.arange(0, BC)
    o_square = o_k[:, None] * K + o_k[None, :]
    o_strip = o_k[:, None] * K + o_c[None, :]
    b_T2 = tl.load(p_T + at + HALF * (K + 1) + o_strip)
    b_U = product(tl.load(p_S + at + HALF + o_square), b_T2, PRECISION)
    b_T12 = product(tl.load(p_T + at + o_square), b_U, PRECISION)
    tl.store(p_T + at + HALF + o_strip, -b_T12)


@triton.jit
def join_tile_kernel(
    p_S,  # (p, nb, K, K): S above the diagonal, and U below it, out unless SECOND
    p_T,  # (p, nb, K, K), written above the diagonal of each pair if SECOND
    SECOND: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    HALF: tl.constexpr,
    TILE: tl.constexpr,
    BK: tl.constexpr,
):
    """A program computes one tile of U = S₁₂T₂, or if SECOND of T₁₂ = −T₁U, for one pair."""
    TILES: tl.constexpr = HALF // TILE
    PAIRS: tl.constexpr = K // (2 * HALF)
    tile, pair = tl.program_id(0) % (TILES * TILES), (tl.program_id(0) // (TILES * TILES)) % PAIRS
    block = (tl.program_id(0) // (TILES * TILES * PAIRS)).to(tl.int64)
    i, j = tile // TILES, tile % TILES
    at = block * K * K + pair * 2 * HALF * (K + 1)
    o_k = tl.arange(0, BK)
    rows, columns = i * TILE + tl.arange(0, TILE), j * TILE + tl.arange(0, TILE)
    # Of a triangle only the tiles from its diagonal on, which have zeros below it.
    if SECOND:
        first, last = i * TILE, HALF
        p_left, p_right, p_out = p_T + at, p_S + at + HALF * K, p_T + at + HALF
    else:
        first, last = 0, (j + 1) * TILE
        p_left, p_right, p_out = p_S + at + HALF, p_T + at + HALF * (K + 1), p_S + at + HALF * K
    b_sum = tl.zeros((TILE, TILE), tl.float32)
    for start in range(first, last, BK):
        b_left = tl.load(p_left + rows[:, None] * K + start + o_k[None, :])
        b_right = tl.load(p_right + (start + o_k)[:, None] * K + columns[None, :])
        b_sum = add_product(b_sum, b_left, b_right, PRECISION)
    if SECOND:
        b_sum = -b_sum
    tl.store(p_out + rows[:, None] * K + columns[None, :], b_sum)


def tile_factors(V: Tensor, k: int, precision: str) -> tuple[Tensor, Tensor]:
    """The UT factors of blocks of k reflectors.

    Args:
        V: reflectors as rows, shape (p, n, d), contiguous; float32, bfloat16 or
            float16. Zero rows are allowed.
        k: block size, one of ``triton_support.TILED_BLOCK_SIZES``. A last block that is not
            full is filled with rows of zeros.
        precision: of products, as ``tl.dot`` names it.

    Returns:
        What the rows have to be multiplied with, shape (p, ⌈n/k⌉, k), and T of the multiplied
        rows, shape (p, ⌈n/k⌉, k, k), of no meaning below the diagonal; both float32.
    """
    p, n, d = V.shape
    nb = triton.cdiv(n, k)
    scale = torch.empty(p, nb, k, dtype=torch.float32, device=V.device)
    T = scale.new_empty(p, nb, k, k)
    S = torch.empty_like(T)
    factors_kernel[(p * nb * k // BASE,)](V, scale, T, n, d, **factors_config(k))
    config = gram_config(k, precision)
    gram_kernel[(p * nb * tiles_above(k),)](V, scale, S, T, n, d, nb, **config)
    half = TILE
    while half < k:
        pairs = p * nb * k // (2 * half)
        if half == TILE:
            config = strip_config(k, half, precision)
            join_strip_kernel[(pairs * half // config["BC"],)](S, T, **config)
        else:
            config, tiles = join_tile_config(k, half, precision), (half // TILE) ** 2
            join_tile_kernel[(pairs * tiles,)](S, T, SECOND=False, **config)
            join_tile_kernel[(pairs * tiles,)](S, T, SECOND=True, **config)
        half *= 2
    return scale, T


def tiles_above(k: int) -> int:
    """Tiles of S above the diagonal and on it."""
    return (k // TILE) * (k // TILE + 1) // 2


def gram_config(k: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``gram_kernel``."""
    config = {"PRECISION": precision, "K": k, "TILE": TILE, "BD": 32}
    return config | {"num_warps": 8, "maxnreg": None}


def strip_config(k: int, half: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``join_strip_kernel``."""
    config = {"PRECISION": precision, "K": k, "HALF": half, "BC": 16}
    return config | {"num_warps": 4, "maxnreg": None}


def join_tile_config(k: int, half: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``join_tile_kernel``."""
    config = {"PRECISION": precision, "K": k, "HALF": half, "TILE": TILE, "BK": 32}
    return config | {"num_warps": 4, "maxnreg": None}
