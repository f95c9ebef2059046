"""``scan``: h_t = a_t ∘ h_{t−1} + b_t for all t, with a hand-written gradient.

The gradients δ_t at the states are a scan too, from the end, with the conjugates of a:

    δ_t = g_t + ā_{t+1} ∘ δ_{t+1},    ∂a_t = δ_t ∘ h̄_{t−1},    ∂b_t = δ_t,    ∂h_0 = ā_1 ∘ δ_1.

Each way is a loop of one operation a step, which writes into the place of its result. On one
thread of a CPU that is faster than a scan of depth log T, which passes over all numbers
2 log₂ T times, and than scans of chunks side by side, which pass over them four times.
"""

from typing import Any

import torch
from torch import Tensor


def scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """All states h_1 … h_T of h_t = a_t ∘ h_{t−1} + b_t.

    Differentiable in a, b and h0, any number of times; real or complex.

    Args:
        a: factors (T, B, n), or (n,): the same at all steps.
        b: what is added, (T, B, n) with T ≥ 1.
        h0: the state before the first, (B, n); zeros by default.

    Returns:
        The states, (T, B, n).

    Raises:
        ValueError: shapes that don't fit.
        TypeError: dtypes that differ.

    Example:
        >>> scan(torch.tensor([0.5]), torch.ones(3, 1, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    if b.ndim != 3 or not len(b):
        raise ValueError(f"b must be (T, B, n) with T of at least 1, not {tuple(b.shape)}")
    shapes = {"a": (a, (b.shape, b.shape[2:])), "h0": (h0, (b.shape[1:],))}
    for name, (tensor, wanted) in shapes.items():
        if tensor is None:
            continue
        if tensor.shape not in wanted:
            fit = " or ".join(str(tuple(shape)) for shape in wanted)
            raise ValueError(
                f"b is {tuple(b.shape)}, so {name} must be {fit}, not {tuple(tensor.shape)}"
            )
        if tensor.dtype != b.dtype:
            raise TypeError(f"b is {b.dtype} and {name} is {tensor.dtype}: convert one")
    states: Tensor = _Scan.apply(a, b, h0)
    return states


class _Scan(torch.autograd.Function):
    """h_t = a_t ∘ h_{t−1} + b_t from h_0, which is zero where it is not given."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor | None) -> Tensor:
        h = torch.empty_like(b, memory_format=torch.contiguous_format)
        before = h0
        for factor, added, after in zip(_factors(a, b), b.unbind(), h.unbind(), strict=True):
            if before is None:
                after.copy_(added)
            else:
                torch.addcmul(added, factor, before, out=after)
            before = after
        ctx.save_for_backward(a, h0, h)
        return h

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        a, h0, h = ctx.saved_tensors
        need_a, _, need_h0 = ctx.needs_input_grad
        delta: Tensor = _BackScan.apply(a.conj(), G)
        da, dh0 = None, None
        if need_a:
            da = _at_factors(a, delta, h[:-1], None if h0 is None else delta[0] * h0.conj())
        if need_h0:
            dh0 = _factors(a, h)[0].conj() * delta[0]
        return da, delta, dh0


class _BackScan(torch.autograd.Function):
    """δ_t = g_t + a_{t+1} ∘ δ_{t+1} from δ_T = g_T."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, g: Tensor) -> Tensor:
        a = a.resolve_conj()
        delta = torch.empty_like(g, memory_format=torch.contiguous_format)
        factors, added, rows = _factors(a, g), g.unbind(), delta.unbind()
        rows[-1].copy_(added[-1])
        for t in range(len(rows) - 2, -1, -1):
            torch.addcmul(added[t], factors[t + 1], rows[t + 1], out=rows[t])
        ctx.save_for_backward(a, delta)
        return delta

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor]:
        a, delta = ctx.saved_tensors
        at_g: Tensor = _Scan.apply(a.conj().resolve_conj(), G, None)
        if not ctx.needs_input_grad[0]:
            return None, at_g
        return _at_factors(a, delta.conj(), at_g[:-1].conj(), None), at_g


def _factors(a: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """The factors of each step, (B, n) or (n,)."""
    return a.unbind() if a.ndim > 1 else (a,) * len(rows)


def _at_factors(a: Tensor, later: Tensor, earlier: Tensor, first: Tensor | None) -> Tensor:
    """The gradient at the factors: ``later`` of step t times the conjugate ``earlier`` of t − 1.

    Args:
        first: that of the first step, (B, n); zeros by default.
    """
    if a.ndim == 1:
        total = (later[1:] * earlier.conj()).sum((0, 1))
        return total if first is None else total + first.sum(0)
    if torch.is_grad_enabled():  # second derivatives are wanted
        start = torch.zeros_like(later[0]) if first is None else first
        return torch.cat([start.unsqueeze(0), later[1:] * earlier.conj()])
    found = torch.empty_like(later, memory_format=torch.contiguous_format)
    torch.mul(later[1:], earlier.conj(), out=found[1:])
    if first is None:
        found[0].zero_()
    else:
        found[0].copy_(first)
    return found
