"""The sweep over large blocks, three launches to a block, in Triton.

    Y = B A,   Z = T Y,   A ← A − Bᵀ Z        block by block

from the last block to the first, or, to apply the transpose, from the first to the last
with Tᵀ. A product is cut into tiles of rows and columns, and its inner dimension into slices,
one to a warp or two, so that short loops and many programs hide the way to memory; Y also into
parts of d, one to a program, which the next launch adds in a fixed order: the same input gives
the same bits.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from .triton_precision import add_product


# Triton compiles a kernel anew for arguments that are 1 or a multiple of 16, which is not wanted
# for these.
@triton.jit(do_not_specialize=["nb", "block", "chunk"])
def rows_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, K)
    p_A,  # (p, d, m), A of product i_p at i_p·stride_A
    p_Y,  # (p, PARTS, K, m) out: partial sums of Y
    n,
    d,
    m,
    stride_A,
    nb,
    block,
    chunk,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    SLICES: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of B A over ``chunk`` columns of B."""
    across, down = tl.cdiv(m, BM), K // BK
    i_m, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_k, part, i_p = rest % down, (rest // down) % PARTS, (rest // (down * PARTS)).to(tl.int64)
    o_k, o_m = i_k * BK + tl.arange(0, BK), (i_m * BM + tl.arange(0, BM)).to(tl.int64)
    o_c = tl.arange(0, SLICES)[:, None] * BC + tl.arange(0, BC)[None, :]
    rows = block * K + o_k
    p_B = p_V + (i_p * n + rows)[None, :, None] * d
    p_A += i_p * stride_A + o_m[None, None, :]
    b_sum = tl.zeros((SLICES, BK, BM), tl.float32)
    last = tl.minimum(part * chunk + chunk, d)
    for start in range(part * chunk, last, SLICES * BC):
        columns = start + o_c
        m_B = (rows < n)[None, :, None] & (columns < last)[:, None, :]
        b_B = tl.load(p_B + columns[:, None, :], m_B, 0.0).to(tl.float32)
        m_A = (columns < last)[:, :, None] & (o_m < m)[None, None, :]
        b_A = tl.load(p_A + columns.to(tl.int64)[:, :, None] * m, m_A, 0.0).to(tl.float32)
        b_sum = add_product(b_sum, b_B, b_A, PRECISION)
    b_Y = tl.sum(b_sum, 0) * tl.load(p_scale + (i_p * nb + block) * K + o_k)[:, None]
    o_Y = ((i_p * PARTS + part) * K + o_k)[:, None] * m + o_m[None, :]
    tl.store(p_Y + o_Y, b_Y, (o_m < m)[None, :])


@triton.jit(do_not_specialize=["nb", "block"])
def triangle_kernel(
    p_T,  # (p, nb, K, K)
    p_Y,  # (p, PARTS, K, m)
    p_Z,  # (p, K, m) out, Z of product i_p at i_p·stride_Z
    m,
    stride_Z,
    nb,
    block,
    TRANSPOSE: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    SLICES: tl.constexpr,
    BK: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of Z = T Y, or Tᵀ Y, from its side of the diagonal only."""
    across, down = tl.cdiv(m, BM), K // BK
    i_m, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_k, i_p = rest % down, (rest // down).to(tl.int64)
    o_k, o_m = i_k * BK + tl.arange(0, BK), (i_m * BM + tl.arange(0, BM)).to(tl.int64)
    o_c = tl.arange(0, SLICES)[:, None] * BC + tl.arange(0, BC)[None, :]
    STEP: tl.constexpr = SLICES * BC
    p_T += (i_p * nb + block) * K * K
    p_Y += i_p * PARTS * K * m + o_m[None, None, :]
    m_Y = (o_m < m)[None, None, :]
    if TRANSPOSE:
        first, last = 0, (i_k + 1) * BK
    else:
        first, last = i_k * BK // STEP * STEP, K
    b_sum = tl.zeros((SLICES, BK, BM), tl.float32)
    for start in range(first, last, STEP):
        columns = start + o_c
        if TRANSPOSE:
            m_T = columns[:, None, :] <= o_k[None, :, None]
            b_T = tl.load(p_T + columns[:, None, :] * K + o_k[None, :, None], m_T, 0.0)
        else:
            m_T = columns[:, None, :] >= o_k[None, :, None]
            b_T = tl.load(p_T + o_k[None, :, None] * K + columns[:, None, :], m_T, 0.0)
        b_Y = tl.zeros((SLICES, BC, BM), tl.float32)
        for part in range(PARTS):
            o_Y = (part * K + columns).to(tl.int64)[:, :, None] * m
            b_Y += tl.load(p_Y + o_Y, m_Y, 0.0)
        b_sum = add_product(b_sum, b_T, b_Y, PRECISION)
    o_Z = i_p * stride_Z + o_k.to(tl.int64)[:, None] * m + o_m[None, :]
    tl.store(p_Z + o_Z, tl.sum(b_sum, 0), (o_m < m)[None, :])


@triton.jit(do_not_specialize=["nb", "block"])
def update_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, K)
    p_A,  # (p, d, m), A of product i_p at i_p·stride_A
    p_Z,  # (p, K, m), Z of product i_p at i_p·stride_Z
    p_out,  # (p, d, m) out, at i_p·stride_out
    n,
    d,
    m,
    stride_A,
    stride_Z,
    stride_out,
    nb,
    block,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    SLICES: tl.constexpr,
    BD: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes a tile of A − Bᵀ Z."""
    across, down = tl.cdiv(m, BM), tl.cdiv(d, BD)
    i_m, rest = tl.program_id(0) % across, tl.program_id(0) // across
    i_d, i_p = rest % down, (rest // down).to(tl.int64)
    o_d, o_m = i_d * BD + tl.arange(0, BD), (i_m * BM + tl.arange(0, BM)).to(tl.int64)
    o_c = tl.arange(0, SLICES)[:, None] * BC + tl.arange(0, BC)[None, :]
    p_V += i_p * n * d + o_d[None, :, None]
    p_Z += i_p * stride_Z + o_m[None, None, :]
    p_scale += (i_p * nb + block) * K
    b_sum = tl.zeros((SLICES, BD, BM), tl.float32)
    for start in range(0, tl.minimum(K, n - block * K), SLICES * BC):
        inner = start + o_c
        rows = block * K + inner
        m_B = (rows < n)[:, None, :] & (o_d < d)[None, :, None]
        b_B = tl.load(p_V + rows.to(tl.int64)[:, None, :] * d, m_B, 0.0).to(tl.float32)
        m_Z = (rows < n)[:, :, None] & (o_m < m)[None, None, :]
        b_Z = tl.load(p_Z + inner.to(tl.int64)[:, :, None] * m, m_Z, 0.0)
        b_Z *= tl.load(p_scale + inner)[:, :, None]
        b_sum = add_product(b_sum, b_B, b_Z, PRECISION)
    m_A = (o_d < d)[:, None] & (o_m < m)[None, :]
    o_A = o_d.to(tl.int64)[:, None] * m + o_m[None, :]
    b_A = tl.load(p_A + i_p * stride_A + o_A, m_A, 0.0).to(tl.float32)
    tl.store(p_out + i_p * stride_out + o_A, b_A - tl.sum(b_sum, 0), m_A)


def tile_step(
    V: Tensor,
    scale: Tensor,
    T: Tensor,
    block: int,
    A: Tensor,
    Y: Tensor,
    Z: Tensor,
    out: Tensor,
    transpose: bool,
    precision: str,
) -> None:
    """Apply one block, or its transpose, to A: Z = T B A and out = A − BᵀZ are written.

    Args:
        V: reflectors (p, n, d), contiguous; float32, bfloat16 or float16.
        scale, T: of ``tile_factors``, (p, nb, k) and (p, nb, k, k).
        A, Z, out: (p, d, m), (p, k, m) and (p, d, m), of which each matrix is contiguous.
        Y: room for partial sums, (p, parts, k, m), contiguous.
    """
    p, n, d = V.shape
    nb, k, m, parts = T.shape[1], T.shape[-1], A.shape[-1], Y.shape[1]
    config = rows_config(k, m, parts, precision)
    chunk = chunk_of(d, parts)
    rows_kernel[(rows_programs(p, k, m, parts),)](
        *(V, scale, A, Y, n, d, m, A.stride(0), nb, block, chunk), **config
    )
    config = triangle_config(k, m, parts, precision)
    triangle_kernel[(triangle_programs(p, k, m),)](
        T, Y, Z, m, Z.stride(0), nb, block, TRANSPOSE=transpose, **config
    )
    strides = A.stride(0), Z.stride(0), out.stride(0)
    update_kernel[(update_programs(p, d, m),)](
        *(V, scale, A, Z, out, n, d, m, *strides, nb, block), **update_config(k, m, precision)
    )


WIDE = 64
"""More columns than this make tiles large; up to it, programs many."""

PROGRAMS = 128
"""About as many as a large chip has multiprocessors."""


def parts_of(p: int, k: int, d: int, m: int) -> int:
    """How many programs share the inner dimension d of a tile of Y: 1, 2, 4 or 8."""
    parts = 1
    while parts < 8 and rows_programs(p, k, m, parts) < PROGRAMS and d > 128 * parts:
        parts *= 2
    return parts


def chunk_of(d: int, parts: int) -> int:
    """Columns of B to a part, a multiple of 32."""
    return triton.cdiv(d, 32 * parts) * 32


def rows_programs(p: int, k: int, m: int, parts: int) -> int:
    """The grid of ``rows_kernel``."""
    config = rows_config(k, m, parts, "ieee")
    return p * parts * (k // config["BK"]) * triton.cdiv(m, config["BM"])


def triangle_programs(p: int, k: int, m: int) -> int:
    """The grid of ``triangle_kernel``."""
    config = triangle_config(k, m, 1, "ieee")
    return p * (k // config["BK"]) * triton.cdiv(m, config["BM"])


def update_programs(p: int, d: int, m: int) -> int:
    """The grid of ``update_kernel``."""
    config = update_config(16, m, "ieee")
    return p * triton.cdiv(d, config["BD"]) * triton.cdiv(m, config["BM"])


def rows_config(k: int, m: int, parts: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``rows_kernel``."""
    tile = {"SLICES": 4, "BK": 32, "BC": 32, "BM": 16}
    if m > WIDE:
        tile = {"SLICES": 2, "BK": 64, "BC": 16, "BM": 32}
    config = {"PRECISION": precision, "K": k, "PARTS": parts} | tile
    return config | {"num_warps": 4, "maxnreg": None}


def triangle_config(k: int, m: int, parts: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``triangle_kernel``."""
    tile = {"SLICES": 4, "BK": 16, "BC": 32, "BM": 8 if m <= WIDE else 32}
    config = {"PRECISION": precision, "K": k, "PARTS": parts} | tile
    return config | {"num_warps": 4, "maxnreg": None}


def update_config(k: int, m: int, precision: str) -> dict[str, Any]:
    """The constants and options of ``update_kernel``."""
    tile = {"SLICES": 4, "BD": 16, "BC": 32, "BM": 8}
    if m > WIDE:
        tile = {"SLICES": 2, "BD": 32, "BC": 32, "BM": 32}
    return {"PRECISION": precision, "K": k} | tile | {"num_warps": 4, "maxnreg": None}
