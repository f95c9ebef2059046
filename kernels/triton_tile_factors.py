"""The UT factors of blocks of 128 to 1024 reflectors, tile by tile, in Triton.

The same T as in ``triton_factors``. First a program computes what to multiply some rows with;
then one a tile of S = BBᵀ on or above the diagonal, or its share of some columns of B, which
those who read S add in a fixed order; then one inverts the triangle of a tile on the diagonal.
Each doubling after that is

    U = S₁₂T₂,   T₁₂ = −T₁U

two launches over all tiles of all pairs of halves, or one for halves of a tile. Tiles of T below
the diagonal are never written nor read.
"""

from typing import Any

import triton
import triton.language as tl

from .triton_factors import inverse_of_half_triangle, inverse_power_of_two
from .triton_launch import Launch, ProductSizes
from .triton_precision import add_product, least_width, product
from .triton_support import LEAST_PROGRAMS, MOST_REGISTERS, PROGRAMS

TILE = 64


@triton.jit
def scale_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, k) out: what to multiply the rows with
    n,
    d,
    spread,  # nb·k
    BK: tl.constexpr,
    BD: tl.constexpr,
):
    """A program reads BK rows; those that only fill the last block count as zero."""
    each = spread // BK
    i_k, i_p = tl.program_id(0) % each, (tl.program_id(0) // each).to(tl.int64)
    rows, o_d = i_k * BK + tl.arange(0, BK), tl.arange(0, BD)
    p_V += (i_p * n + rows)[:, None] * d + o_d[None, :]
    b_largest = tl.zeros((BK,), tl.float32)
    for start in range(0, d, BD):
        m_V = (rows < n)[:, None] & (start + o_d < d)[None, :]
        b_V = tl.load(p_V + start, m_V, 0.0).to(tl.float32)
        b_largest = tl.maximum(b_largest, tl.max(tl.abs(b_V), 1))
    tl.store(p_scale + i_p * spread + rows, inverse_power_of_two(b_largest))


# Triton compiles a kernel anew for arguments that are 1 or a multiple of 16, which is wanted for
# n and d alone; k and half are always multiples of 64.
@triton.jit(do_not_specialize=["nb", "parts", "chunk"])
def gram_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, k)
    p_S,  # (parts, p, nb, k, k) out: tiles above the diagonal and on it
    n,
    d,
    k,
    spread,  # p·nb·k
    nb,
    parts,
    chunk,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BD: tl.constexpr,
):
    """A program computes one tile of S, over 128 columns of B or ``chunk`` times as many."""
    each = (k // TILE) * (k // TILE + 1) // 2
    tile, rest = tl.program_id(0) % each, tl.program_id(0) // each
    part, block = rest % parts, (rest // parts).to(tl.int64)
    j = 0
    while (j + 1) * (j + 2) // 2 <= tile:
        j += 1
    i = tile - j * (j + 1) // 2
    o_t, o_d = tl.arange(0, TILE), tl.arange(0, BD)
    rows, columns = (block % nb) * k + i * TILE + o_t, (block % nb) * k + j * TILE + o_t
    p_B1 = p_V + ((block // nb) * n + rows)[:, None] * d + o_d[None, :]
    p_B2 = p_V + ((block // nb) * n + columns)[None, :] * d + o_d[:, None]
    b_scale1 = tl.load(p_scale + block * k + i * TILE + o_t)[:, None]
    b_scale2 = tl.load(p_scale + block * k + j * TILE + o_t)[None, :]
    b_S = tl.zeros((TILE, TILE), tl.float32)
    # A product by 128 lets the compiler see that rows are loaded from aligned addresses on.
    for start in range(part * chunk * 128, tl.minimum((part + 1) * chunk * 128, d), BD):
        m_d = start + o_d < d
        b_B1 = tl.load(p_B1 + start, (rows < n)[:, None] & m_d[None, :], 0.0).to(tl.float32)
        b_B2 = tl.load(p_B2 + start, (columns < n)[None, :] & m_d[:, None], 0.0).to(tl.float32)
        b_S = add_product(b_S, b_B1 * b_scale1, b_B2 * b_scale2, PRECISION)
    o_S = (part * spread.to(tl.int64) + block * k) * k + (i * TILE + o_t[:, None]) * k + j * TILE
    tl.store(p_S + o_S + o_t[None, :], b_S)


@triton.jit
def added(p_S, stride, parts):
    """The sum of what is at these addresses in each of the parts of S."""
    b_S = tl.load(p_S)
    for part in range(1, parts):
        b_S += tl.load(p_S + part * stride)
    return b_S


@triton.jit(do_not_specialize=["parts"])
def invert_kernel(
    p_S,  # (parts, p, nb, k, k)
    p_T,  # (p, nb, k, k) out: tiles of 2·HALF rows on the diagonal
    k,
    spread,
    parts,
    PRECISION: tl.constexpr,
    HALF: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """A program inverts the triangle of one tile: two halves at once, then both as one."""
    tiles, stride = k // (2 * HALF), spread.to(tl.int64) * k
    i, block = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)
    o_k, o_half = tl.arange(0, HALF), tl.arange(0, 2)[:, None, None]
    o_S = block * k * k + i * 2 * HALF * (k + 1) + o_k[:, None] * k + o_k[None, :]
    o_halves = o_half * HALF * (k + 1) + o_S[None, :, :]
    b_T = inverse_of_half_triangle(added(p_S + o_halves, stride, parts), HALF, LEVELS)
    tl.store(p_T + o_halves, b_T)
    b_T1, b_T2 = (
        tl.sum(tl.where(o_half == 0, b_T, 0.0), 0),
        tl.sum(tl.where(o_half == 1, b_T, 0.0), 0),
    )
    b_U = product(added(p_S + HALF + o_S, stride, parts), b_T2, PRECISION)
    tl.store(p_T + HALF + o_S, -product(b_T1, b_U, PRECISION))
    tl.store(p_T + HALF * k + o_S, tl.zeros((HALF, HALF), tl.float32))


@triton.jit(do_not_specialize=["parts"])
def join_strip_kernel(
    p_S,  # (parts, p, nb, k, k)
    p_T,  # (p, nb, k, k), written above the diagonal of each pair
    k,
    spread,
    parts,
    PRECISION: tl.constexpr,
    HALF: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
):
    """A program computes BR rows of BC columns of T₁₂ = −T₁(S₁₂T₂) for one pair of tiles."""
    ACROSS: tl.constexpr = HALF // BC
    EACH: tl.constexpr = HALF // BR * ACROSS
    pairs = k // (2 * HALF)
    strip, pair = tl.program_id(0) % EACH, (tl.program_id(0) // EACH) % pairs
    block = (tl.program_id(0) // (EACH * pairs)).to(tl.int64)
    at = block * k * k + pair * 2 * HALF * (k + 1)
    o_k = tl.arange(0, HALF)
    o_r, o_c = strip // ACROSS * BR + tl.arange(0, BR), strip % ACROSS * BC + tl.arange(0, BC)
    b_T2 = tl.load(p_T + at + HALF * (k + 1) + o_k[:, None] * k + o_c[None, :])
    o_S = at + HALF + o_k[:, None] * k + o_k[None, :]
    b_U = product(added(p_S + o_S, spread.to(tl.int64) * k, parts), b_T2, PRECISION)
    b_T1 = tl.load(p_T + at + o_r[:, None] * k + o_k[None, :])
    o_T12 = at + HALF + o_r[:, None] * k + o_c[None, :]
    tl.store(p_T + o_T12, -product(b_T1, b_U, PRECISION))


@triton.jit(do_not_specialize=["parts"])
def join_tile_kernel(
    p_S,  # (parts, p, nb, k, k): S above the diagonal, and U below that of one, out unless SECOND
    p_T,  # (p, nb, k, k), written above the diagonal of each pair if SECOND
    k,
    half,
    spread,
    parts,
    SECOND: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BK: tl.constexpr,
):
    """A program computes one tile of U = S₁₂T₂, or if SECOND of T₁₂ = −T₁U, for one pair."""
    tiles, pairs = half // TILE, k // (2 * half)
    tile, rest = tl.program_id(0) % (tiles * tiles), tl.program_id(0) // (tiles * tiles)
    pair, block = rest % pairs, (rest // pairs).to(tl.int64)
    i, j = tile // tiles, tile % tiles
    at = block * k * k + pair * 2 * half * (k + 1)
    o_k = tl.arange(0, BK)
    rows, columns = i * TILE + tl.arange(0, TILE), j * TILE + tl.arange(0, TILE)
    # Of a triangle only the BK columns or rows from its diagonal on, which have zeros below it.
    if SECOND:
        first, last = i * TILE // BK * BK, half
        p_left, p_right, p_out = p_T + at, p_S + at + half * k, p_T + at + half
    else:
        first, last = 0, (j + 1) * TILE
        p_left, p_right, p_out = p_S + at + half, p_T + at + half * (k + 1), p_S + at + half * k
    b_sum = tl.zeros((TILE, TILE), tl.float32)
    for start in range(first, last, BK):
        p_tile = p_left + rows[:, None] * k + start + o_k[None, :]
        b_left = added(p_tile, spread.to(tl.int64) * k, 1 if SECOND else parts)
        b_right = tl.load(p_right + (start + o_k)[:, None] * k + columns[None, :])
        b_sum = add_product(b_sum, b_left, b_right, PRECISION)
    if SECOND:
        b_sum = -b_sum
    tl.store(p_out + rows[:, None] * k + columns[None, :], b_sum)


def tile_factor_launches(sizes: ProductSizes, precision: str) -> list[Launch]:
    """The UT factors of blocks of k reflectors, one of ``triton_support.TILED_BLOCK_SIZES``.

    They read "V" and write what its rows have to be multiplied with, "scale" (p, nb, k), and "T"
    (p, nb, k, k) of the multiplied rows, of no meaning below the diagonal; "S" is room for
    ``gram_size`` numbers. A last block that is not full is filled with rows of zeros.

    Args:
        precision: of products, as ``tl.dot`` names it.
    """
    p, n, d, _, k = sizes
    nb, parts = sizes.blocks, gram_parts(sizes)
    blocks, scale = p * nb, scale_config()
    spread = blocks * k
    launches = [
        Launch(scale_kernel, spread // scale["BK"], ("V", "scale"), (n, d, nb * k), scale),
        Launch(
            gram_kernel,
            blocks * tiles_above(k) * parts,
            ("V", "scale", "S"),
            (n, d, k, spread, nb, parts, chunk_of(d, parts)),
            gram_config(precision),
        ),
        Launch(
            *(invert_kernel, spread // TILE, ("S", "T")),
            *((k, spread, parts), invert_config(precision)),
        ),
    ]
    half = TILE
    while half < k:
        pairs = blocks * k // (2 * half)
        if half == TILE:
            config = strip_config(pairs, precision)
            grid = pairs * (half // config["BR"]) * (half // config["BC"])
            launches.append(Launch(join_strip_kernel, grid, ("S", "T"), (k, spread, parts), config))
        else:
            config = join_tile_config(pairs, half, precision)
            grid, arguments = pairs * (half // config["TILE"]) ** 2, (k, half, spread, parts)
            launches += [
                Launch(join_tile_kernel, grid, ("S", "T"), arguments, {"SECOND": second} | config)
                for second in (False, True)
            ]
        half *= 2
    return launches


def gram_size(sizes: ProductSizes) -> int:
    """Numbers in S, with all of its parts."""
    return gram_parts(sizes) * sizes.p * sizes.blocks * sizes.k**2


def gram_parts(sizes: ProductSizes) -> int:
    """How many programs share the inner dimension d of a tile of S: 1, 2 or 4."""
    tiles, parts = sizes.p * sizes.blocks * tiles_above(sizes.k), 1
    while parts < 4 and tiles * parts < 4 * PROGRAMS and sizes.d > 128 * parts:
        parts *= 2
    return parts


def chunk_of(d: int, parts: int) -> int:
    """Columns of B to a part, by 128."""
    return int(triton.cdiv(d, 128 * parts))


def tiles_above(k: int) -> int:
    """Tiles of S above the diagonal and on it."""
    return (k // TILE) * (k // TILE + 1) // 2


def scale_config() -> dict[str, Any]:
    """The constants and options of ``scale_kernel``."""
    return {"BK": 8, "BD": 256, "num_warps": 4, "maxnreg": None}


def invert_config(precision: str) -> dict[str, Any]:
    """The constants and options of ``invert_kernel``."""
    half = TILE // 2
    config = {"PRECISION": precision, "HALF": half, "LEVELS": half.bit_length() - 1}
    return config | {"num_warps": 4, "maxnreg": MOST_REGISTERS}


def gram_config(precision: str) -> dict[str, Any]:
    """The constants and options of ``gram_kernel``: without tensor cores 4 warps would spill."""
    config = {"PRECISION": precision, "TILE": TILE}
    if precision == "ieee":
        return config | {"BD": 16, "num_warps": 8, "maxnreg": MOST_REGISTERS}
    return config | {"BD": 32, "num_warps": 4, "maxnreg": MOST_REGISTERS}


def strip_config(pairs: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``join_strip_kernel``: of few pairs smaller strips.

    Half the rows do not halve the work, as both halves need U.
    """
    narrow = max(8, least_width())
    shapes = (TILE, 16), (TILE, narrow), (TILE // 2, narrow)
    enough = ((r, c) for r, c in shapes if pairs * (TILE // r) * (TILE // c) >= LEAST_PROGRAMS)
    rows, columns = next(enough, shapes[-1])
    config = {"PRECISION": precision, "HALF": TILE, "BR": rows, "BC": columns}
    return config | {"num_warps": 4, "maxnreg": MOST_REGISTERS}


def join_tile_config(pairs: int, half: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``join_tile_kernel``: of few pairs smaller tiles."""
    tile = 32 if pairs * (half // 32) ** 2 >= LEAST_PROGRAMS else 16
    config = {"PRECISION": precision, "TILE": tile, "BK": 32}
    return config | {"num_warps": 4, "maxnreg": MOST_REGISTERS}
