"""A recurrent module of torch computed step by step, and its inputs as rows of steps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from svdbench.lowrank.layers.base import Observer

State = tuple[Tensor, ...]

# By the ending of its weights' names, as "l0_reverse": from the rows that come in (N, in), how
# many of them each step has, and the states before the first step, (B, n) each, to the rows that
# come out (N, n) and the states after the last step.
Direction = Callable[[str, Tensor, Sequence[int], State], tuple[Tensor, State]]


def unrolled(
    rnn: nn.RNNBase, observers: Mapping[str, Observer], input: Any, hx: Any = None
) -> tuple[Any, Any]:
    """What ``rnn(input, hx)`` returns, computed step by step for observers of its weights.

    torch's own loops hide the hidden states and the gradients at the gates. This one computes
    the same, to rounding, in evaluation mode (no dropout).

    Args:
        observers: of weights, by names as ``weight_hh_l0``; those of others are not called.
    """
    return by_direction(rnn, partial(_observed, rnn, observers), input, hx)


def by_direction(
    rnn: nn.RNNBase, direction: Direction, input: Any, hx: Any = None
) -> tuple[Any, Any]:
    """What ``rnn(input, hx)`` returns, given what computes one direction of a layer.

    Input and state are in any of the forms that torch takes; there is no dropout. Rows are
    packed step by step, the longest sequence first.
    """
    batched, unsorted = True, None
    if isinstance(input, PackedSequence):
        data, sizes = input.data, input.batch_sizes.tolist()
        unsorted = input.unsorted_indices
        if hx is not None and input.sorted_indices is not None:
            hx = rnn.permute_hidden(hx, input.sorted_indices)
    else:
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(0 if rnn.batch_first else 1)
        x = x.transpose(0, 1) if rnn.batch_first else x
        data, sizes = x.flatten(0, 1), [x.shape[1]] * x.shape[0]
    layers = rnn.num_layers * (2 if rnn.bidirectional else 1)
    parts = 2 if rnn.mode == "LSTM" else 1
    if hx is None:
        start = tuple(data.new_zeros(layers, sizes[0], rnn.hidden_size) for _ in range(parts))
    else:
        start = tuple(hx) if parts == 2 else (hx,)
        start = start if batched else tuple(each.unsqueeze(1) for each in start)

    ends: list[State] = []
    for layer in range(rnn.num_layers):
        outputs = []
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: 2 if rnn.bidirectional else 1]:
            own = tuple(each[len(ends)] for each in start)
            output, last = direction(suffix, data, sizes, own)
            outputs.append(output)
            ends.append(last)
        data = torch.cat(outputs, -1) if rnn.bidirectional else outputs[0]

    end: Any = tuple(torch.stack(each) for each in zip(*ends, strict=True))
    end = end if parts == 2 else end[0]
    if isinstance(input, PackedSequence):
        end = end if unsorted is None else rnn.permute_hidden(end, unsorted)
        return input._replace(data=data), end
    y = data.unflatten(0, (len(sizes), -1))
    y = y.transpose(0, 1) if rnn.batch_first else y
    if not batched:
        y = y.squeeze(0 if rnn.batch_first else 1)
        end = tuple(each.squeeze(1) for each in end) if parts == 2 else end.squeeze(1)
    return y, end


def _observed(
    rnn: nn.RNNBase,
    observers: Mapping[str, Observer],
    suffix: str,
    data: Tensor,
    sizes: Sequence[int],
    start: State,
) -> tuple[Tensor, State]:
    W_ih, W_hh = (getattr(rnn, f"weight_{which}_{suffix}") for which in ("ih", "hh"))
    b_ih, b_hh = (getattr(rnn, f"bias_{which}_{suffix}", None) for which in ("ih", "hh"))
    see_x, see_h = (observers.get(f"weight_{which}_{suffix}") for which in ("ih", "hh"))
    from_x = F.linear(data, W_ih, b_ih)
    if see_x is not None:
        see_x.columns(data.detach())
        from_x = see_x.output(from_x)
    # Zeros that are added to what comes from h have the gradients of all steps in one tensor.
    zeros = torch.zeros_like(from_x) if see_h is None else see_h.output(torch.zeros_like(from_x))
    inputs, added = from_x.split(list(sizes)), zeros.split(list(sizes))
    steps = range(len(sizes))
    backward = suffix.endswith("_reverse")
    before: list[Tensor] = [data] * len(sizes)
    after: list[Tensor] = [data] * len(sizes)
    ended: list[State] = []
    state = tuple(each[: sizes[-1] if backward else sizes[0]] for each in start)
    for t in reversed(steps) if backward else steps:
        size = sizes[t]
        if len(state[0]) > size:  # shorter sequences end here
            ended.append(tuple(each[size:] for each in state))
            state = tuple(each[:size] for each in state)
        elif len(state[0]) < size:  # going backwards, they begin here
            state = tuple(
                torch.cat([each, first[len(each) : size]])
                for each, first in zip(state, start, strict=True)
            )
        before[t] = state[0]
        state = _step(rnn.mode, inputs[t], F.linear(state[0], W_hh, b_hh) + added[t], state)
        after[t] = state[0]
    if see_h is not None:
        see_h.columns(torch.cat(before).detach())
    return torch.cat(after), joined(state, ended)


def joined(state: State, ended: list[State]) -> State:
    """The last states of all sequences, the longest first."""
    return tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))


def _step(mode: str, x: Tensor, h: Tensor, state: State) -> State:
    """The next state from the products with the input and with the state before."""
    match mode:
        case "LSTM":
            i, f, g, o = (x + h).chunk(4, -1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        case "GRU":
            (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), h.chunk(3, -1)
            z = (xz + hz).sigmoid()
            n = (xn + (xr + hr).sigmoid() * hn).tanh()
            return ((1 - z) * n + z * state[0],)
        case "RNN_TANH":
            return ((x + h).tanh(),)
    return ((x + h).relu(),)
