"""The sweep over large blocks, three launches to a block, in Triton.

    Y = B A,   Z = T Y,   A ← A − Bᵀ Z        block by block

from the last block to the first, or, to apply the transpose, from the first to the last
with Tᵀ. A product is cut into tiles of rows and columns, and its inner dimension into slices,
one to a warp or two, so that short loops and many programs hide the way to memory; Y also into
parts of d, one to a program, which the next launch adds in a fixed order: the same input gives
the same bits.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .triton_launch import Launch, Place, ProductSizes
from .triton_precision import add_product, least_width
from .triton_support import MOST_REGISTERS, PROGRAMS
from .triton_tile_factors import chunk_of


# Triton compiles a kernel anew for arguments that are 1 or a multiple of 16, which is not wanted
# for these.
@triton.jit(do_not_specialize=["nb", "block", "parts", "chunk"])
def rows_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, k)
    p_A,  # (p, d, m), A of product i_p at i_p·stride_A
    p_Y,  # (p, parts, k, m) out: partial sums of Y
    n,
    d,
    m,
    k,
    stride_A,
    nb,
    block,
    parts,
    chunk,
    PRECISION: tl.constexpr,
    SLICES: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of B A, over 128 columns of B or ``chunk`` times as many."""
    across, down = tl.cdiv(m, BM), k // BK
    i_m, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_k, part, i_p = rest % down, (rest // down) % parts, (rest // (down * parts)).to(tl.int64)
    o_k, o_m = i_k * BK + tl.arange(0, BK), (i_m * BM + tl.arange(0, BM)).to(tl.int64)
    o_c = tl.arange(0, SLICES)[:, None] * BC + tl.arange(0, BC)[None, :]
    rows = block * k + o_k
    p_B = p_V + (i_p * n + rows)[None, :, None] * d
    p_A += i_p * stride_A + o_m[None, None, :]
    b_sum = tl.zeros((SLICES, BK, BM), tl.float32)
    # A product by 128 lets the compiler see that rows are loaded from aligned addresses on.
    last = tl.minimum((part + 1) * chunk * 128, d)
    for start in range(part * chunk * 128, last, SLICES * BC):
        columns = start + o_c
        m_B = (rows < n)[None, :, None] & (columns < d)[:, None, :]
        b_B = tl.load(p_B + columns[:, None, :], m_B, 0.0).to(tl.float32)
        m_A = (columns < d)[:, :, None] & (o_m < m)[None, None, :]
        b_A = tl.load(p_A + columns.to(tl.int64)[:, :, None] * m, m_A, 0.0).to(tl.float32)
        b_sum = add_product(b_sum, b_B, b_A, PRECISION)
    b_Y = tl.sum(b_sum, 0) * tl.load(p_scale + (i_p * nb + block) * k + o_k)[:, None]
    o_Y = ((i_p * parts + part) * k + o_k)[:, None] * m + o_m[None, :]
    tl.store(p_Y + o_Y, b_Y, (o_m < m)[None, :])


@triton.jit(do_not_specialize=["nb", "block", "parts"])
def triangle_kernel(
    p_T,  # (p, nb, k, k)
    p_Y,  # (p, parts, k, m)
    p_Z,  # (p, k, m) out, Z of product i_p at i_p·stride_Z
    m,
    k,
    stride_Z,
    nb,
    block,
    parts,
    TRANSPOSE: tl.constexpr,
    PRECISION: tl.constexpr,
    SLICES: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of Z = T Y, or Tᵀ Y, from its side of the diagonal only."""
    across, down = tl.cdiv(m, BM), k // BK
    i_m, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_k, i_p = rest % down, (rest // down).to(tl.int64)
    o_k, o_m = i_k * BK + tl.arange(0, BK), (i_m * BM + tl.arange(0, BM)).to(tl.int64)
    o_c = tl.arange(0, SLICES)[:, None] * BC + tl.arange(0, BC)[None, :]
    STEP: tl.constexpr = SLICES * BC
    p_T += (i_p * nb + block) * k * k
    p_Y += i_p * parts * k * m + o_m[None, None, :]
    m_Y = (o_m < m)[None, None, :]
    if TRANSPOSE:
        first, last = 0, (i_k + 1) * BK
    else:
        first, last = i_k * BK // STEP * STEP, k
    b_sum = tl.zeros((SLICES, BK, BM), tl.float32)
    for start in range(first, last, STEP):
        columns = start + o_c
        if TRANSPOSE:
            m_T = columns[:, None, :] <= o_k[None, :, None]
            b_T = tl.load(p_T + columns[:, None, :] * k + o_k[None, :, None], m_T, 0.0)
        else:
            m_T = columns[:, None, :] >= o_k[None, :, None]
            b_T = tl.load(p_T + o_k[None, :, None] * k + columns[:, None, :], m_T, 0.0)
        b_Y = tl.zeros((SLICES, BC, BM), tl.float32)
        for part in range(parts):
            o_Y = (part * k + columns).to(tl.int64)[:, :, None] * m
            b_Y += tl.load(p_Y + o_Y, m_Y, 0.0)
        b_sum = add_product(b_sum, b_T, b_Y, PRECISION)
    o_Z = i_p * stride_Z + o_k.to(tl.int64)[:, None] * m + o_m[None, :]
    tl.store(p_Z + o_Z, tl.sum(b_sum, 0), (o_m < m)[None, :])


@triton.jit(do_not_specialize=["nb", "block", "first", "copy", "transpose"])
def update_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, k)
    p_A,  # (p, d, m), A of product i_p at i_p·stride_A
    p_Z,  # (p, k, m), Z of product i_p at i_p·stride_Z
    p_states,  # (p, …, d, m) out, if KEEP, those of product i_p at i_p·stride_states
    p_out,  # (p, d, m) out, at i_p·stride_out
    n,
    d,
    m,
    k,
    part,
    stride_A,
    stride_Z,
    stride_states,
    stride_out,
    nb,
    block,
    first,
    copy,
    transpose,
    KEEP: tl.constexpr,
    PRECISION: tl.constexpr,
    SLICES: tl.constexpr,
    BD: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of A − Bᵀ Z, and on the way of the states within the block.

    ``part`` reflectors lie between two states, of which number ``first`` is the first in memory.
    That before the block is there already, or is copied from A if ``copy``.
    """
    across, down = tl.cdiv(m, BM), tl.cdiv(d, BD)
    i_m, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_d, i_p = rest % down, (rest // down).to(tl.int64)
    o_d, o_m = i_d * BD + tl.arange(0, BD), (i_m * BM + tl.arange(0, BM)).to(tl.int64)
    o_c = tl.arange(0, SLICES)[:, None] * BC + tl.arange(0, BC)[None, :]
    p_V += i_p * n * d + o_d[None, :, None]
    p_Z += i_p * stride_Z + o_m[None, None, :]
    p_scale += (i_p * nb + block) * k
    m_A = (o_d < d)[:, None] & (o_m < m)[None, :]
    o_A = o_d.to(tl.int64)[:, None] * m + o_m[None, :]
    b_A = tl.load(p_A + i_p * stride_A + o_A, m_A, 0.0).to(tl.float32)
    p_states += i_p * stride_states + o_A
    end = tl.minimum(k, n - block * k)
    parts = tl.cdiv(end, part)
    at = block * (k // part) - first
    for step in range(parts):
        i = transpose * step + (1 - transpose) * (parts - 1 - step)
        if KEEP:
            m_state = m_A & (step + copy > 0)
            tl.store(p_states + (at + i).to(tl.int64) * d * m, b_A, m_state)
        b_sum = tl.zeros((SLICES, BD, BM), tl.float32)
        for start in range(i * part, tl.minimum(i * part + part, end), SLICES * BC):
            inner = start + o_c
            rows = block * k + inner
            m_B = (rows < n)[:, None, :] & (o_d < d)[None, :, None]
            b_B = tl.load(p_V + rows.to(tl.int64)[:, None, :] * d, m_B, 0.0).to(tl.float32)
            m_Z = (rows < n)[:, :, None] & (o_m < m)[None, None, :]
            b_Z = tl.load(p_Z + inner.to(tl.int64)[:, :, None] * m, m_Z, 0.0)
            b_Z *= tl.load(p_scale + inner)[:, :, None]
            b_sum = add_product(b_sum, b_B, b_Z, PRECISION)
        b_A -= tl.sum(b_sum, 0)
    tl.store(p_out + i_p * stride_out + o_A, b_A, m_A)


class Kept(NamedTuple):
    """Where states within a block are stored, one every ``part`` reflectors."""

    place: Place
    part: int
    first: int  # the number of the first state there
    copy: bool  # whether the state before the block, too, is stored


def tile_step_launches(
    sizes: ProductSizes,
    block: int,
    A: Place,
    Z: Place,
    out: Place,
    transpose: bool,
    precision: str,
    kept: Kept | None = None,
) -> list[Launch]:
    """Apply one block, or its transpose, to A: Z = T B A and out = A − BᵀZ are written.

    They read "V", "scale" and "T" as ``tile_factor_launches`` has them; "Y" is room for partial
    sums, (p, parts, k, m).

    Args:
        A, Z, out: (p, d, m), (p, k, m) and (p, d, m), of which each matrix is contiguous.
        kept: the states to store within the block.
    """
    p, n, d, m, k = sizes
    parts, which = parts_of(p, k, d, m), (sizes.blocks, block)
    states, part, first, copy = kept or Kept(Place("scale", out.stride), k, 0, copy=False)
    which_way = first, int(copy), int(transpose)
    return [
        Launch(
            rows_kernel,
            rows_programs(p, k, m, parts),
            ("V", "scale", A.tensor, "Y"),
            (n, d, m, k, A.stride, *which, parts, chunk_of(d, parts)),
            rows_config(m, precision, sizes.aligned),
        ),
        Launch(
            triangle_kernel,
            triangle_programs(p, k, m),
            ("T", "Y", Z.tensor),
            (m, k, Z.stride, *which, parts),
            {"TRANSPOSE": transpose} | triangle_config(m, precision),
        ),
        Launch(
            update_kernel,
            update_programs(p, d, m),
            ("V", "scale", A.tensor, Z.tensor, states.tensor, out.tensor),
            (n, d, m, k, part, A.stride, Z.stride, states.stride, out.stride, *which, *which_way),
            update_config(m, precision, sizes.aligned, kept is not None),
        ),
    ]


WIDE = 64
"""More columns than this make tiles large; up to it, programs many."""


def parts_of(p: int, k: int, d: int, m: int) -> int:
    """How many programs share the inner dimension d of a tile of Y: 1, 2, 4 or 8."""
    parts = 1
    while parts < 8 and rows_programs(p, k, m, parts) < PROGRAMS and d > 128 * parts:
        parts *= 2
    return parts


def rows_programs(p: int, k: int, m: int, parts: int) -> int:
    """The grid of ``rows_kernel``."""
    config = rows_config(m, "ieee", aligned=True)
    return p * parts * (k // config["BK"]) * triton.cdiv(m, config["BM"])


def triangle_programs(p: int, k: int, m: int) -> int:
    """The grid of ``triangle_kernel``."""
    config = triangle_config(m, "ieee")
    return p * (k // config["BK"]) * triton.cdiv(m, config["BM"])


def update_programs(p: int, d: int, m: int) -> int:
    """The grid of ``update_kernel``."""
    config = update_config(m, "ieee", aligned=True, keep=True)
    return p * triton.cdiv(d, config["BD"]) * triton.cdiv(m, config["BM"])


def rows_config(m: int, precision: str, aligned: bool) -> dict[str, Any]:
    """The constants and options of ``rows_kernel``.

    From more warps where without tensor cores the addresses of sizes that are no multiples of 16
    would spill.
    """
    tile = {"SLICES": 4, "BK": 32, "BC": 16 if precision == "ieee" else 32, "BM": 16}
    if m > WIDE:
        tile = {"SLICES": 4, "BK": 64, "BC": 16, "BM": 32}
    config = {"PRECISION": precision} | tile
    if m > WIDE and precision == "ieee" and not aligned:
        return config | {"num_warps": 16, "maxnreg": None}
    return config | {"num_warps": 4 if m <= WIDE else 8, "maxnreg": MOST_REGISTERS}


def triangle_config(m: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``triangle_kernel``."""
    tile = {"SLICES": 4, "BK": 16, "BC": 32, "BM": max(8, least_width())}
    if m > WIDE:
        tile |= {"BK": 32, "BM": 32}
    config = {"PRECISION": precision} | tile
    return config | {"num_warps": 4, "maxnreg": MOST_REGISTERS}


def update_config(m: int, precision: str, aligned: bool, keep: bool) -> dict[str, Any]:
    """The constants and options of ``update_kernel``.

    From more warps where sums without tensor cores, or the addresses of sizes that are no
    multiples of 16, would spill, and without states (Triton 3.6 on sm_100).
    """
    tile = {"SLICES": 4, "BD": 16, "BC": 32, "BM": max(8, least_width())}
    if m > WIDE:
        tile = {"SLICES": 4, "BD": 32, "BC": 16, "BM": 32}
    config = {"KEEP": keep, "PRECISION": precision} | tile
    warps = 8 if m > WIDE and (precision == "ieee" or not aligned or not keep) else 4
    return config | {"num_warps": warps, "maxnreg": MOST_REGISTERS}
