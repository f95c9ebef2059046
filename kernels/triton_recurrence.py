"""A recurrence over all steps in one launch, in Triton: h_t = φ(W h_{t−1} + u_t).

Sequences don't depend on each other: a program takes some of them through all steps, and keeps
their state, and where it fits W, too, on chip from the first step to the last. Otherwise it reads
W from the cache at each step, in pieces. The backward pass is the same loop
from the last step to the first, with Wᵀ in place of W:

    δ_t = φ'(h_t) ∘ (g_t + Wᵀ δ_{t+1})
"""

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_precision import add_product, precision
from .triton_support import MOST_REGISTERS, current

LARGE_SHARED = 128 * 1024
"""Bytes of shared memory with which W of 128 units fits on chip as three bfloat16 numbers each."""

SEQUENCES = 16
"""Sequences to a program, the least that ``tl.dot`` takes."""


@triton.jit
def tanh(b_z):
    """To about 3e-7 of its own size; near 0 by its series, where the quotient has few digits."""
    b_s = b_z * b_z
    b_near = 1.0 + b_s * (-1 / 3 + b_s * (2 / 15 + b_s * (-17 / 315 + b_s * (62 / 2835))))
    b_t = tl.exp(-2.0 * tl.abs(b_z))
    b_far = (1.0 - b_t) / (1.0 + b_t)
    return tl.where(b_s < 0.0625, b_z * b_near, tl.where(b_z < 0, -b_far, b_far))


@triton.jit
def activated(b_z, b_bias, PHI: tl.constexpr):
    """φ(z); a NaN stays one."""
    if PHI == "tanh":
        return tanh(b_z)
    elif PHI == "relu":
        return tl.where(b_z < 0, 0.0, b_z)
    elif PHI == "modrelu":
        b_size = tl.abs(b_z) + b_bias
        b_size = tl.where(b_size < 0, 0.0, b_size)
        return tl.where(b_z < 0, -b_size, tl.where(b_z == 0, 0.0, b_size))
    else:
        return b_z


@triton.jit
def slope(b_h, PHI: tl.constexpr):
    """φ'(z) from the state φ(z)."""
    if PHI == "tanh":
        return 1.0 - b_h * b_h
    elif PHI == "relu":
        return tl.where(b_h > 0, 1.0, 0.0)
    elif PHI == "modrelu":
        return tl.where(b_h != 0, 1.0, 0.0)
    else:
        return tl.full(b_h.shape, 1.0, tl.float32)


# Triton compiles a kernel anew for arguments that are 1 or a multiple of 16, which is wanted for n
# alone.
@triton.jit(do_not_specialize=["T", "B"])
def recurrence_kernel(
    p_inputs,  # (T, B, n) u, or g in the backward pass
    p_W,  # (n, n)
    p_first,  # (B, n) the state before the first step, if FIRST
    p_bias,  # (n,) if φ has one
    p_states,  # (T, B, n), read in the backward pass
    p_out,  # (T, B, n) out: the states, or δ
    T,
    B,
    n,
    FIRST: tl.constexpr,
    BACKWARD: tl.constexpr,
    PHI: tl.constexpr,
    PRECISION: tl.constexpr,
    RESIDENT: tl.constexpr,
    N: tl.constexpr,
    BN: tl.constexpr,
    BB: tl.constexpr,
):
    """A program takes BB sequences of n ≤ N units through all steps."""
    o_b, o_n = tl.program_id(0) * BB + tl.arange(0, BB), tl.arange(0, N)
    o_k = tl.arange(0, BN)
    o_h = o_b.to(tl.int64)[:, None] * n + o_n[None, :]
    m_h = (o_b < B)[:, None] & (o_n < n)[None, :]
    b_bias = tl.zeros((1, N), tl.float32)
    if PHI == "modrelu" and not BACKWARD:
        b_bias = tl.load(p_bias + o_n, o_n < n, 0.0)[None, :]
    # Rows of Wᵀ forward, of W backward.
    down, across = (n, 1) if BACKWARD else (1, n)
    stride = B.to(tl.int64) * n
    b_h = tl.zeros((BB, N), tl.float32)
    if RESIDENT:
        o_W, m_W = o_n[:, None] * down + o_n[None, :] * across, (o_n < n)[:, None] & (o_n < n)
        b_W = tl.load(p_W + o_W, m_W, 0.0)
        if FIRST:
            b_h = tl.load(p_first + o_h, m_h, 0.0)
    for step in range(T):
        if not RESIDENT:
            tl.debug_barrier()  # other threads of this program have stored what is read below
        at = (T - 1 - step if BACKWARD else step) * stride
        b_z = tl.load(p_inputs + at + o_h, m_h, 0.0)
        if RESIDENT:
            b_z = add_product(b_z, b_h, b_W, PRECISION)
        else:
            p_before = p_out + (at + stride if BACKWARD else at - stride)
            if FIRST:
                p_before = p_first if step == 0 else p_before
            there = step + FIRST > 0
            for start in range(0, N, BN):
                rows = start + o_k
                m_x = (o_b < B)[:, None] & (rows < n)[None, :] & there
                b_x = tl.load(p_before + o_b.to(tl.int64)[:, None] * n + rows, m_x, 0.0)
                o_W = rows[:, None] * down + o_n[None, :] * across
                b_W = tl.load(p_W + o_W, (rows < n)[:, None] & (o_n < n)[None, :], 0.0)
                b_z = add_product(b_z, b_x, b_W, PRECISION)
        if BACKWARD:
            b_h = b_z * slope(tl.load(p_states + at + o_h, m_h, 0.0), PHI)
        else:
            b_h = activated(b_z, b_bias, PHI)
        tl.store(p_out + at + o_h, b_h, m_h)


def forward(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str
) -> Tensor:
    """All states (T, B, n), contiguous.

    Args:
        inputs: (T, B, n), float32, as all others.
        W: (n, n).
        h0: (B, n), or None for zeros.
        bias: (n,), of "modrelu" alone.
        activation: "tanh", "relu", "identity" or "modrelu".
    """
    inputs = inputs.contiguous()
    states = torch.empty_like(inputs)
    first, threshold = (inputs if t is None else t.contiguous() for t in (h0, bias))
    given = inputs, W.contiguous(), first, threshold, states, states
    _launch(given, h0 is not None, False, activation)
    return states


def backward(G: Tensor, W: Tensor, states: Tensor, activation: str) -> Tensor:
    """All δ_t (T, B, n), given the gradients G at the states."""
    G, deltas = G.contiguous(), torch.empty_like(states)
    _launch((G, W.contiguous(), G, G, states, deltas), False, True, activation)
    return deltas


def _launch(given: tuple[Tensor, ...], first: bool, backward: bool, activation: str) -> None:
    T, B, n = given[0].shape
    if given[0].numel() == 0:
        return
    device = given[0].device
    config = recurrence_config(n, precision(torch.float32), _has_large_shared(device))
    flags = {"FIRST": first, "BACKWARD": backward, "PHI": activation}
    with current(device):
        recurrence_kernel[(triton.cdiv(B, SEQUENCES),)](*given, T, B, n, **flags, **config)


@lru_cache
def _has_large_shared(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    properties: Any = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin) >= LARGE_SHARED


def recurrence_config(n: int, precision: str, large_shared: bool) -> dict[str, Any]:
    """The constants and options of ``recurrence_kernel``.

    Without tensor cores the operands of 128 units would spill, those of 64 from 4 warps where the
    size is odd (Triton 3.6), and of odd sizes the addresses of large pieces.
    """
    N = max(16, triton.next_power_of_2(n))
    exact = precision == "ieee"
    resident = N <= 64 or (N == 128 and not exact and large_shared)
    config = {"PRECISION": precision, "RESIDENT": resident, "N": N, "BB": SEQUENCES}
    config["BN"] = 16 if exact or n % 16 else 32
    warps = 8 if N > 64 or (N == 64 and exact and n % 16) else 4
    return config | {"num_warps": warps, "maxnreg": MOST_REGISTERS}
