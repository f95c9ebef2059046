"""The UT factors of small blocks, in Triton: one launch, and another for blocks of 64.

The same T as in ``ut``: T⁻¹ = S with S = striu(BBᵀ) + ½ diag(BBᵀ). Rows are brought
to unit size by powers of two, which is exact, and always: to look first whether any
needs it would stall the device. The triangle is inverted by doubling,

    [S₁  S₁₂]⁻¹     [T₁  −T₁ S₁₂ T₂]
    [    S₂ ]    =  [      T₂      ],   S₁₂ = B₁B₂ᵀ,

first within 32 rows at most, in registers, then for the two halves of a block of 64.
"""

from typing import Any

import triton
import triton.language as tl

from .triton_launch import Launch, ProductSizes
from .triton_support import MOST_REGISTERS

# A block whose triangle one program inverts in registers.
BASE = 32


@triton.jit
def inverse_power_of_two(b_x):
    """2⁻ᵉ for numbers of magnitude 2ᵉ, from the exponent bits; finite and above zero for all."""
    exponent = (b_x.to(tl.int32, bitcast=True) >> 23) & 0xFF
    flipped = tl.minimum(tl.maximum(254 - exponent, 1), 254)
    return (flipped << 23).to(tl.float32, bitcast=True)


@triton.jit
def inverse_of_half_triangle(b_S, K: tl.constexpr, LEVELS: tl.constexpr):
    """The inverse of striu(S) + ½ diag(S); where S has a zero on the diagonal, a row drops out."""
    i, j = tl.arange(0, K)[:, None], tl.arange(0, K)[None, :]
    # A zero row has a zero on the diagonal; any other number there lets it drop out.
    b_T = tl.where(i == j, 2.0 / tl.where(b_S == 0, 2.0, b_S), 0.0)
    for level in range(LEVELS):
        joined = ((i >> level) ^ (j >> level)) == 1  # the two halves of a pair
        b_new = tl.where(joined & (i < j), b_S, 0.0)
        b_new = tl.dot(b_T, b_new, input_precision="ieee")
        b_T -= tl.dot(b_new, b_T, input_precision="ieee")
    return b_T


@triton.jit
def factors_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb·SPLIT, K) out: what to multiply the rows with
    p_T,  # (p, nb, SPLIT·K, SPLIT·K) out: SPLIT blocks on the diagonal
    n,
    d,
    K: tl.constexpr,
    SPLIT: tl.constexpr,
    BD: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """A program inverts the triangle of K rows."""
    block, in_one = tl.program_id(0), tl.cdiv(n, SPLIT * K) * SPLIT
    i_b, i_p = block % in_one, (block // in_one).to(tl.int64)
    block = block.to(tl.int64)
    o_k, o_d = tl.arange(0, K), tl.arange(0, BD)
    rows = i_b * K + o_k
    m_rows = (rows < n)[:, None]
    p_B = p_V + (i_p * n + rows)[:, None] * d + o_d[None, :]

    b_largest = tl.zeros((K,), tl.float32)
    for start in range(0, d, BD):
        b_B = tl.load(p_B + start, m_rows & (start + o_d < d)[None, :], 0.0).to(tl.float32)
        b_largest = tl.maximum(b_largest, tl.max(tl.abs(b_B), 1))
    b_scale = inverse_power_of_two(b_largest)
    tl.store(p_scale + block * K + o_k, b_scale)

    b_S = tl.zeros((K, K), tl.float32)
    for start in range(0, d, BD):
        b_B = tl.load(p_B + start, m_rows & (start + o_d < d)[None, :], 0.0).to(tl.float32)
        b_B = b_B * b_scale[:, None]
        b_S = tl.dot(b_B, tl.trans(b_B), b_S, input_precision="ieee")

    b_T = inverse_of_half_triangle(b_S, K, LEVELS)
    WIDTH: tl.constexpr = SPLIT * K
    at = (i_b % SPLIT) * K
    p_T += (block // SPLIT) * WIDTH * WIDTH
    tl.store(p_T + (at + o_k[:, None]) * WIDTH + at + o_k[None, :], b_T)


@triton.jit
def join_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, pairs·2·HALF)
    p_T,  # (p, nb, SPLIT·2·HALF, SPLIT·2·HALF), written above the diagonal of each pair
    n,
    d,
    HALF: tl.constexpr,
    SPLIT: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
):
    """A program computes BC columns of −T₁(B₁(B₂ᵀT₂)) for one pair of halves."""
    tiles, in_one = HALF // BC, tl.cdiv(n, SPLIT * 2 * HALF) * SPLIT
    pair = tl.program_id(0) // tiles
    i_b, i_p = pair % in_one, (pair // in_one).to(tl.int64)
    pair = pair.to(tl.int64)
    o_k, o_d = tl.arange(0, HALF), tl.arange(0, BD)
    o_c = (tl.program_id(0) % tiles) * BC + tl.arange(0, BC)
    rows = i_b * 2 * HALF + o_k
    p_B1 = p_V + (i_p * n + rows)[:, None] * d + o_d[None, :]
    p_B2 = p_B1 + HALF * d
    m_1, m_2 = (rows < n)[:, None], (rows + HALF < n)[:, None]
    p_scale += pair * 2 * HALF + o_k
    b_scale1, b_scale2 = tl.load(p_scale)[:, None], tl.load(p_scale + HALF)[:, None]

    WIDTH: tl.constexpr = SPLIT * 2 * HALF
    at = (i_b % SPLIT) * 2 * HALF
    p_T += (pair // SPLIT) * WIDTH * WIDTH + at * WIDTH + at
    b_T2 = tl.load(p_T + (HALF + o_k)[:, None] * WIDTH + HALF + o_c[None, :])
    b_ST = tl.zeros((HALF, BC), tl.float32)
    for start in range(0, d, BD):
        m_d = (start + o_d < d)[None, :]
        b_B2 = tl.load(p_B2 + start, m_2 & m_d, 0.0).to(tl.float32) * b_scale2
        b_BT = tl.dot(tl.trans(b_B2), b_T2, input_precision="ieee")
        b_B1 = tl.load(p_B1 + start, m_1 & m_d, 0.0).to(tl.float32) * b_scale1
        b_ST = tl.dot(b_B1, b_BT, b_ST, input_precision="ieee")
    b_T1 = tl.load(p_T + o_k[:, None] * WIDTH + o_k[None, :])
    b_T12 = tl.dot(b_T1, b_ST, input_precision="ieee")
    tl.store(p_T + o_k[:, None] * WIDTH + HALF + o_c[None, :], -b_T12)


def factor_launches(sizes: ProductSizes) -> list[Launch]:
    """The factors of blocks of 16, 32 or 64 reflectors; ``triton_tile_factors`` has larger ones.

    They write "scale" (p, nb, k) and "T" (p, nb, k, k), of which only blocks of at most ``BASE``
    rows are written whole: a larger T must hold zeros before.
    """
    p, n, d, _, k = sizes
    tensors, rows = ("V", "scale", "T"), p * sizes.blocks * k
    first = Launch(factors_kernel, rows // min(k, BASE), tensors, (n, d), factors_config(k))
    if k <= BASE:
        return [first]
    config = join_config()
    grid = rows // (2 * BASE) * (BASE // config["BC"])
    return [first, Launch(join_kernel, grid, tensors, (n, d), config)]


def factors_config(k: int) -> dict[str, Any]:
    """The constants and options of ``factors_kernel``.

    One warp inverts 16 rows, four do 32: 68 and 89 registers a thread on sm_90 with the triangle
    in them (results/reference/kernels). 64 rows at once would spill.
    """
    base = min(k, BASE)
    config = {"K": base, "SPLIT": k // base, "BD": 32, "LEVELS": base.bit_length() - 1}
    if base < 32:
        return config | {"num_warps": 1, "maxnreg": None}
    return config | {"num_warps": 4, "maxnreg": MOST_REGISTERS}


def join_config() -> dict[str, Any]:
    """The constants and options of ``join_kernel``, for the two halves of a block of 64."""
    config = {"HALF": BASE, "SPLIT": 1, "BC": 16, "BD": 32}
    return config | {"num_warps": 8, "maxnreg": MOST_REGISTERS}
