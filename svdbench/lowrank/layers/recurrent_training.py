"""A loop over time, for training, that multiplies with the two factors of recurrent weights.

A step adds two thin products with the state before it, and takes as many backwards. The gradients
of the factors are then two products for all steps together. With m = gates·n rows a weight of rank
r takes 3·r(m + n) multiplications for a step of a sequence, and torch's own loop 3·mn.

GRUs and RNNs may be trained by this loop with dense weights, too, as torch's own takes longer:
otherwise factors would be compared with a slower loop, not with a dense weight.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from svdbench.errors import refuse_second_derivative
from svdbench.lowrank.layers.recurrent_cells import CELLS
from svdbench.lowrank.layers.recurrent_loops import (
    Parts,
    fits,
    is_plain,
    saves,
    steps_of,
)
from svdbench.lowrank.layers.recurrent_steps import State, by_direction

# What decides, fitted to measurements of both loops for 64 to 512 units, in float32 on one thread:
# multiply-adds in a µs, and for each kind of network the µs that this loop takes longer, for the
# calls of a step and for each unit of each of its sequences. Of an LSTM, for batches of 8 to 512 on
# an Intel Xeon with AVX-512. Of GRUs and RNNs torch's own loop takes 1.1 to 1.5 times as long even
# with dense weights, for 16 to 512 units and batches of 8 and 50 on an AMD EPYC.
MULTIPLIED = 5e4
LONGER = {"LSTM": (130, 0.035), "GRU": (0, 0.0), "RNN_TANH": (0, 0.0), "RNN_RELU": (0, 0.0)}
# The kinds that this loop trains faster than torch's with dense weights, too.
FASTER_DENSE = ("GRU", "RNN_TANH", "RNN_RELU")


def trains(rnn: nn.RNNBase, parts: Parts, input: Any, hx: Any = None) -> bool:
    """Whether :func:`trained` takes what is given, and is faster than torch's own loop.

    It takes float32 and float64 on a CPU, LSTMs with the factors of all recurrent weights, GRUs and
    RNNs also with dense ones, and sequences of one length. It has no second derivative.
    """
    if isinstance(input, PackedSequence) or not torch.is_grad_enabled():
        return False
    states = () if hx is None else (hx if isinstance(hx, tuple) else (hx,))
    tensors = [input, *states, *(part for several in parts.values() for part in several)]
    return (
        is_plain(rnn, tensors)
        and any(each.requires_grad for each in tensors)
        and fits(rnn, input, input, states)
        and _saves_time(rnn, parts, input.numel() // rnn.input_size, steps_of(rnn, input))
    )


def _saves_time(rnn: nn.RNNBase, parts: Parts, rows: int, steps: int) -> bool:
    """Whether the multiplications that are saved take longer than calling them step by step."""
    saved, directions = 0, rnn.num_layers * (2 if rnn.bidirectional else 1)
    recurrent = [own for name, own in parts.items() if name.startswith("weight_hh")]
    if any(len(own) == 1 for own in recurrent) and rnn.mode not in FASTER_DENSE:
        return False
    for name, factors in parts.items():
        if name.startswith("weight") and len(factors) == 2:
            W1, W2 = factors
            dense, made = len(W1) * W2.shape[1], W1.numel() * W2.shape[1]
            less = dense - W1.numel() - W2.numel()
            saved += 3 * (rows * (less if name.startswith("weight_hh") else max(0, less)) + made)
    calls, unit = LONGER[rnn.mode]
    lost = directions * (steps * calls * torch.get_num_threads() + unit * rows * rnn.hidden_size)
    return saved >= 0 if not lost else saved / MULTIPLIED > lost


def as_trained(rnn: nn.Module, input: Any, hx: Any = None) -> Any:
    """What ``rnn(input, hx)`` returns, by this loop where it is faster with dense weights, too.

    Args:
        rnn: of torch, or with weights as factors.

    Example:
        >>> rnn, x = torch.nn.RNN(5, 64), torch.randn(3, 2, 5)
        >>> torch.allclose(as_trained(rnn, x)[0], rnn(x)[0], atol=1e-5)
        True
    """
    if isinstance(rnn, nn.GRU | nn.RNN) and type(rnn) in (nn.GRU, nn.RNN):
        parts = {name: (parameter,) for name, parameter in rnn.named_parameters()}
        if trains(rnn, parts, input, hx):
            return trained(rnn, parts, input, hx)
    return rnn(input, hx)


def trained(rnn: nn.RNNBase, parts: Parts, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """What ``rnn(input, hx)`` returns with these weights, to be differentiated.

    Args:
        rnn: sizes and options; its own weights are not read.
        parts: all weights and biases.
    """
    return by_direction(rnn, partial(_direction, rnn.mode, parts), input, hx)


def _direction(
    mode: str,
    parts: Mapping[str, Sequence[Tensor]],
    suffix: str,
    x: Tensor,
    sizes: Sequence[int],
    start: State,
) -> tuple[Tensor, State]:
    """Of rows (T·B, in), T steps of B, the states as rows, and the last ones."""
    ih, hh = (parts[f"weight_{which}_{suffix}"] for which in ("ih", "hh"))
    biases = [
        parts[name][0] for which in ("ih", "hh") if (name := f"bias_{which}_{suffix}") in parts
    ]
    bias = biases[0] if biases else None
    beside = biases[1] if biases else None  # that of the state
    if bias is not None and beside is not None and mode != "GRU":  # which has it within a gate
        bias, beside = bias + beside, None
    u = _times(x, ih, bias).unflatten(0, (len(sizes), -1))
    backward = suffix.endswith("_reverse")
    u = u.flip(0) if backward else u
    W, W2 = hh if len(hh) > 1 else (*hh, None)
    y, *last = _Loop.apply(mode, u, beside, W, W2, *start)
    return (y.flip(0) if backward else y).flatten(0, 1), tuple(last)


def _times(x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """xWᵀ + b, by the factors where they save."""
    W, *rest = factors
    if not rest:
        return F.linear(x, W, bias)
    if saves(W, rest[0]):
        return F.linear(F.linear(x, rest[0]), W, bias)
    return F.linear(x, W @ rest[0], bias)


NAMES = {"LSTM": "an LSTM", "GRU": "a GRU", "RNN_TANH": "an RNN", "RNN_RELU": "an RNN"}


class _Loop(torch.autograd.Function):
    """States h (T, B, n) of a recurrent network, and the last ones (B, n), h first.

    Args of ``forward``:
        mode: of torch's module.
        u: what comes from the inputs, (T, B, gates·n), with the biases; overwritten.
        bias: of the product with the state, (gates·n,), for a GRU; or None.
        W, W2: the recurrent weight (gates·n, n) and None, or its factors (gates·n, r) and (r, n).
        start: states before the first step, (B, n) each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mode: str,
        u: Tensor,
        bias: Tensor | None,
        W: Tensor,
        W2: Tensor | None,
        *start: Tensor,
    ) -> tuple[Tensor, ...]:
        cell = CELLS[mode][0](u, start)
        # Transposed once: products with few rows then take half the time.
        up = W.t().contiguous()
        down = None if W2 is None else W2.t().contiguous()
        p = None if W2 is None else u.new_empty(*u.shape[:2], len(W2))
        y, each = cell.y, cell.views()
        if mode == "GRU":
            added = [u.new_zeros(len(W)) if bias is None else bias] * len(u)
        else:
            added = list(cell.z.unbind())
        steps = zip(cell.z.unbind(), added, y[:-1].unbind(), _steps(p, len(u)), each, strict=True)
        for z, more, h, thin, views in steps:
            if down is not None:
                h = torch.mm(h, down, out=thin)
            torch.addmm(more, h, up, out=z)
            cell.step(*views)
        ctx.mode = mode
        ctx.save_for_backward(y, p, W, W2, *cell.saved)
        return y[1:], y[-1].clone(), *cell.last()

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dh: Tensor, *ends: Tensor) -> tuple[Tensor | None, ...]:
        y, p, W, W2, *saved = ctx.saved_tensors
        in_factors = "" if W2 is None else " in factors"
        refuse_second_derivative(f"{NAMES[ctx.mode]}{in_factors}")
        dh, ends = dh.clone(), tuple(each.clone() for each in ends)
        cell = CELLS[ctx.mode][1](y, saved, ends)
        dp = None if p is None else torch.empty_like(p)
        steps = zip(
            *(dy.unbind(), cell.dz.unbind(), _steps(dp, len(dy)), cell.views()), strict=True
        )
        last = W if W2 is None else W2
        for left, (from_y, dz, thin, views) in zip(
            range(len(dy) - 1, -1, -1), reversed(list(steps)), strict=True
        ):
            dh += from_y
            cell.step(dh, *views)
            if W2 is not None:
                dz = torch.mm(dz, W, out=thin)
            if left == 0 and not ctx.needs_input_grad[5]:
                break  # the first state has no gradient to find
            if cell.skips:
                torch.addmm(dh, dz, last, out=dh)
            else:
                torch.mm(dz, last, out=dh)
        rows, before = cell.dz.flatten(0, 1), y[:-1].flatten(0, 1)
        dW2 = None
        if p is None or dp is None:
            dW = rows.t() @ before
        else:
            dW = (p.flatten(0, 1).t() @ rows).t()  # faster than its transpose
            dW2 = dp.flatten(0, 1).t() @ before
        dbias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return None, cell.du, dbias, dW, dW2, dh, *ends


def _steps(whole: Tensor | None, count: int) -> Sequence[Any]:
    """A tensor for each step, or nothing for each."""
    return [None] * count if whole is None else whole.unbind()
