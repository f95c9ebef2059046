"""Linear recurrences of numbers over all steps in one launch, in Triton: h_t = a_t h_{t−1} + b_t.

Channels, a number of a state each, don't depend on each other: a program takes some of them
through all steps. A step is a multiplication, and waits only for the one before it; what it reads
does not depend on that, and is on its way ``STAGES`` steps ahead. A scan of depth log T would
pass over all numbers more than once, and they come from memory.

Backwards the same loop runs from the last step to the first, with the factor of the step after:

    δ_t = g_t + a_{t+1} δ_{t+1}
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_support import current

STAGES = 16
"""Steps whose numbers are on their way at once: a load takes as long as so many steps."""

CHANNELS = 32
"""Channels to a program, one for each thread of a warp: the more programs, the more is loaded."""


@triton.jit
def load_pair(p_x, o_x, m_x, COMPLEX: tl.constexpr):
    """Real and imaginary parts, which lie side by side; of real numbers the same twice.

    ``o_x`` counts numbers, not their parts.
    """
    if COMPLEX:
        return tl.load(p_x + 2 * o_x, m_x, 0.0), tl.load(p_x + 2 * o_x + 1, m_x, 0.0)
    else:
        b_x = tl.load(p_x + o_x, m_x, 0.0)
        return b_x, b_x


# Triton compiles a kernel anew for arguments that are 1 or a multiple of 16, which is wanted for m
# and n alone.
@triton.jit(do_not_specialize=["T"])
def scan_kernel(
    p_a,  # (T, m) factors, or (n,) where m is a multiple of n: the same at all steps
    p_b,  # (T, m)
    p_first,  # (m,) the state before the first step, if FIRST
    p_h,  # (T, m) out: the states
    T,
    m,
    n,
    FIRST: tl.constexpr,
    BACKWARD: tl.constexpr,
    CONSTANT: tl.constexpr,
    COMPLEX: tl.constexpr,
    BM: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A program takes BM channels through all steps, from the last to the first if BACKWARD."""
    o_m, stride = tl.program_id(0) * BM + tl.arange(0, BM), tl.cast(m, tl.int64)
    m_m = o_m < m
    b_x, b_y = tl.zeros((BM,), tl.float32), tl.zeros((BM,), tl.float32)
    if FIRST:
        b_x, b_y = load_pair(p_first, o_m, m_m, COMPLEX)
    b_fx, b_fy = b_x, b_x
    if CONSTANT:
        b_fx, b_fy = load_pair(p_a, o_m % n, m_m, COMPLEX)
    for step in tl.range(0, T, num_stages=STAGES):
        t = T - 1 - step if BACKWARD else step
        o_x = t * stride + o_m
        b_bx, b_by = load_pair(p_b, o_x, m_m, COMPLEX)
        there = m_m & (step + FIRST > 0)  # no factor touches what comes first
        if CONSTANT:
            b_ax, b_ay = tl.where(there, b_fx, 0.0), tl.where(there, b_fy, 0.0)
        else:
            b_ax, b_ay = load_pair(p_a, o_x + stride if BACKWARD else o_x, there, COMPLEX)
        if COMPLEX:
            b_new = b_bx + (b_ax * b_x - b_ay * b_y)
            b_y = b_by + (b_ax * b_y + b_ay * b_x)
            b_x = b_new
            tl.store(p_h + 2 * o_x, b_x, m_m)
            tl.store(p_h + 2 * o_x + 1, b_y, m_m)
        else:
            b_x = b_bx + b_ax * b_x
            tl.store(p_h + o_x, b_x, m_m)


@triton.jit(do_not_specialize=["T"])
def gated_scan_kernel(
    p_gates,  # (T, m) p
    p_content,  # (T, m) c
    p_first,  # (m,) if FIRST
    p_h,  # (T, m) out: the states of h = (1 − z) h + z c, z = σ(p)
    T,
    m,
    FIRST: tl.constexpr,
    BM: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A program takes BM channels through all steps."""
    o_m, stride = tl.program_id(0) * BM + tl.arange(0, BM), tl.cast(m, tl.int64)
    m_m = o_m < m
    b_h = tl.zeros((BM,), tl.float32)
    if FIRST:
        b_h = tl.load(p_first + o_m, m_m, 0.0)
    for t in tl.range(0, T, num_stages=STAGES):
        o_x = t * stride + o_m
        b_p = tl.load(p_gates + o_x, m_m, 0.0)
        b_c = tl.load(p_content + o_x, m_m, 0.0)
        # 1 − z as σ(−p), which has all its digits where z is close to 1.
        b_h = tl.sigmoid(-b_p) * b_h + tl.sigmoid(b_p) * b_c
        tl.store(p_h + o_x, b_h, m_m)


@triton.jit(do_not_specialize=["T"])
def gated_gradient_kernel(
    p_gates,  # (T, m) p
    p_content,  # (T, m) c
    p_first,  # (m,) if FIRST
    p_h,  # (T, m) the states
    p_G,  # (T, m) gradients at the states
    p_dgates,  # (T, m) out
    p_dcontent,  # (T, m) out
    p_dfirst,  # (m,) out
    T,
    m,
    FIRST: tl.constexpr,
    BM: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A program takes BM channels from the last step to the first."""
    o_m, stride = tl.program_id(0) * BM + tl.arange(0, BM), tl.cast(m, tl.int64)
    m_m = o_m < m
    b_after = tl.zeros((BM,), tl.float32)  # (1 − z) δ of the step after
    for step in tl.range(0, T, num_stages=STAGES):
        t = T - 1 - step
        o_x = t * stride + o_m
        b_p = tl.load(p_gates + o_x, m_m, 0.0)
        b_c = tl.load(p_content + o_x, m_m, 0.0)
        b_before = tl.load(p_h + o_x - m, m_m & (t > 0), 0.0)
        if FIRST:
            b_before += tl.load(p_first + o_m, m_m & (t == 0), 0.0)
        b_delta = tl.load(p_G + o_x, m_m, 0.0) + b_after
        b_z, b_rest = tl.sigmoid(b_p), tl.sigmoid(-b_p)
        b_after = b_rest * b_delta
        tl.store(p_dcontent + o_x, b_z * b_delta, m_m)
        tl.store(p_dgates + o_x, b_z * b_after * (b_c - b_before), m_m)
    tl.store(p_dfirst + o_m, b_after, m_m)


def scan(a: Tensor, b: Tensor, h0: Tensor | None, backward: bool = False) -> Tensor:
    """All states h_t = a_t h_{t−1} + b_t, or backwards all δ_t = b_t + a_{t+1} δ_{t+1}.

    Args:
        a: (T, B, n) or (n,), float32 or complex64, as all others.
        b: (T, B, n).
        h0: the state before the first step, (B, n); None for zeros, and backwards.
    """
    states = torch.empty_like(b, memory_format=torch.contiguous_format)
    if b.numel() == 0:
        return states
    tensors = [_as_real(b if t is None else t) for t in (a, b, h0, states)]
    flags = {"FIRST": h0 is not None, "BACKWARD": backward, "CONSTANT": a.ndim == 1}
    T, (m, n) = len(b), (b[0].numel(), b.shape[-1])
    with current(b.device):
        scan_kernel[_grid(m)](*tensors, T, m, n, **flags, **scan_config(b.is_complex()))
    return states


def gated_scan(gates: Tensor, content: Tensor, h0: Tensor | None) -> Tensor:
    """All states h_t = (1 − z_t) h_{t−1} + z_t c_t with z = σ(p), (T, B, n), all float32."""
    gates, content = gates.contiguous(), content.contiguous()
    states = torch.empty_like(content)
    if content.numel() == 0:
        return states
    first = content if h0 is None else h0.contiguous()
    T, m = len(content), content[0].numel()
    with current(content.device):
        gated_scan_kernel[_grid(m)](
            *(gates, content, first, states, T, m), FIRST=h0 is not None, **gated_config()
        )
    return states


def gated_gradient(
    gates: Tensor, content: Tensor, h0: Tensor | None, states: Tensor, G: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at gates, content and the state before the first, from those at the states."""
    gates, content, G = gates.contiguous(), content.contiguous(), G.contiguous()
    found = torch.empty_like(states), torch.empty_like(states), torch.zeros_like(states[0])
    if content.numel() == 0:
        return found
    first = content if h0 is None else h0.contiguous()
    T, m = len(content), content[0].numel()
    with current(content.device):
        gated_gradient_kernel[_grid(m)](
            *(gates, content, first, states, G, *found, T, m),
            FIRST=h0 is not None,
            **gated_config(),
        )
    return found


def scan_config(is_complex: bool) -> dict[str, Any]:
    """The constants and options of ``scan_kernel``, but for what it is to do."""
    return {"COMPLEX": is_complex} | gated_config()


def gated_config() -> dict[str, Any]:
    """The constants and options of the other two."""
    return {"BM": CHANNELS, "STAGES": STAGES, "num_warps": 1, "maxnreg": None}


def _grid(m: int) -> tuple[int]:
    return (triton.cdiv(m, CHANNELS),)


def _as_real(x: Tensor) -> Tensor:
    """Contiguous; complex numbers as pairs of real ones."""
    x = x.resolve_conj().contiguous()
    return torch.view_as_real(x) if x.is_complex() else x
