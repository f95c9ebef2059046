"""``diagonal_recurrence``: h_t = λ ∘ h_{t−1} + B u_t, y_t = Re(C h_t) + D ∘ u_t, as one operation.

Real and imaginary part of a state lie side by side, so that products with B and C are real ones.
With g at y, the gradients δ_t = Cᴴ g_t + λ̄ ∘ δ_{t+1} at the states are found as their conjugates ε,
which need no conjugate of anything in turn:

    ε_t = conj(Cᴴ g_t) + λ ∘ ε_{t+1},    ∂λ = conj(Σ ε_t ∘ h_{t−1}),    ∂u_t = Re(Bᴴ δ_t) + D ∘ g_t.

Some steps at a time go through all of it, while their numbers are in the processor's cache: as
operations on all steps one after the other, most of the time would be memory's. Nothing is kept
but the states.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .scans import differentiable_gradients, scan

# Rows, of any step and sequence, that go through all operations together: of 256 numbers each
# and with what is made of them, about a megabyte.
ROWS = 400

# What the states are of, by the dtype of the inputs.
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def diagonal_recurrence(
    u: Tensor, eigenvalues: Tensor, B: Tensor, C: Tensor, D: Tensor, h0: Tensor | None = None
) -> Tensor:
    """All outputs y_t; differentiable in all arguments, any number of times.

    Args:
        u: inputs (T, batch, d) with T ≥ 1.
        eigenvalues: λ (N,), complex.
        B: (2N, d), real: rows of real and imaginary parts in turn.
        C: (d, 2N), real: columns for real and imaginary parts in turn.
        D: (d,).
        h0: initial state, (batch, 2N) in pairs; zeros by default.

    Returns:
        y (T, batch, d).

    Raises:
        ValueError: no step, or shapes that don't match.
        TypeError: dtypes that don't match.

    Example:
        >>> half = torch.tensor([0.5 + 0j])
        >>> B, C, D = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 0.0]]), torch.zeros(1)
        >>> diagonal_recurrence(torch.ones(3, 1, 1), half, B, C, D).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    _check(u, eigenvalues, B, C, D, h0)
    if not u.is_cpu:  # on a GPU, kernels of PyTorch or Triton are faster one operation at a time
        return diagonal_states(u, eigenvalues, B, C, D, h0)[0]
    outputs: Tensor = _Diagonal.apply(u, eigenvalues, B, C, D, h0)
    return outputs


def diagonal_states(
    u: Tensor, eigenvalues: Tensor, B: Tensor, C: Tensor, D: Tensor, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same outputs operation by operation, and all states (T, batch, 2N) in pairs."""
    first = None if h0 is None else _complex(h0)
    h = torch.view_as_real(scan(eigenvalues, _complex(F.linear(u, B)), first)).flatten(-2)
    return torch.addcmul(F.linear(h, C), D, u), h


def _outputs(*given: Any) -> Tensor:
    return diagonal_states(*given)[0]


def _complex(pairs: Tensor) -> Tensor:
    """(…, 2N) real numbers as (…, N) complex ones, of the same memory if that can be."""
    pairs = pairs.unflatten(-1, (-1, 2))
    return torch.view_as_complex(pairs if _can_be_viewed(pairs) else pairs.contiguous())


def _can_be_viewed(pairs: Tensor) -> bool:
    *others, last = pairs.stride()
    return last == 1 and not any(stride % 2 for stride in others) and not pairs.storage_offset() % 2


def _check(
    u: Tensor, eigenvalues: Tensor, B: Tensor, C: Tensor, D: Tensor, h0: Tensor | None
) -> None:
    if u.ndim != 3 or not len(u):
        raise ValueError(f"inputs must be (T, batch, d) with T of at least 1, not {tuple(u.shape)}")
    if u.dtype not in COMPLEX:
        raise TypeError(f"inputs must be float32 or float64, not {u.dtype}: convert them")
    (_, batch, d), N = u.shape, eigenvalues.numel()
    shapes = {
        "eigenvalues": (eigenvalues, (N,)),
        "B": (B, (2 * N, d)),
        "C": (C, (d, 2 * N)),
        "D": (D, (d,)),
        "h0": (h0, (batch, 2 * N)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(
                f"inputs of shape {tuple(u.shape)} and {N} eigenvalues need {name} of shape "
                f"{shape}, not {tuple(tensor.shape)}"
            )
        dtype = COMPLEX[u.dtype] if tensor is eigenvalues else u.dtype
        if tensor.dtype != dtype:
            raise TypeError(
                f"inputs are {u.dtype}, so {name} must be {dtype}, not {tensor.dtype}: convert one"
            )


class _Diagonal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        eigenvalues: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        h0: Tensor | None,
    ) -> Tensor:
        u = u.contiguous()
        (T, batch, _), size = u.shape, len(B)
        h, y = u.new_empty(T, batch, size), torch.empty_like(u)
        before = None if h0 is None else _complex(h0)
        for part in _parts(T, batch):
            driven, given, made = (t[part].flatten(0, 1) for t in (h, u, y))
            torch.mm(given, B.t(), out=driven)
            for state in _complex(h[part]).unbind():
                if before is not None:
                    state.addcmul_(eigenvalues, before)
                before = state
            torch.mm(driven, C.t(), out=made).addcmul_(given, D)
        ctx.save_for_backward(u, eigenvalues, B, C, D, h0, h)
        return y

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        u, eigenvalues, B, C, D, h0, h = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are wanted
            given = (u, eigenvalues, B, C, D, h0)
            return differentiable_gradients(_outputs, ctx.needs_input_grad, G, *given)
        G = G.contiguous()
        (T, batch, size), signs = h.shape, B.new_tensor([1.0, -1.0]).repeat(len(eigenvalues))
        B_conj, C_conj = B * signs.unsqueeze(-1), C * signs
        du, dB, dC = torch.empty_like(u), torch.zeros_like(B), torch.zeros_like(C)
        products = eigenvalues.new_zeros(batch, len(eigenvalues))  # Σ ε_t h_{t−1}
        parts = _parts(T, batch)
        rows = parts[0].stop * batch
        rooms = u.new_empty(2, rows, size)  # ε, in turn
        through = u.new_zeros(rows, len(D))  # g ∘ u
        first = None if h0 is None else _complex(h0)
        states = [first, *_complex(h).unbind()]
        after: Tensor | None = None
        for i, part in enumerate(reversed(parts)):
            g, x, kept, dx = (t[part].flatten(0, 1) for t in (G, u, h, du))
            room = rooms[i % 2, : len(g)]
            torch.mm(g, C_conj, out=room)
            epsilons = _complex(room.view(part.stop - part.start, batch, size)).unbind()
            for epsilon, before in zip(
                reversed(epsilons), reversed(states[part.start : part.stop]), strict=True
            ):
                if after is not None:
                    epsilon.addcmul_(eigenvalues, after)
                if before is not None:
                    products.addcmul_(epsilon, before)
                after = epsilon
            dB.addmm_(room.t(), x)
            dC.addmm_(g.t(), kept)
            through[: len(g)].addcmul_(g, x)
            torch.mm(room, B_conj, out=dx).addcmul_(g, D)
        dB.mul_(signs.unsqueeze(-1))
        dh0 = None
        if h0 is not None:
            assert after is not None
            dh0 = torch.view_as_real((eigenvalues * after).conj().resolve_conj()).flatten(-2)
        return du, products.sum(0).conj(), dB, dC, through.sum(0), dh0


def _parts(T: int, batch: int) -> list[slice]:
    """All steps, some at a time."""
    steps = max(1, ROWS // max(1, batch))
    return [slice(start, min(T, start + steps)) for start in range(0, T, steps)]
