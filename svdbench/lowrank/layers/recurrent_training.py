"""A loop over time, for training, that multiplies with the two factors of an LSTM's weights.

A step adds two thin products with the state before it, and takes as many backwards. The gradients
of the factors are then two products for all steps together. With m = 4n rows a weight of rank r
takes 3·r(m + n) multiplications for a step of a sequence, and torch's own loop 3·mn.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from svdbench.errors import refuse_second_derivative
from svdbench.lowrank.layers.recurrent_loops import (
    Parts,
    fits,
    is_plain,
    saves,
    steps_of,
)
from svdbench.lowrank.layers.recurrent_steps import State, by_direction

# What decides, fitted to measurements of both loops for 64 to 512 units and batches of 8 to 512, in
# float32 on one thread of an Intel Xeon with AVX-512: multiply-adds in a µs, and the µs that this
# loop takes longer, for the calls of a step and for each unit of each of its sequences.
MULTIPLIED, CALLS, UNIT = 5e4, 130, 0.035


def trains(rnn: nn.RNNBase, parts: Parts, input: Any, hx: Any = None) -> bool:
    """Whether :func:`trained` takes what is given, and is faster than torch's own loop.

    It takes LSTMs in float32 and float64 on a CPU with the factors of all recurrent weights, and
    sequences of one length. It has no second derivative.
    """
    if rnn.mode != "LSTM" or isinstance(input, PackedSequence) or not torch.is_grad_enabled():
        return False
    states = () if hx is None else tuple(hx)
    tensors = [input, *states, *(part for several in parts.values() for part in several)]
    return (
        is_plain(rnn, tensors)
        and any(each.requires_grad for each in tensors)
        and fits(rnn, input, input, states)
        and all(len(own) == 2 for name, own in parts.items() if name.startswith("weight_hh"))
        and _saves_time(rnn, parts, input.numel() // rnn.input_size, steps_of(rnn, input))
    )


def _saves_time(rnn: nn.RNNBase, parts: Parts, rows: int, steps: int) -> bool:
    """Whether the multiplications that are saved take longer than calling them step by step."""
    saved, directions = 0, rnn.num_layers * (2 if rnn.bidirectional else 1)
    for name, factors in parts.items():
        if name.startswith("weight") and len(factors) == 2:
            W1, W2 = factors
            dense, made = len(W1) * W2.shape[1], W1.numel() * W2.shape[1]
            saved += 3 * (rows * max(0, dense - W1.numel() - W2.numel()) + made)
    lost = directions * (steps * CALLS * torch.get_num_threads() + UNIT * rows * rnn.hidden_size)
    return saved / MULTIPLIED > lost


def trained(rnn: nn.RNNBase, parts: Parts, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """What ``rnn(input, hx)`` returns with these weights, to be differentiated.

    Args:
        rnn: sizes and options; its own weights are not read.
        parts: all weights and biases.
    """
    return by_direction(rnn, partial(_direction, parts), input, hx)


def _direction(
    parts: Mapping[str, Sequence[Tensor]],
    suffix: str,
    x: Tensor,
    sizes: Sequence[int],
    start: State,
) -> tuple[Tensor, State]:
    """Of rows (T·B, in), T steps of B, the states as rows, and the last ones."""
    biases = [
        parts[name][0] for which in ("ih", "hh") if (name := f"bias_{which}_{suffix}") in parts
    ]
    bias = biases[0] + biases[1] if biases else None
    u = _times(x, parts[f"weight_ih_{suffix}"], bias).unflatten(0, (len(sizes), -1))
    backward = suffix.endswith("_reverse")
    u = u.flip(0) if backward else u
    y, h, c = _LSTMLoop.apply(u, *start, *parts[f"weight_hh_{suffix}"])
    return (y.flip(0) if backward else y).flatten(0, 1), (h, c)


def _times(x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """xWᵀ + b, by the factors where they save."""
    W, *rest = factors
    if not rest:
        return F.linear(x, W, bias)
    if saves(W, rest[0]):
        return F.linear(F.linear(x, rest[0]), W, bias)
    return F.linear(x, W @ rest[0], bias)


class _LSTMLoop(torch.autograd.Function):
    """States h (T, B, n), and the last h and c (B, n), of an LSTM whose weight is W₁W₂.

    Args of ``forward``:
        u: what comes from the inputs, with both biases, (T, B, 4n): i, f, g and o, as torch has
            them. They become the gates.
        h, c: before the first step, (B, n).
        W1, W2: (4n, r) and (r, n).
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, h: Tensor, c: Tensor, W1: Tensor, W2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        T, B, n = *u.shape[:2], h.shape[1]
        gates, p = u, u.new_empty(T, B, len(W2))
        cells, y, tanhs = u.new_empty(T + 1, B, n), u.new_empty(T + 1, B, n), u.new_empty(T, B, n)
        cells[0], y[0] = c, h
        # Transposed once: products with few rows then take half the time.
        down, up = W2.t().contiguous(), W1.t().contiguous()
        i_f, g, o = gates[..., : 2 * n], gates[..., 2 * n : 3 * n], gates[..., 3 * n :]
        for z, thin, before, now, h, new, tanh, z_if, z_g, z_o in zip(
            *(gates.unbind(), p.unbind(), cells[:-1].unbind(), cells[1:].unbind()),
            *(y[:-1].unbind(), y[1:].unbind(), tanhs.unbind()),
            *(i_f.unbind(), g.unbind(), o.unbind()),
            strict=True,
        ):
            torch.mm(h, down, out=thin)
            torch.addmm(z, thin, up, out=z)
            z_if.sigmoid_()
            z_g.tanh_()
            z_o.sigmoid_()
            torch.mul(z_if[:, n:], before, out=now)
            now.addcmul_(z_if[:, :n], z_g)
            torch.tanh(now, out=tanh)
            torch.mul(z_o, tanh, out=new)
        ctx.save_for_backward(gates, p, cells, y, tanhs, W1, W2)
        return y[1:], y[-1].clone(), cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dh: Tensor, dc: Tensor) -> tuple[Tensor, ...]:
        refuse_second_derivative("an LSTM in factors")
        gates, p, cells, y, tanhs, W1, W2 = ctx.saved_tensors
        n = tanhs.shape[2]
        dz, dp = torch.empty_like(gates), torch.empty_like(p)
        dh, dc = dh.clone(), dc.clone()
        part, other = torch.empty_like(dh), torch.empty_like(dh)
        of_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
        of_tanh = torch.ops.aten.tanh_backward.grad_input
        steps = zip(
            *(dy.unbind(), gates.unbind(), cells[:-1].unbind(), tanhs.unbind()),
            *(dz.unbind(), dp.unbind()),
            strict=True,
        )
        for from_y, z, before, tanh, all_z, thin in reversed(list(steps)):
            (i, f, g, o), (di, df, dg, do) = z.split(n, 1), all_z.split(n, 1)
            dh += from_y
            torch.mul(dh, tanh, out=part)
            of_sigmoid(part, o, grad_input=do)
            torch.mul(dh, o, out=part)
            dc += of_tanh(part, tanh, grad_input=other)
            torch.mul(dc, g, out=part)
            of_sigmoid(part, i, grad_input=di)
            torch.mul(dc, before, out=part)
            of_sigmoid(part, f, grad_input=df)
            torch.mul(dc, i, out=part)
            of_tanh(part, g, grad_input=dg)
            dc *= f
            torch.mm(all_z, W1, out=thin)
            torch.mm(thin, W2, out=dh)
        rows, narrow = dz.flatten(0, 1), dp.flatten(0, 1)
        dW1 = (p.flatten(0, 1).t() @ rows).t()  # faster than its transpose
        return dz, dh, dc, dW1, narrow.t() @ y[:-1].flatten(0, 1)
