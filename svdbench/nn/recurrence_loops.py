"""The loops over time of ``recurrence``, for sequences of one length or packed ones.

``rows`` are (T, B, n), or (N, n) in the order of a :class:`PackedLayout`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from svdbench.kernels.triton_support import MOST_ODD_UNITS, MOST_UNITS, triton_runs_on
from svdbench.nn.activations import Activation


class PackedLayout(NamedTuple):
    """Rows of the N steps of B sequences, packed step by step, the longest sequence first.

    Attributes:
        sizes: rows of each step, the sequences that are so long.
        before: the row of the step before, for all rows from the second step on, (N − B,).
        last: the row of the last step of each sequence, (B,).
        reverse: for each row, the row of the same sequence as far from its end, (N,).
    """

    sizes: tuple[int, ...]
    before: Tensor
    last: Tensor
    reverse: Tensor

    def steps(self, rows: Tensor) -> Sequence[Tensor]:
        """Views of the rows (N, ...), one for each step."""
        return rows.split(self.sizes)


def packed_layout(batch_sizes: Tensor, device: torch.device) -> PackedLayout:
    """The layout of a ``PackedSequence``, by its ``batch_sizes`` (T,), which are on the CPU."""
    sizes = tuple(batch_sizes.tolist())
    sequences = torch.arange(sizes[0], device="cpu")
    lengths = (batch_sizes.unsqueeze(-1) > sequences).sum(0)
    first = batch_sizes.cumsum(0) - batch_sizes  # row of each step
    step = torch.arange(len(sizes), device="cpu").repeat_interleave(batch_sizes)
    sequence = torch.arange(len(step), device="cpu") - first[step]
    later = slice(sizes[0], None)
    indices = (
        first[step[later] - 1] + sequence[later],
        first[lengths - 1] + sequences,
        first[lengths[sequence] - 1 - step] + sequence,
    )
    return PackedLayout(sizes, *(rows.to(device) for rows in indices))


def runs_in_one_kernel(device: torch.device, dtype: torch.dtype, n: int, phi: Activation) -> bool:
    """Whether all steps are one launch: on a GPU that Triton has, in float32, for few units."""
    small = n <= (MOST_ODD_UNITS if n % 16 else MOST_UNITS)
    fits = small and phi.in_kernel is not None and dtype == torch.float32
    return fits and device.type == "cuda" and triton_runs_on(device)


def loop_forward(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    bias: Tensor | None,
    phi: Activation,
    keep: bool,
    layout: PackedLayout | None = None,
) -> tuple[Tensor, Tensor]:
    """All states (T, B, n), and on request what :func:`loop_backward` needs of φ."""
    if layout is None and runs_in_one_kernel(inputs.device, inputs.dtype, inputs.shape[-1], phi):
        from svdbench.kernels import triton_recurrence

        assert phi.in_kernel is not None
        states = triton_recurrence.forward(inputs, W, h0, bias, phi.in_kernel)
        return states, inputs.new_empty(len(states) if keep else 1, *states.shape[1:-1], 0)
    states = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    B, n = states.shape[-2:] if layout is None else (layout.sizes[0], states.shape[-1])
    kept = inputs.new_empty(*(states.shape[:-1] if keep else (1, B)), phi.kept_size(n))
    spare = inputs.new_empty(B, n)
    steps, Wt = _steps(states, layout), W.t()
    moments = _steps(kept, layout) if keep else (kept[0],) * len(steps)
    before = h0
    for u, state, moment in zip(_steps(inputs, layout), steps, moments, strict=True):
        room = spare
        if layout is not None:  # fewer sequences are so long
            room, moment = spare[: len(u)], moment[: len(u)]
            before = None if before is None else before[: len(u)]
        if before is None:
            state.copy_(u)
        else:
            torch.addmm(u, before, Wt, out=state)
        phi.step_(state, bias, moment, room)
        before = state
    return states, kept


def loop_plain(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    bias: Tensor | None,
    phi: Activation,
    layout: PackedLayout | None,
) -> Tensor:
    """As :func:`loop_forward`, in operations that autograd differentiates itself."""
    B, n = inputs.shape[-2:] if layout is None else (layout.sizes[0], inputs.shape[-1])
    state = inputs.new_zeros(B, n) if h0 is None else h0
    states: list[Tensor] = []
    for u in _steps(inputs, layout):
        state = state if layout is None else state[: len(u)]
        state = phi.plain(torch.addmm(u, state, W.t()), bias)
        states.append(state)
    return _joined(states, inputs, layout)


def loop_backward(
    G: Tensor,
    W: Tensor,
    states: Tensor,
    kept: Tensor,
    phi: Activation,
    layout: PackedLayout | None = None,
) -> Tensor:
    """All δ_t (T, B, n), given the gradients G at the states."""
    if layout is None and runs_in_one_kernel(states.device, states.dtype, len(W), phi):
        from svdbench.kernels import triton_recurrence

        assert phi.in_kernel is not None
        return triton_recurrence.backward(G, W, states, phi.in_kernel)
    deltas = torch.empty_like(states)
    spare = states.new_empty(states.shape[-2] if layout is None else layout.sizes[0], len(W))
    steps = zip(*(_steps(tensor, layout) for tensor in (G, deltas, states, kept)), strict=True)
    after: Tensor | None = None
    for g, delta, state, moment in reversed(list(steps)):
        room = spare if layout is None else spare[: len(g)]
        if after is None:
            delta.copy_(g)
        elif layout is None or len(after) == len(g):
            torch.addmm(g, after, W, out=delta)
        else:
            delta.copy_(g)[: len(after)].addmm_(after, W)
        phi.grad_(delta, state, moment, room)
        after = delta
    return deltas


def loop_backward_plain(
    G: Tensor,
    W: Tensor,
    bias: Tensor | None,
    states: Tensor,
    phi: Activation,
    layout: PackedLayout | None = None,
) -> Tensor:
    """As :func:`loop_backward`, in operations that autograd differentiates itself."""
    deltas: list[Tensor] = []
    for g, state in reversed([*zip(_steps(G, layout), _steps(states, layout), strict=True)]):
        if deltas:
            k = deltas[-1].shape[0]
            through = torch.addmm(g[:k], deltas[-1], W)
            g = through if k == g.shape[0] else torch.cat([through, g[k:]])
        deltas.append(phi.plain_grad(g, state, bias))
    return _joined(deltas[::-1], G, layout)


def first_step(rows: Tensor, layout: PackedLayout | None) -> Tensor:
    """The first of the steps, (B, n); zeros if there is none."""
    return rows[:1].sum(0) if layout is None else rows[: layout.sizes[0]]


def weight_grad(
    deltas: Tensor, states: Tensor, h0: Tensor | None, layout: PackedLayout | None = None
) -> Tensor:
    """dW = Σ_t δ_t h_{t−1}ᵀ, (n, n)."""
    if layout is None:
        n = states.shape[-1]
        after, before = deltas[1:].reshape(-1, n), states[:-1].reshape(-1, n)
    else:
        after, before = deltas[layout.sizes[0] :], states.index_select(0, layout.before)
    dW = after.t() @ before
    return dW if h0 is None else torch.addmm(dW, first_step(deltas, layout).t(), h0)


def _steps(rows: Tensor, layout: PackedLayout | None) -> Sequence[Tensor]:
    return rows.unbind(0) if layout is None else layout.steps(rows)


def _joined(steps: list[Tensor], rows: Tensor, layout: PackedLayout | None) -> Tensor:
    if layout is not None:
        return torch.cat(steps)
    return torch.stack(steps) if steps else rows.clone()
