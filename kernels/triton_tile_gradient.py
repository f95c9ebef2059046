"""The gradient at the reflectors of large blocks, tile by tile, in Triton.

    dB = (F + Fᵀ) B − W Aᵀ − Z Gᵀ,   F = the half triangle of W Zᵀ

as in ``triton_gradient``, in two launches for several parts of blocks: F + Fᵀ, and then one
product of inner size k + 2m. The rows of W and Z that belong to a part of a block are the W and Z
of that part alone, so that k is the size of a part, and A and G are the states around it.
"""

from typing import Any

import triton
import triton.language as tl

from .triton_launch import Launch, Place, ProductSizes
from .triton_precision import add_product
from .triton_support import MOST_REGISTERS
from .triton_tile_factors import TILE


@triton.jit(do_not_specialize=["nb", "first", "count"])
def half_product_kernel(
    p_Z,  # (p, nb, k, m)
    p_W,  # (p, …, k, m), W of product i_p at i_p·stride_W
    p_F,  # (p, count, k, k) out: F + Fᵀ
    m,
    k,
    stride_W,
    nb,
    first,
    count,
    TRANSPOSE: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile: of W Zᵀ, of Z Wᵀ, or, on the diagonal, of either half."""
    tiles = k // TILE
    tile, block = tl.program_id(0) % (tiles * tiles), tl.program_id(0) // (tiles * tiles)
    i, j = tile // tiles, tile % tiles
    i_p, i_b = (block // count).to(tl.int64), block % count
    o_m = tl.arange(0, BM)
    o_i, o_j = i * TILE + tl.arange(0, TILE), j * TILE + tl.arange(0, TILE)
    p_Z += (i_p * nb + first + i_b) * k * m
    p_W += i_p * stride_W + i_b.to(tl.int64) * k * m
    if TRANSPOSE:
        with_WZ, with_ZW = i >= j, i <= j
        in_WZ = o_i[:, None] >= o_j[None, :]
    else:
        with_WZ, with_ZW = i <= j, i >= j
        in_WZ = o_i[:, None] <= o_j[None, :]
    o_left = o_i.to(tl.int64)[:, None] * m
    o_right = o_j.to(tl.int64)[None, :] * m
    b_WZ = tl.zeros((TILE, TILE), tl.float32)
    b_ZW = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, m, BM):
        columns = start + o_m
        m_left, m_right = (columns < m)[None, :], (columns < m)[:, None]
        if with_WZ:
            b_W = tl.load(p_W + o_left + columns[None, :], m_left, 0.0)
            b_Z = tl.load(p_Z + o_right + columns[:, None], m_right, 0.0)
            b_WZ = add_product(b_WZ, b_W, b_Z, PRECISION)
        if with_ZW:
            b_Z = tl.load(p_Z + o_left + columns[None, :], m_left, 0.0)
            b_W = tl.load(p_W + o_right + columns[:, None], m_right, 0.0)
            b_ZW = add_product(b_ZW, b_Z, b_W, PRECISION)
    p_F += (i_p * count + i_b) * k * k
    tl.store(p_F + o_i[:, None] * k + o_j[None, :], tl.where(in_WZ, b_WZ, b_ZW))


@triton.jit(do_not_specialize=["nb", "first", "count"])
def tile_gradient_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, k)
    p_F,  # (p, count, k, k)
    p_A,  # (p, …, d, m), A of product i_p at i_p·stride_A
    p_Z,  # (p, nb, k, m)
    p_G,  # (p, …, d, m), G of product i_p at i_p·stride_G
    p_W,  # (p, …, k, m), W of product i_p at i_p·stride_W
    p_dV,  # (p, n, d) out
    n,
    d,
    m,
    k,
    stride_A,
    stride_G,
    stride_W,
    nb,
    first,
    count,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BD: tl.constexpr,
    BK: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of one part's gradient."""
    down, across = k // TILE, tl.cdiv(d, BD)
    i_d, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_k, i_b = rest % down, (rest // down) % count
    i_p = (rest // (down * count)).to(tl.int64)
    block = i_p * nb + first + i_b
    o_t, o_d = i_k * TILE + tl.arange(0, TILE), i_d * BD + tl.arange(0, BD)
    o_k, o_m = tl.arange(0, BK), tl.arange(0, BM)
    p_Z += block * k * m
    p_W += i_p * stride_W + i_b.to(tl.int64) * k * m
    p_A += i_p * stride_A + (first + i_b).to(tl.int64) * d * m
    p_G += i_p * stride_G + i_b.to(tl.int64) * d * m
    o_Z = o_t.to(tl.int64)[:, None] * m
    o_A = o_d.to(tl.int64)[None, :] * m  # as Aᵀ
    b_dB = tl.zeros((TILE, BD), tl.float32)
    for start in range(0, m, BM):
        columns = start + o_m
        m_Z = (columns < m)[None, :]
        m_A = (columns < m)[:, None] & (o_d < d)[None, :]
        b_W = tl.load(p_W + o_Z + columns[None, :], m_Z, 0.0)
        b_A = tl.load(p_A + o_A + columns[:, None], m_A, 0.0).to(tl.float32)
        b_dB = add_product(b_dB, b_W, b_A, PRECISION)
        b_Z = tl.load(p_Z + o_Z + columns[None, :], m_Z, 0.0)
        b_G = tl.load(p_G + o_A + columns[:, None], m_A, 0.0).to(tl.float32)
        b_dB = add_product(b_dB, b_Z, b_G, PRECISION)
    b_dB = -b_dB

    p_F += (i_p * count + i_b) * k * k + o_t[:, None] * k
    p_scale += block * k
    p_V += i_p * n * d
    i_n = (first + i_b) * k
    for start in range(0, tl.minimum(k, n - i_n), BK):
        inner = start + o_k
        rows = i_n + inner
        b_F = tl.load(p_F + inner[None, :]) * tl.load(p_scale + inner)[None, :]
        m_B = (rows < n)[:, None] & (o_d < d)[None, :]
        b_B = tl.load(p_V + rows.to(tl.int64)[:, None] * d + o_d[None, :], m_B, 0.0)
        b_dB = add_product(
            b_dB, tl.where((rows < n)[None, :], b_F, 0.0), b_B.to(tl.float32), PRECISION
        )
    rows = i_n + o_t
    o_dV = (i_p * n + rows)[:, None] * d + o_d[None, :]
    b_dB *= tl.load(p_scale + o_t)[:, None]
    tl.store(p_dV + o_dV, b_dB, (rows < n)[:, None] & (o_d < d)[None, :])


def tile_gradient_launches(
    sizes: ProductSizes,
    part: int,
    states: Place,
    outputs: Place,
    W: Place,
    first: int,
    count: int,
    transpose: bool,
    precision: str,
) -> list[Launch]:
    """The gradient at the reflectors of some parts of blocks.

    They read "V", "scale", "Z" (p, nb, k, m) of the forward sweep, and write to "dV" (p, n, d),
    float32 or bfloat16; "F" is room for (p, count, part, part).

    Args:
        part: reflectors to a part, as many to a block or fewer.
        states: (p, …, d, m), the state before each part.
        outputs: (p, …, d, m), the gradient at the output of each part, from ``first`` on.
        W: (p, …, part, m) of the reverse sweep, from ``first`` on.
        first, count: which parts.
        transpose: whether the forward sweep applied the transpose.
        precision: of products, as ``tl.dot`` names it.
    """
    p, n, d, m, k = sizes
    which = sizes.blocks * (k // part), first, count
    return [
        Launch(
            half_product_kernel,
            half_programs(p * count, part),
            ("Z", W.tensor, "F"),
            (m, part, W.stride, *which),
            {"TRANSPOSE": transpose} | half_product_config(precision),
        ),
        Launch(
            tile_gradient_kernel,
            gradient_programs(p * count, part, d),
            ("V", "scale", "F", states.tensor, "Z", outputs.tensor, W.tensor, "dV"),
            (n, d, m, part, states.stride, outputs.stride, W.stride, *which),
            tile_gradient_config(d, precision),
        ),
    ]


HALF_TILE = 32
"""Rows and columns of F to a program: of the triangles of four parts 64 programs."""


def half_programs(parts: int, k: int) -> int:
    """The grid of ``half_product_kernel``."""
    return int(parts * (k // HALF_TILE) ** 2)


def gradient_programs(parts: int, k: int, d: int) -> int:
    """The grid of ``tile_gradient_kernel``."""
    return parts * (k // TILE) * triton.cdiv(d, tile_gradient_config(d, "ieee")["BD"])


def half_product_config(precision: str) -> dict[str, Any]:
    """The constants and options of ``half_product_kernel``."""
    config = {"PRECISION": precision, "TILE": HALF_TILE, "BM": 32}
    return config | {"num_warps": 4, "maxnreg": MOST_REGISTERS}


def tile_gradient_config(d: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``tile_gradient_kernel``: for short reflectors more programs."""
    config = {"PRECISION": precision, "TILE": TILE, "BD": 32 if d < 1024 else 64}
    if precision == "ieee":  # whose sums would spill from fewer warps
        return config | {"BK": 16, "BM": 16, "num_warps": 16, "maxnreg": None}
    steps = {"BK": 32, "BM": 32} if d < 1024 else {"BK": 16, "BM": 16}
    return config | steps | {"num_warps": 4, "maxnreg": MOST_REGISTERS}
