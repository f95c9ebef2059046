"""A loop over time, for inference, that multiplies with the two factors of recurrent weights.

What comes from the inputs is one product for a block of steps that fits the cache. Each step
then adds two thin products with the state before it, and applies the gates in place. Against
torch's own loops it saves multiplications; calling eight operations at a step is what it costs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from svdbench.lowrank.layers.recurrent_steps import State, by_direction, joined

# A weight as (W,) or (W₁, W₂), and a bias as (b,), by the names that torch gives them.
Parts = Mapping[str, Sequence[Tensor]]

ROWS = 512  # of a block of steps: in float32 those of an LSTM with 256 units take 2 MB

# What decides between the loops, fitted to measurements of both for 64 to 512 units and batches of
# 1 to 64, in float32 on one thread of an Intel Xeon with AVX-512. Numbers of a weight that are
# read in a µs, and multiply-adds in a µs; and for each kind of network the µs that a step of this
# loop takes longer, by its calls and for each of the units of a batch.
READ, MULTIPLIED = 1.2e4, 5e4
LONGER = {"LSTM": (36, 0.008), "GRU": (20, 0.0), "RNN_TANH": (15, 0.0), "RNN_RELU": (15, 0.0)}
LESS_DENSE = 1.2  # a multiply-add of a thin product takes so much longer
PREPARED = 100  # µs that a call takes longer, for each direction of a layer


def pays(rnn: nn.RNNBase, parts: Parts, input: Any, hx: Any = None) -> bool:
    """Whether :func:`inferred` takes what is given, and is faster than torch's own loop.

    It takes float32 and float64 on a CPU where no gradient is needed and nothing is dropped.
    All else is left to torch, and so is what does not fit, which it refuses.
    """
    x = input.data if isinstance(input, PackedSequence) else input
    states = () if hx is None else (hx if isinstance(hx, tuple) else (hx,))
    tensors = [x, *states, *(part for several in parts.values() for part in several)]
    return (
        is_plain(rnn, tensors)
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in tensors))
        and fits(rnn, input, x, states)
        and _saves_time(rnn, parts, x.numel() // rnn.input_size, steps_of(rnn, input))
    )


def is_plain(rnn: nn.RNNBase, tensors: Sequence[Any]) -> bool:
    """Whether these are tensors on a CPU without transforms or tracers, and nothing is dropped."""
    return (
        all(type(each) in (Tensor, nn.Parameter) for each in tensors)
        and {each.dtype for each in tensors} in ({torch.float32}, {torch.float64})
        and {each.device.type for each in tensors} == {"cpu"}
        and not (rnn.training and rnn.dropout and rnn.num_layers > 1)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
    )


def fits(rnn: nn.RNNBase, input: Any, x: Tensor, states: Sequence[Tensor]) -> bool:
    """Whether torch's loop takes these shapes."""
    batch: tuple[int, ...]
    if isinstance(input, PackedSequence):
        batch = (int(input.batch_sizes[0]),)
    else:
        batch = () if x.ndim == 2 else (x.shape[0 if rnn.batch_first else 1],)
    wanted = (rnn.num_layers * (2 if rnn.bidirectional else 1), *batch, rnn.hidden_size)
    return (
        x.numel() > 0
        and x.ndim in (2, 3)
        and x.shape[-1] == rnn.input_size
        and len(states) in (0, 2 if rnn.mode == "LSTM" else 1)
        and all(state.shape == wanted for state in states)
    )


def steps_of(rnn: nn.RNNBase, input: Any) -> int:
    """How many steps the longest sequence has."""
    if isinstance(input, PackedSequence):
        return len(input.batch_sizes)
    return int(input.shape[1 if input.ndim == 3 and rnn.batch_first else 0])


def _saves_time(rnn: nn.RNNBase, parts: Parts, rows: int, steps: int) -> bool:
    """Whether the multiplications that are saved take longer than calling them step by step."""
    calls, unit = LONGER[rnn.mode]
    directions = rnn.num_layers * (2 if rnn.bidirectional else 1)
    at_once = MULTIPLIED * torch.get_num_threads()
    saved = 0.0
    for name, factors in parts.items():
        if name.startswith("weight") and len(factors) == 2:
            W1, W2 = factors
            dense, made = len(W1) * W2.shape[1], W1.numel() * W2.shape[1]
            thin = min(W1.numel() + W2.numel(), dense)
            saved += steps * (dense - thin) / READ + made / at_once
            saved += rows * (dense - LESS_DENSE * thin) / at_once
    lost = steps * calls + PREPARED + unit * rows * rnn.hidden_size / torch.get_num_threads()
    return saved > directions * lost


@torch.no_grad()
def inferred(rnn: nn.RNNBase, parts: Parts, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """What ``rnn(input, hx)`` returns with these weights in evaluation mode, without gradients.

    Args:
        rnn: sizes and options; its own weights are not read.
        parts: all weights and biases.
    """
    return by_direction(rnn, partial(_direction, _CELLS[rnn.mode], parts), input, hx)


def _direction(
    kind: Callable[..., "_Cell"],
    parts: Parts,
    suffix: str,
    x: Tensor,
    sizes: list[int],
    start: State,
) -> tuple[Tensor, State]:
    ih, hh = (parts[f"weight_{which}_{suffix}"] for which in ("ih", "hh"))
    names = [f"bias_{which}_{suffix}" for which in ("ih", "hh")]
    biases = [parts[name][0] for name in names if name in parts]
    cell = kind(hh, biases, start)
    blocks = list(_blocks(sizes))
    most = max(rows.stop - rows.start for rows, _ in blocks)
    from_x = _RowProduct(ih, cell.order, most)
    u, y = x.new_empty(most, from_x.last.shape[1]), x.new_empty(len(x), cell.n)
    backward = suffix.endswith("_reverse")
    h = start[0][: sizes[-1] if backward else sizes[0]]
    ended: list[State] = []
    known: list[int] = []
    views: list[Any] = []
    for rows, own in reversed(blocks) if backward else blocks:
        drive = u[: rows.stop - rows.start]
        from_x.times(x[rows], cell.input_bias, out=drive)
        if own != known:
            known, views = own, [cell.views(each) for each in drive.split(own)]
        states = y[rows].split(own)
        for k in reversed(range(len(own))) if backward else range(len(own)):
            if len(h) > own[k]:  # shorter sequences end here
                ended.append((h[own[k] :],))
                h = h[: own[k]]
            elif len(h) < own[k]:  # going backwards, they begin here
                h = torch.cat([h, start[0][len(h) : own[k]]])
            cell.step(views[k], h, states[k])
            h = states[k]
    return y, (*joined((h,), ended), *cell.rest())


def _blocks(sizes: list[int]) -> Iterator[tuple[slice, list[int]]]:
    """Steps with ``ROWS`` rows together at most, or single ones: the rows, and how many a step."""
    first, count = 0, 0
    own: list[int] = []
    for size in sizes:
        if own and count + size > ROWS:
            yield slice(first, first + count), own
            first, count, own = first + count, 0, []
        own.append(size)
        count += size
    yield slice(first, first + count), own


class _RowProduct:
    """A weight for products with rows: xWᵀ, or (xW₂ᵀ)W₁ᵀ where that is fewer multiplications.

    It is transposed once: products with few rows then take half the time.

    Args:
        factors: W, or W₁ and W₂.
        order: the blocks of rows of W, as they are wanted.
        rows: of x at most.
    """

    def __init__(self, factors: Sequence[Tensor], order: Sequence[slice], rows: int) -> None:
        W, *rest = factors
        if rest and not saves(W, rest[0]):
            W, rest = W @ rest[0], []
        W = torch.cat([W[block] for block in order]) if len(order) > 1 else W
        self.last = W.t().contiguous()
        self.first = rest[0].t().contiguous() if rest else None
        self.room = None if self.first is None else W.new_empty(rows, self.first.shape[1])
        self.thin = self.room

    def times(self, x: Tensor, added: Tensor | None, out: Tensor) -> None:
        """Write xWᵀ to ``out``, with something added."""
        if self.first is not None and self.room is not None and self.thin is not None:
            if len(x) != len(self.thin):
                self.thin = self.room[: len(x)]
            x = torch.mm(x, self.first, out=self.thin)
        if added is None:
            torch.mm(x, self.last, out=out)
        else:
            torch.addmm(added, x, self.last, out=out)


def saves(W1: Tensor, W2: Tensor) -> bool:
    """Whether two factors have fewer numbers than their product."""
    return W1.numel() + W2.numel() < len(W1) * W2.shape[1]


class _Cell(ABC):
    """The step of one direction of a layer, with the state that it carries along.

    Args:
        hh: the weight of the state, or its factors.
        biases: of inputs and state, or none.
        start: states before the first step, (B, n) each.

    Attributes:
        gates: the order in which blocks of n rows of the weights are used.
        input_bias: what is added to what comes from the inputs.
    """

    gates: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, hh: Sequence[Tensor], biases: Sequence[Tensor], start: State) -> None:
        B, self.n = start[0].shape
        self.order = [slice(k * self.n, (k + 1) * self.n) for k in self.gates]
        self.from_h = _RowProduct(hh, self.order, B)
        ordered = [torch.cat([bias[rows] for rows in self.order]) for bias in biases]
        self.input_bias = torch.stack(ordered).sum(0) if ordered else None

    def views(self, u: Tensor) -> Any:
        """The parts of a step's rows (B, gates·n) of what comes from the inputs."""
        return u

    @abstractmethod
    def step(self, views: Any, h: Tensor, y: Tensor) -> None:
        """Write the state that follows h to y."""

    def rest(self) -> State:
        """The last state but for h."""
        return ()


class _Tanh(_Cell):
    def step(self, views: Tensor, h: Tensor, y: Tensor) -> None:
        self.from_h.times(h, views, out=views)
        torch.tanh(views, out=y)


class _ReLU(_Cell):
    def step(self, views: Tensor, h: Tensor, y: Tensor) -> None:
        self.from_h.times(h, views, out=views)
        torch.clamp_min(views, 0, out=y)


class _LSTM(_Cell):
    """c ← f∘c + i∘g and h = o∘tanh(c), with c beside g so that both products are one."""

    gates = (0, 1, 3, 2)  # input, forget, output; and the cell's, which has no sigmoid

    def __init__(self, hh: Sequence[Tensor], biases: Sequence[Tensor], start: State) -> None:
        super().__init__(hh, biases, start)
        self.gc = torch.cat([torch.empty_like(start[0]), start[1]], 1)
        self.added = torch.empty_like(self.gc)
        self._of: dict[int, tuple[Tensor, ...]] = {}

    def views(self, u: Tensor) -> tuple[Tensor, ...]:
        B, n = len(u), self.n
        if B not in self._of:
            gc, added = self.gc[:B], self.added[:B]
            self._of[B] = gc, gc[:, :n], gc[:, n:], added, added[:, :n], added[:, n:]
        return u, u[:, : 3 * n], u[:, : 2 * n], u[:, 2 * n : 3 * n], u[:, 3 * n :], *self._of[B]

    def step(self, views: tuple[Tensor, ...], h: Tensor, y: Tensor) -> None:
        u, ifo, i_f, o, before_g, gc, g, c, added, ig, fc = views
        self.from_h.times(h, u, out=u)
        ifo.sigmoid_()
        torch.tanh(before_g, out=g)
        torch.mul(i_f, gc, out=added)
        torch.add(ig, fc, out=c)
        torch.tanh(c, out=y)
        y.mul_(o)

    def rest(self) -> State:
        return (self.gc[:, self.n :],)


class _GRU(_Cell):
    """n = tanh(xₙ + r∘hₙ) and h ← n + z∘(h − n), where hₙ has the bias of the state in it."""

    gates = (0, 1, 2)

    def __init__(self, hh: Sequence[Tensor], biases: Sequence[Tensor], start: State) -> None:
        super().__init__(hh, biases[:1], start)
        self.state_bias = biases[1] if biases else None
        self.through = start[0].new_empty(len(start[0]), 3 * self.n)

    def views(self, u: Tensor) -> tuple[Tensor, ...]:
        n, through = self.n, self.through[: len(u)]
        rz, others = u[:, : 2 * n], (through, through[:, : 2 * n], through[:, 2 * n :])
        return rz, rz[:, :n], rz[:, n:], u[:, 2 * n :], *others

    def step(self, views: tuple[Tensor, ...], h: Tensor, y: Tensor) -> None:
        rz, r, z, n, through, through_rz, through_n = views
        self.from_h.times(h, self.state_bias, out=through)
        rz.add_(through_rz).sigmoid_()
        n.add_(through_n.mul_(r)).tanh_()
        torch.lerp(n, h, z, out=y)


_CELLS: Mapping[str, Callable[..., _Cell]] = {
    "LSTM": _LSTM,
    "GRU": _GRU,
    "RNN_TANH": _Tanh,
    "RNN_RELU": _ReLU,
}
