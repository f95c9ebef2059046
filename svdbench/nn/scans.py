"""``scan``: h_t = a_t ∘ h_{t−1} + b_t for all t, with a hand-written gradient; ``gated_scan``.

The gradients δ_t at the states are a scan too, from the end, with the conjugates of a:

    δ_t = g_t + ā_{t+1} ∘ δ_{t+1},    ∂a_t = δ_t ∘ h̄_{t−1},    ∂b_t = δ_t,    ∂h_0 = ā_1 ∘ δ_1.

Each way is a loop of one operation a step, which writes into the place of its result. On one
thread of a CPU that is faster than a scan of depth log T, which passes over all numbers
2 log₂ T times, and than scans of chunks side by side, which pass over them four times. On a GPU
that Triton has, each way is one launch (:mod:`svdbench.kernels.triton_scan`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from svdbench.kernels.triton_support import triton_runs_on


def scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """All states h_1 … h_T of h_t = a_t ∘ h_{t−1} + b_t.

    Differentiable in a, b and h0, any number of times; real or complex.

    Args:
        a: factors (T, B, n), or (n,): the same at all steps.
        b: inputs, (T, B, n) with T ≥ 1.
        h0: initial state, (B, n); zeros by default.

    Returns:
        The states, (T, B, n).

    Raises:
        ValueError: shapes that don't match.
        TypeError: dtypes that differ.

    Example:
        >>> scan(torch.tensor([0.5]), torch.ones(3, 1, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    _check(a, b, h0, b.shape[2:])
    states: Tensor = _Scan.apply(a, b, h0)
    return states


def gated_scan(gates: Tensor, content: Tensor, h0: Tensor | None = None) -> Tensor:
    """All states of h_t = (1 − z_t) ∘ h_{t−1} + z_t ∘ c_t with z = σ(p).

    The same as ``scan(σ(−p), σ(p) * c, h0)`` in a third of the passes over memory.

    Args:
        gates: p (T, B, n) with T ≥ 1.
        content: c (T, B, n).
        h0: initial state, (B, n); zeros by default.

    Returns:
        The states, (T, B, n).

    Raises:
        ValueError: shapes that don't match.
        TypeError: dtypes that differ.

    Example:
        >>> gated_scan(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)).flatten()
        tensor([0.5000, 0.7500, 0.8750])
    """
    _check(gates, content, h0)
    states: Tensor = _GatedScan.apply(gates, content, h0)
    return states


def _check(a: Tensor, b: Tensor, h0: Tensor | None, *also: torch.Size) -> None:
    """Refuse b that is not (T, B, n), a that is not as b or of ``also``, and h0 not (B, n)."""
    if b.ndim != 3 or not len(b):
        raise ValueError(f"inputs must be (T, B, n) with T of at least 1, not {tuple(b.shape)}")
    wanted = {"factors or gates": (a, (b.shape, *also)), "h0": (h0, (b.shape[1:],))}
    for name, (tensor, shapes) in wanted.items():
        if tensor is None:
            continue
        if tensor.shape not in shapes:
            fit = " or ".join(str(tuple(shape)) for shape in shapes)
            raise ValueError(
                f"inputs are {tuple(b.shape)}, so {name} must be {fit}, not {tuple(tensor.shape)}"
            )
        if tensor.dtype != b.dtype:
            raise TypeError(f"inputs are {b.dtype} and {name} {tensor.dtype}: convert one")


def runs_in_one_kernel(inputs: Tensor) -> bool:
    """Whether all steps are one launch: on a GPU that Triton has, in single precision."""
    fits = inputs.dtype in (torch.float32, torch.complex64)
    return fits and inputs.is_cuda and triton_runs_on(inputs.device)


class _Scan(torch.autograd.Function):
    """h_t = a_t ∘ h_{t−1} + b_t from h_0, which is zero where it is not given."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor | None) -> Tensor:
        h = _states(a, b, h0)
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
        delta = _back(a, g)
        ctx.save_for_backward(a, delta)
        return delta

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor]:
        a, delta = ctx.saved_tensors
        at_g: Tensor = _Scan.apply(a.conj().resolve_conj(), G, None)
        if not ctx.needs_input_grad[0]:
            return None, at_g
        return _at_factors(a, delta.conj(), at_g[:-1].conj(), None), at_g


def _states(a: Tensor, b: Tensor, h0: Tensor | None) -> Tensor:
    """All h_t = a_t ∘ h_{t−1} + b_t, contiguous."""
    if runs_in_one_kernel(b):
        from svdbench.kernels import triton_scan

        return triton_scan.scan(a, b, h0)
    h = torch.empty_like(b, memory_format=torch.contiguous_format)
    before = h0
    for factor, added, after in zip(_factors(a, b), b.unbind(), h.unbind(), strict=True):
        if before is None:
            after.copy_(added)
        else:
            torch.addcmul(added, factor, before, out=after)
        before = after
    return h


def _back(a: Tensor, g: Tensor) -> Tensor:
    """All δ_t = g_t + a_{t+1} ∘ δ_{t+1}, contiguous."""
    if runs_in_one_kernel(g):
        from svdbench.kernels import triton_scan

        return triton_scan.scan(a, g, None, backward=True)
    delta = torch.empty_like(g, memory_format=torch.contiguous_format)
    factors, added, rows = _factors(a, g), g.unbind(), delta.unbind()
    rows[-1].copy_(added[-1])
    for t in range(len(rows) - 2, -1, -1):
        torch.addcmul(added[t], factors[t + 1], rows[t + 1], out=rows[t])
    return delta


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


def _by_scan(gates: Tensor, content: Tensor, h0: Tensor | None) -> Tensor:
    return scan(torch.sigmoid(-gates), torch.sigmoid(gates) * content, h0)


def differentiable_gradients(
    function: Callable[..., Tensor], needed: Sequence[bool], G: Tensor, *given: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradients of a function's arguments, with a graph; None where none is needed.

    One argument may have been made of another, as gates and content are of the same layer. So they
    are differentiated at views of their own, which leaves out what the one does by way of the
    other: autograd adds that itself.

    Args:
        function: of ``given``, in operations that can be differentiated any number of times.
        needed: for each argument, whether its gradient is wanted.
        G: the gradient of what the function returns.
    """
    own = [None if t is None else t.view_as(t) for t in given]
    wanted = [t for t, need in zip(own, needed, strict=True) if need and t is not None]
    found = iter(torch.autograd.grad(function(*own), wanted, G, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


class _GatedScan(torch.autograd.Function):
    """The steps z c + (1 − z) h one by one; with δ at the states, those at c are z ∘ δ."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, content: Tensor, h0: Tensor | None) -> Tensor:
        if runs_in_one_kernel(content):
            from svdbench.kernels import triton_scan

            h = triton_scan.gated_scan(gates, content, h0)
            ctx.save_for_backward(gates, content, h0, None, h)
            return h
        z = torch.sigmoid(gates)
        h = torch.empty_like(content, memory_format=torch.contiguous_format)
        rows = zip(z.unbind(), content.unbind(), h.unbind(), strict=True)
        before = h0
        for part, new, after in rows:
            if before is None:
                torch.mul(part, new, out=after)
            else:
                torch.lerp(before, new, part, out=after)
            before = after
        ctx.save_for_backward(gates, content, h0, z, h)
        return h

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        gates, content, h0, z, h = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are wanted
            return differentiable_gradients(_by_scan, ctx.needs_input_grad, G, gates, content, h0)
        if z is None:
            from svdbench.kernels import triton_scan

            at_gates, at_content, at_first = triton_scan.gated_gradient(gates, content, h0, h, G)
            return at_gates, at_content, at_first if ctx.needs_input_grad[2] else None
        delta = torch.empty_like(h)
        rows, added, parts = delta.unbind(), G.unbind(), z.unbind()
        rows[-1].copy_(added[-1])
        for t in range(len(rows) - 2, -1, -1):
            after = rows[t + 1]
            torch.add(added[t], after, out=rows[t]).addcmul_(parts[t + 1], after, value=-1)
        at_gates = torch.empty_like(delta)
        torch.sub(content[1:], h[:-1], out=at_gates[1:])
        at_gates[0] = content[0] if h0 is None else content[0] - h0
        at_gates.mul_(delta)
        torch.ops.aten.sigmoid_backward.grad_input(at_gates, z, grad_input=at_gates)
        dh0 = delta[0] - parts[0] * delta[0] if ctx.needs_input_grad[2] else None
        return at_gates, delta.mul_(z), dh0
