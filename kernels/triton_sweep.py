"""The sweep over the blocks in one launch, in Triton.

    A ← A − Bᵀ Z,  Z = T B A        block by block

from the last block to the first, or, to apply the transpose, from the first to the
last with Tᵀ. The reverse sweep of the backward pass is that transpose, applied to
the gradient. Columns of A don't depend on each other: a program takes a tile of
them, keeps it on chip where d allows, and streams it in pieces where not.
"""

from typing import Any

import triton
import triton.language as tl

from .triton_launch import Launch, ProductSizes
from .triton_precision import add_product, least_width, product
from .triton_support import MOST_REGISTERS, PROGRAMS, RESIDENT_BLOCK, RESIDENT_LENGTH


# Triton compiles a kernel anew for arguments that are 1 or a multiple of 16. That is wanted for
# n, d and m, as aligned rows are loaded by wider instructions, but not for these two.
@triton.jit(do_not_specialize=["nb", "transpose"])
def sweep_resident_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, K)
    p_T,  # (p, nb, K, K)
    p_X,  # (p, d, m)
    p_out,  # (p, d, m) out
    p_states,  # (p, nb, d, m) out, if KEEP: A before each block
    p_Z,  # (p, nb, K, m) out, if KEEP
    n,
    d,
    m,
    nb,
    transpose,
    KEEP: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    BD: tl.constexpr,
    BM: tl.constexpr,
):
    """A program holds the d ≤ PARTS·BD rows of BM columns; a warp multiplies parts of its own."""
    tiles = tl.cdiv(m, BM)
    i_p = (tl.program_id(0) // tiles).to(tl.int64)  # p·nb·d·m may pass 2³¹
    o_k = tl.arange(0, K)
    o_d = tl.arange(0, PARTS)[:, None] * BD + tl.arange(0, BD)[None, :]
    o_m = (tl.program_id(0) % tiles) * BM + tl.arange(0, BM)
    m_A = (o_d < d)[:, :, None] & (o_m < m)[None, None, :]
    m_Z = (o_m < m)[None, :]
    o_A = o_d.to(tl.int64)[:, :, None] * m + o_m[None, None, :]
    o_Z = o_k.to(tl.int64)[:, None] * m + o_m[None, :]
    down, across = (K - 1) * (1 - transpose) + 1, (K - 1) * transpose + 1  # rows of T or of Tᵀ
    o_T = o_k[:, None] * down + o_k[None, :] * across
    first, direction = (1 - transpose) * (nb - 1), 2 * transpose - 1

    b_A = tl.load(p_X + i_p * d * m + o_A, m_A, 0.0).to(tl.float32)
    for step in range(nb):
        i_b = first + step * direction
        block = i_p * nb + i_b
        rows = i_b * K + o_k
        p_B = p_V + (i_p * n + rows)[None, :, None] * d + o_d[:, None, :]
        m_B = (rows < n)[None, :, None] & (o_d < d)[:, None, :]
        b_B = tl.load(p_B, m_B, 0.0).to(tl.float32)
        b_B = b_B * tl.load(p_scale + block * K + o_k)[None, :, None]
        b_Y = tl.sum(product(b_B, b_A, PRECISION), 0)
        b_T = tl.load(p_T + block * K * K + o_T)
        b_Z = product(b_T, b_Y, PRECISION)
        if KEEP:
            tl.store(p_states + block * d * m + o_A, b_A, m_A)
            tl.store(p_Z + block * K * m + o_Z, b_Z, m_Z)
        b_Z = tl.broadcast_to(b_Z[None], (PARTS, K, BM))
        b_A -= product(tl.permute(b_B, (0, 2, 1)), b_Z, PRECISION)
    tl.store(p_out + i_p * d * m + o_A, b_A, m_A)


@triton.jit(do_not_specialize=["nb", "transpose"])
def sweep_streamed_kernel(
    p_V,  # (p, n, d)
    p_scale,  # (p, nb, K)
    p_T,  # (p, nb, K, K)
    p_X,  # (p, d, m)
    p_out,  # (p, d, m) out
    p_states,  # (p, nb, d, m) out, if KEEP: A before each block
    p_Z,  # (p, nb, K, m) out, if KEEP
    n,
    d,
    m,
    nb,
    transpose,
    KEEP: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BD: tl.constexpr,
    BM: tl.constexpr,
):
    """A program takes its BM columns from state to state in pieces of BD rows."""
    tiles = tl.cdiv(m, BM)
    i_p = (tl.program_id(0) // tiles).to(tl.int64)
    o_k, o_d = tl.arange(0, K), tl.arange(0, BD)
    o_m = (tl.program_id(0) % tiles) * BM + tl.arange(0, BM)
    m_Z = (o_m < m)[None, :]
    o_Z = o_k.to(tl.int64)[:, None] * m + o_m[None, :]
    down, across = (K - 1) * (1 - transpose) + 1, (K - 1) * transpose + 1  # rows of T or of Tᵀ
    o_T = o_k[:, None] * down + o_k[None, :] * across
    first, direction = (1 - transpose) * (nb - 1), 2 * transpose - 1

    # T as three operands would not fit in registers.
    SMALL: tl.constexpr = "ieee" if PRECISION == "bf16x6" else PRECISION

    # The state before a block is kept in its place among the states, or, where
    # the caller does not need them, always in the place of the output.
    p_A = p_states + (i_p * nb + first) * d * m if KEEP else p_out + i_p * d * m
    for start in range(0, d, BD):
        m_A = (start + o_d < d)[:, None] & (o_m < m)[None, :]
        o_A = (start + o_d).to(tl.int64)[:, None] * m + o_m[None, :]
        b_A = tl.load(p_X + i_p * d * m + o_A, m_A, 0.0).to(tl.float32)
        tl.store(p_A + o_A, b_A, m_A)

    for step in range(nb):
        # What other threads of this program stored is read below. Triton synchronises them
        # where it uses shared memory itself, not for global memory; both barriers are in the
        # PTX that Triton 3.6 and 3.7.1 make.
        tl.debug_barrier()
        i_b = first + step * direction
        block = i_p * nb + i_b
        rows = i_b * K + o_k
        p_B = p_V + (i_p * n + rows)[:, None] * d + o_d[None, :]
        m_rows = (rows < n)[:, None]
        b_scale = tl.load(p_scale + block * K + o_k)[:, None]
        p_next = p_out + i_p * d * m
        if KEEP:
            p_A = p_states + block * d * m
            if step + 1 < nb:
                p_next = p_states + (block + direction) * d * m

        b_Y = tl.zeros((K, BM), tl.float32)
        for start in range(0, d, BD):
            m_d = start + o_d < d
            m_A = m_d[:, None] & (o_m < m)[None, :]
            b_B = tl.load(p_B + start, m_rows & m_d[None, :], 0.0).to(tl.float32) * b_scale
            o_A = (start + o_d).to(tl.int64)[:, None] * m + o_m[None, :]
            b_A = tl.load(p_A + o_A, m_A, 0.0)
            b_Y = add_product(b_Y, b_B, b_A, PRECISION)
        b_Z = product(tl.load(p_T + block * K * K + o_T), b_Y, SMALL)
        if KEEP:
            tl.store(p_Z + block * K * m + o_Z, b_Z, m_Z)
        tl.debug_barrier()  # all threads have read the state, which may now be overwritten
        for start in range(0, d, BD):
            m_d = start + o_d < d
            m_A = m_d[:, None] & (o_m < m)[None, :]
            b_B = tl.load(p_B + start, m_rows & m_d[None, :], 0.0).to(tl.float32) * b_scale
            o_A = (start + o_d).to(tl.int64)[:, None] * m + o_m[None, :]
            b_A = tl.load(p_A + o_A, m_A, 0.0)
            b_A -= product(tl.trans(b_B), b_Z, PRECISION)
            tl.store(p_next + o_A, b_A, m_A)


def sweep_launch(
    sizes: ProductSizes,
    transpose: bool,
    keep: bool,
    precision: str,
    tensors: tuple[str, ...] = ("V", "scale", "T", "X", "out", "states", "Z"),
) -> Launch:
    """H(v₁)⋯H(vₙ) X, or its transpose applied, from the UT factors of the blocks.

    Args:
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether to store the states and Z, which the gradient at V needs.
        precision: of products, as ``tl.dot`` names it: "ieee", "bf16x6" or "tf32".
        tensors: names of V; the scale (p, nb, k) and T (p, nb, k, k) of its rows; X; the product
            (p, d, m), float32 or, of resident states, of the dtype of X; and if kept, of the
            state before each block (p, nb, d, m) and of Z = T B A (p, nb, k, m), both float32.
    """
    p, n, d, m, k = sizes
    resident = is_resident(k, d)
    width = tile_width(p * m, precision)
    config = streamed_config(k, width)
    if resident:
        config = resident_config(k, d, width, precision, sizes.aligned)
    return Launch(
        sweep_resident_kernel if resident else sweep_streamed_kernel,
        triton.cdiv(m, config["BM"]) * p,
        tensors,
        (n, d, m, sizes.blocks, int(transpose)),
        {"KEEP": keep, "PRECISION": precision, **config},
    )


def is_resident(k: int, d: int) -> bool:
    """Whether a tile of columns stays on chip from the first block to the last."""
    return k <= RESIDENT_BLOCK and d <= RESIDENT_LENGTH


def tile_width(columns: int, precision: str) -> int:
    """Columns to a program: 4 while that makes no more programs than processors, else 8.

    Tensor cores take no fewer than 8.
    """
    width = 4 if precision == "ieee" and columns <= 4 * PROGRAMS else 8
    return max(width, least_width())


def resident_config(k: int, d: int, width: int, precision: str, aligned: bool) -> dict[str, Any]:
    """The constants and options of ``sweep_resident_kernel``.

    Parts of 16 rows, the least that ``tl.dot`` takes, and a warp for each part up to 8; with
    d = 256 a warp has two (results/reference/kernels), unless without tensor cores the addresses
    of sizes that are no multiples of 16 would spill.
    """
    parts = max(4, triton.next_power_of_2(triton.cdiv(d, 16)))
    config = {"K": k, "PARTS": parts, "BD": 16, "BM": width}
    if parts == 16 and width > 4 and precision == "ieee" and not aligned:
        return config | {"num_warps": 16, "maxnreg": None}
    return config | {"num_warps": min(parts, 8), "maxnreg": MOST_REGISTERS}


def streamed_config(k: int, width: int) -> dict[str, Any]:
    """The constants and options of ``sweep_streamed_kernel``.

    Pieces of 32 rows, and twice as many warps from k = 32 on, keep the tiles of V, A and Y in
    registers.
    """
    warps = 4 if k < 32 else 8
    return {"K": k, "BD": 32, "BM": width, "num_warps": warps, "maxnreg": MOST_REGISTERS}
