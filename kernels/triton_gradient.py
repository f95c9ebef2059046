"""The gradient at the reflectors of all blocks in one launch, in Triton.

    dB = (F + Fᵀ) B − W Aᵀ − Z Gᵀ,   F = the half triangle of W Zᵀ

with A the state before a block and Z = TBA from the forward sweep, G the gradient
at its output and W = TᵀBG (that is −dY, see ``wy``) from the reverse sweep. Blocks,
and columns of B within them, don't depend on each other.
"""

from typing import Any

import triton
import triton.language as tl

from .triton_launch import Launch, ProductSizes
from .triton_precision import add_product, product
from .triton_support import MOST_REGISTERS


@triton.jit(do_not_specialize=["transpose"])
def gradient_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, K)
    p_A,  # (p, nb, d, m)
    p_Z,  # (p, nb, K, m)
    p_G,  # (p, nb, d, m)
    p_W,  # (p, nb, K, m)
    p_dV,  # (p, n, d) out
    n,
    d,
    m,
    transpose,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BC: tl.constexpr,
    BD: tl.constexpr,
    BM: tl.constexpr,
):
    """A program computes BD columns of one block's gradient, and the columns of F that it needs."""
    tiles, nb = tl.cdiv(d, BD), tl.cdiv(n, K)
    block = tl.program_id(0) // tiles
    i_b, i_p = block % nb, (block // nb).to(tl.int64)
    block = block.to(tl.int64)
    o_k, o_m = tl.arange(0, K), tl.arange(0, BM)
    o_d = (tl.program_id(0) % tiles) * BD + tl.arange(0, BD)
    rows = i_b * K + o_k
    m_B = (rows < n)[:, None] & (o_d < d)[None, :]
    o_B = (i_p * n + rows)[:, None] * d + o_d[None, :]
    p_A += block * d * m
    p_G += block * d * m
    p_Z += block * K * m
    p_W += block * K * m

    b_scale = tl.load(p_scale + block * K + o_k)[:, None]
    b_dB = tl.zeros((K, BD), tl.float32)
    for start in range(0, m, BM):
        columns = start + o_m
        m_Z = (columns < m)[None, :]
        m_A = (columns < m)[:, None] & (o_d < d)[None, :]
        o_Z = o_k.to(tl.int64)[:, None] * m + columns[None, :]
        o_A = o_d.to(tl.int64)[None, :] * m + columns[:, None]  # as Aᵀ
        b_A = tl.load(p_A + o_A, m_A, 0.0)
        b_dB -= product(tl.load(p_W + o_Z, m_Z, 0.0), b_A, PRECISION)
        b_G = tl.load(p_G + o_A, m_A, 0.0)
        b_dB -= product(tl.load(p_Z + o_Z, m_Z, 0.0), b_G, PRECISION)

    # F + Fᵀ a few columns at a time: as a whole it would not fit in registers.
    for first in range(0, K, BC):
        o_c = first + tl.arange(0, BC)
        b_WZ = tl.zeros((K, BC), tl.float32)
        b_ZW = tl.zeros((K, BC), tl.float32)
        for start in range(0, m, BM):
            columns = start + o_m
            m_Z = (columns < m)[None, :]
            o_Z = o_k.to(tl.int64)[:, None] * m + columns[None, :]
            o_Zc = o_c.to(tl.int64)[None, :] * m + columns[:, None]
            m_Zc = (columns < m)[:, None]
            b_W, b_Zc = tl.load(p_W + o_Z, m_Z, 0.0), tl.load(p_Z + o_Zc, m_Zc, 0.0)
            b_WZ = add_product(b_WZ, b_W, b_Zc, PRECISION)
            b_Z, b_Wc = tl.load(p_Z + o_Z, m_Z, 0.0), tl.load(p_W + o_Zc, m_Zc, 0.0)
            b_ZW = add_product(b_ZW, b_Z, b_Wc, PRECISION)
        above = (o_k[:, None] < o_c[None, :]) != (transpose != 0)
        b_FF = tl.where(o_k[:, None] == o_c[None, :], b_WZ, tl.where(above, b_WZ, b_ZW))
        b_Bc = tl.load(
            p_V + (i_p * n + i_b * K + o_c)[:, None] * d + o_d[None, :],
            (i_b * K + o_c < n)[:, None] & (o_d < d)[None, :],
            0.0,
        ).to(tl.float32)
        b_Bc = b_Bc * tl.load(p_scale + block * K + o_c)[:, None]
        b_dB = add_product(b_dB, b_FF, b_Bc, PRECISION)
    tl.store(p_dV + o_B, b_dB * b_scale, m_B)


def gradient_launch(
    sizes: ProductSizes,
    transpose: bool,
    precision: str,
    tensors: tuple[str, ...] = ("V", "scale", "states", "Z", "outputs", "W", "dV"),
) -> Launch:
    """The gradient at V.

    Args:
        transpose: whether the forward sweep applied the transpose.
        precision: of products, as ``tl.dot`` names it: "ieee", "bf16x6" or "tf32".
        tensors: names of V; of what its rows are multiplied with (p, nb, k); of the states
            (p, nb, d, m) and Z (p, nb, k, m) of the forward sweep; of those of the reverse sweep;
            and of the gradient (p, n, d), float32 or bfloat16.
    """
    p, n, d, m, k = sizes
    config = gradient_config(k, precision, sizes.aligned)
    return Launch(
        gradient_kernel,
        triton.cdiv(d, config["BD"]) * sizes.blocks * p,
        tensors,
        (n, d, m, int(transpose)),
        {"PRECISION": precision, **config},
    )


def gradient_config(k: int, precision: str, aligned: bool) -> dict[str, Any]:
    """The constants and options of ``gradient_kernel``.

    For k = 64 half as many columns to a program: a (64, 64) sum and its operands would spill,
    these take 148 registers a thread on sm_90 (results/reference/kernels). Without tensor cores
    k = 16 spills unless the compiler chooses the registers, and k = 32 from 8 warps where the
    addresses of sizes that are no multiples of 16 come on top.
    """
    config = {"K": k, "BC": 16, "BD": 64 if k < 64 else 32, "BM": 16}
    if k == 64 or precision != "ieee":
        return config | {"num_warps": 4 if k < 32 else 8, "maxnreg": MOST_REGISTERS}
    if k == 32:
        warps = 8 if aligned else 16
        return config | {"num_warps": warps, "maxnreg": MOST_REGISTERS if aligned else None}
    return config | {"num_warps": 4, "maxnreg": None}
