"""The delta rule's state from chunk to chunk, in one launch each way, in Triton.

What holds keys alone is a batched product over all chunks, made before. The state Sᵀ (d_k, d_v)
goes from chunk to chunk, and each of its columns by itself: a program takes some columns of one
sequence through all chunks, and keeps them on chip. With the names of
:mod:`svdbench.nn.delta_rule`, a chunk is

    w = Pᵀ(V − K H),    O = Q H + M D w,    H' = H + Kᵀ D w,

and backwards, with G at O and Γ at H',

    Y = P D (MᵀG + K Γ),    Γ_before = Γ + QᵀG − KᵀY.

The other gradients are batched products again, of what both launches leave.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_precision import add_product, precision, product
from .triton_support import current

ROWS = 16
"""The most reflectors, and steps, of a chunk: the fewest rows that a tile of a product has. With 32
the tiles of long keys spill."""

COLUMNS = 16
"""Columns of the state to a program, the fewest that a product of tiles has."""

LONGEST_KEY = 32
"""The longest key for which a program keeps its columns of the state in registers: with 64 they
spill on sm_100."""

SIZES = ["T", "N", "Z", "R", "C", "r", "d_k", "d_v"]


@triton.jit
def load_tile(p_x, rows, columns, stride, m_rows, m_columns):
    """A tile (rows, columns) of a matrix with rows ``stride`` apart; zeros outside."""
    mask = m_rows[:, None] & m_columns[None, :]
    return tl.load(p_x + rows[:, None] * stride + columns[None, :], mask, 0.0)


# Sizes do not justify separate compilations: what is loaded fits in a cache line or two.
@triton.jit(do_not_specialize=SIZES)
def delta_states_kernel(
    p_K,  # (N, Z, R, d_k) keys of each chunk
    p_Q,  # (N, Z, C, d_k) queries
    p_P,  # (N, Z, R, R) the inverse of I + D N
    p_MD,  # (N, Z, C, R) M D
    p_b,  # (N, Z, R) coefficients
    p_V,  # (T, Z, r, d_v) values, if WRITES
    p_H,  # (N + 1, Z, d_k, d_v) the state before each chunk: the first is given, the others are out
    p_w,  # (N, Z, R, d_v) out
    p_O,  # (T, Z, d_v) out
    T,
    N,
    Z,
    R,
    C,
    r,
    d_k,
    d_v,
    WRITES: tl.constexpr,
    PRECISION: tl.constexpr,
    BR: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
):
    """A program takes BV columns of the state of one sequence from the first chunk to the last."""
    z, o_v = tl.program_id(0).to(tl.int64), tl.program_id(1) * BV + tl.arange(0, BV)
    o_r, o_k = tl.arange(0, BR), tl.arange(0, BK)
    m_v, m_r, m_c, m_k = o_v < d_v, o_r < R, o_r < C, o_k < d_k
    b_H = load_tile(p_H + z * d_k * d_v, o_k, o_v, d_v, m_k, m_v)
    for n in range(N):
        at = n * tl.cast(Z, tl.int64) + z
        b_K = load_tile(p_K + at * R * d_k, o_r, o_k, d_k, m_r, m_k)
        b_X = -product(b_K, b_H, PRECISION)
        b_Q = load_tile(p_Q + at * C * d_k, o_r, o_k, d_k, m_c, m_k)
        b_O = product(b_Q, b_H, PRECISION)
        if WRITES:
            t = n * C + o_r // r
            rows = (t * tl.cast(Z, tl.int64) + z) * r + o_r % r
            b_X += load_tile(p_V, rows, o_v, d_v, m_r & (t < T), m_v)
        b_P = load_tile(p_P + at * R * R, o_r, o_r, R, m_r, m_r)
        b_w = product(tl.trans(b_P), b_X, PRECISION)
        tl.store(
            p_w + at * R * d_v + o_r[:, None] * d_v + o_v[None, :],
            b_w,
            m_r[:, None] & m_v[None, :],
        )
        b_MD = load_tile(p_MD + at * C * R, o_r, o_r, R, m_c, m_r)
        b_O = add_product(b_O, b_MD, b_w, PRECISION)
        t = n * C + o_r
        rows = t * tl.cast(Z, tl.int64) + z
        m_t = m_c & (t < T)
        tl.store(p_O + rows[:, None] * d_v + o_v[None, :], b_O, m_t[:, None] & m_v[None, :])
        b_b = tl.load(p_b + at * R + o_r, m_r, 0.0)
        b_H = add_product(b_H, tl.trans(b_K * b_b[:, None]), b_w, PRECISION)
        after = p_H + (at + Z) * d_k * d_v
        tl.store(after + o_k[:, None] * d_v + o_v[None, :], b_H, m_k[:, None] & m_v[None, :])


@triton.jit(do_not_specialize=SIZES)
def delta_gradient_kernel(
    p_K,  # (N, Z, R, d_k)
    p_Q,  # (N, Z, C, d_k)
    p_P,  # (N, Z, R, R)
    p_M,  # (N, Z, C, R)
    p_b,  # (N, Z, R)
    p_G,  # (T, Z, d_v) gradients at the outputs
    p_S,  # (N, Z, d_k, d_v) gradients at the states after each chunk, if STATES
    p_Y,  # (N, Z, R, d_v) out: the gradients at the values
    p_A,  # (N + 1, Z, d_k, d_v) out: all of that at the state before each chunk, and after the last
    T,
    N,
    Z,
    R,
    C,
    r,
    d_k,
    d_v,
    STATES: tl.constexpr,
    PRECISION: tl.constexpr,
    BR: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
):
    """A program takes BV columns of one sequence from the last chunk to the first."""
    z, o_v = tl.program_id(0).to(tl.int64), tl.program_id(1) * BV + tl.arange(0, BV)
    o_r, o_k = tl.arange(0, BR), tl.arange(0, BK)
    m_v, m_r, m_c, m_k = o_v < d_v, o_r < R, o_r < C, o_k < d_k
    m_state, o_state = m_k[:, None] & m_v[None, :], o_k[:, None] * d_v + o_v[None, :]
    b_A = tl.zeros((BK, BV), tl.float32)
    for step in range(N):
        n = N - 1 - step
        at = n * tl.cast(Z, tl.int64) + z
        if STATES:
            b_A += tl.load(p_S + at * d_k * d_v + o_state, m_state, 0.0)
        tl.store(p_A + (at + Z) * d_k * d_v + o_state, b_A, m_state)
        t = n * C + o_r
        rows = t * tl.cast(Z, tl.int64) + z
        b_G = load_tile(p_G, rows, o_v, d_v, m_c & (t < T), m_v)
        b_K = load_tile(p_K + at * R * d_k, o_r, o_k, d_k, m_r, m_k)
        b_M = load_tile(p_M + at * C * R, o_r, o_r, R, m_c, m_r)
        b_GU = product(tl.trans(b_M), b_G, PRECISION)
        b_GU = add_product(b_GU, b_K, b_A, PRECISION)
        b_b = tl.load(p_b + at * R + o_r, m_r, 0.0)
        b_P = load_tile(p_P + at * R * R, o_r, o_r, R, m_r, m_r)
        b_Y = product(b_P, b_GU * b_b[:, None], PRECISION)
        tl.store(
            p_Y + at * R * d_v + o_r[:, None] * d_v + o_v[None, :],
            b_Y,
            m_r[:, None] & m_v[None, :],
        )
        b_Q = load_tile(p_Q + at * C * d_k, o_r, o_k, d_k, m_c, m_k)
        b_A = add_product(b_A, tl.trans(b_Q), b_G, PRECISION)
        b_A = add_product(b_A, tl.trans(b_K), -b_Y, PRECISION)
    tl.store(p_A + z * d_k * d_v + o_state, b_A, m_state)


def states(
    K: Tensor,
    Q: Tensor,
    P: Tensor,
    MD: Tensor,
    b: Tensor,
    values: Tensor | None,
    first: Tensor,
    T: int,
    r: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs, the states and w of all chunks.

    Args:
        K: keys (N, Z, R, d_k), contiguous and float32, as all others.
        Q: queries (N, Z, C, d_k).
        P: (I + D N)⁻¹, (N, Z, R, R).
        MD: M D, (N, Z, C, R).
        b: coefficients (N, Z, R).
        values: (T, Z, r, d_v), or None.
        first: the state before the first step, (Z, d_k, d_v).
        T: steps.
        r: reflectors to a step.

    Returns:
        (T, Z, d_v), (N + 1, Z, d_k, d_v) from the first state on, and (N, Z, R, d_v).
    """
    (N, Z, R, d_k), C, d_v = K.shape, Q.shape[2], first.shape[-1]
    H, w = K.new_empty(N + 1, Z, d_k, d_v), K.new_empty(N, Z, R, d_v)
    outputs = K.new_empty(T, Z, d_v)
    H[0].copy_(first)
    given = K if values is None else values.contiguous()
    flags = {"WRITES": values is not None} | delta_config(d_k, precision(K.dtype))
    if outputs.numel():
        with current(K.device):
            delta_states_kernel[_grid(Z, d_v)](
                *_each_contiguous(K, Q, P, MD, b),
                *(given, H, w, outputs, T, N, Z, R, C, r, d_k, d_v),
                **flags,
            )
    return outputs, H, w


def gradients(
    K: Tensor,
    Q: Tensor,
    P: Tensor,
    M: Tensor,
    b: Tensor,
    G: Tensor,
    at_states: Tensor | None,
    r: int,
) -> tuple[Tensor, Tensor]:
    """The gradients at the values and at the states.

    Args:
        K, Q, P, b, r: as of :func:`states`.
        M: (N, Z, C, R).
        G: gradients at the outputs, (T, Z, d_v).
        at_states: those at the states after each chunk, (N, Z, d_k, d_v); None for zeros.

    Returns:
        (N, Z, R, d_v), and (N + 1, Z, d_k, d_v), of the state before each chunk, and after the
        last.
    """
    (N, Z, R, d_k), C, (T, _, d_v) = K.shape, Q.shape[2], G.shape
    Y, A = K.new_empty(N, Z, R, d_v), K.new_empty(N + 1, Z, d_k, d_v)
    given = K if at_states is None else at_states.contiguous()
    flags = {"STATES": at_states is not None} | delta_config(d_k, precision(K.dtype))
    if Y.numel():
        with current(K.device):
            delta_gradient_kernel[_grid(Z, d_v)](
                *_each_contiguous(K, Q, P, M, b, G),
                *(given, Y, A, T, N, Z, R, C, r, d_k, d_v),
                **flags,
            )
    return Y, A


def delta_config(d_k: int, precision: str) -> dict[str, Any]:
    """The constants and options of both kernels, but for what is given to them."""
    BK = max(16, triton.next_power_of_2(d_k))
    tiles = {"BR": ROWS, "BK": BK, "BV": COLUMNS}
    return {"PRECISION": precision} | tiles | {"num_warps": 4, "maxnreg": None}


def _grid(Z: int, d_v: int) -> tuple[int, int]:
    return (Z, triton.cdiv(d_v, COLUMNS))


def _each_contiguous(*tensors: Tensor) -> list[Tensor]:
    return [t.contiguous() for t in tensors]


def fits(reflectors: int, d_k: int, dtype: torch.dtype) -> bool:
    """Whether the kernels take a step of so many reflectors with keys of this length."""
    return 0 < reflectors <= ROWS and 0 < d_k <= LONGEST_KEY and dtype == torch.float32
