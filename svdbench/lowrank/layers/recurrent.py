"""torch's RNN, LSTM and GRU with weights as two factors."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import (
    Factors,
    Folding,
    LowRankLayer,
    Observer,
    Split,
    check_rank,
    shifted,
    two_factors,
)

State = tuple[Tensor, ...]


def unrolled(
    rnn: nn.RNNBase, observers: Mapping[str, Observer], input: Any, hx: Any = None
) -> tuple[Any, Any]:
    """What ``rnn(input, hx)`` returns, computed step by step for observers of its weights.

    torch's own loops hide the hidden states and the gradients at the gates. This one computes
    the same, to rounding, in evaluation mode (no dropout); input and state in any of the forms
    that torch takes.

    Args:
        observers: of weights, by names as ``weight_hh_l0``; those of others are not told.
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

    data, ends = _layers(rnn, observers, data, sizes, start)

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


def _layers(
    rnn: nn.RNNBase, observers: Mapping[str, Observer], data: Tensor, sizes: list[int], start: State
) -> tuple[Tensor, list[State]]:
    """All layers and directions over packed steps of decreasing batch sizes."""
    ends: list[State] = []
    for layer in range(rnn.num_layers):
        outputs = []
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: 2 if rnn.bidirectional else 1]:
            own = tuple(each[len(ends)] for each in start)
            output, end = _direction(rnn, suffix, observers, data, sizes, own)
            outputs.append(output)
            ends.append(end)
        data = torch.cat(outputs, -1)
    return data, ends


def _direction(
    rnn: nn.RNNBase,
    suffix: str,
    observers: Mapping[str, Observer],
    data: Tensor,
    sizes: list[int],
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
    inputs, added = from_x.split(sizes), zeros.split(sizes)
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
    return torch.cat(after), _joined(state, ended)


def _joined(state: State, ended: list[State]) -> State:
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


class LowRankRecurrent(LowRankLayer):
    """Called like the ``torch.nn.RNN``, ``LSTM`` or ``GRU`` that it is made from.

    Each weight asked for, as ``weight_hh_l0`` of shape (gates·n, n), is W₁W₂; the others, and
    the biases, stay as they are.

    A forward pass makes the dense weights once and hands them to torch's own loop, which is
    as fast as it was. Making them and their gradients takes 3·rank multiplications for each
    number of a weight, the loop 3·T·B of them for T steps of B sequences. So with T·B large
    against the rank nothing is lost, and nothing is won but memory: parameters, gradients and
    the optimiser's moments. Two thin products at every step would multiply less and take
    longer, unless n is in the thousands: they wait for each other.

    Args:
        rnn: the dense module; its numbers are the start of what is not factored.
        ranks: the rank of each weight that is factored, by its name in ``rnn``.

    Raises:
        ValueError: no such weight, a rank out of range, or an LSTM with projections.

    Attributes:
        factors: names of W₁ and W₂ for each weight that is factored.
    """

    def __init__(self, rnn: nn.RNNBase, ranks: Mapping[str, int]) -> None:
        super().__init__()
        shapes = weight_shapes(rnn)
        for name in ranks:
            if name not in shapes:
                raise ValueError(f"there is no weight {name!r}: there are {', '.join(shapes)}")
        ranks = {name: check_rank(rank, *shapes[name]) for name, rank in ranks.items()}
        self._declare(rnn, ranks)
        for name, dense in rnn.named_parameters():
            if name in ranks:
                (rows, columns), rank = shapes[name], ranks[name]
                sizes = zip(self.factors[name], ((rows, rank), (rank, columns)), strict=True)
                starts = {own: dense.new_empty(size) for own, size in sizes}
            else:
                starts = {name: dense.detach().clone()}
            for own, start in starts.items():
                self.register_parameter(own, nn.Parameter(start))
        self.reset_factors()

    def _declare(self, rnn: nn.RNNBase, ranks: Mapping[str, Any]) -> None:
        self.factors = {name: (f"{name}_W1", f"{name}_W2") for name in ranks}
        self.names = [name for name, _ in rnn.named_parameters()]
        # A shape to compute with, in a tuple so that its parameters are not taken for ours.
        empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in rnn.parameters()}
        self._loop = (deepcopy(rnn, empty),)

    def reset_factors(self) -> None:
        """New random factors, of weights with the variance that torch gives them, 1/(3n)."""
        bound = self._loop[0].hidden_size ** -0.5
        for W1, W2 in self.factors.values():
            rank = getattr(self, W1).shape[1]
            nn.init.uniform_(getattr(self, W1), -((3 / rank) ** 0.5), (3 / rank) ** 0.5)
            nn.init.uniform_(getattr(self, W2), -bound, bound)

    @classmethod
    @torch.no_grad()
    def from_recurrent(
        cls,
        rnn: nn.RNNBase,
        ranks: Mapping[str, int],
        svd: Driver = truncated_svd,
        *,
        split: Split = "balanced",
    ) -> Self:
        """The module whose factored weights are nearest to those of ``rnn``, which stays.

        Args and errors as in :class:`LowRankRecurrent` and
        :meth:`svdbench.lowrank.LowRankLinear.from_linear`.
        """
        layer = cls(rnn, ranks)
        for name, pair in layer.factors.items():
            found = two_factors(getattr(rnn, name), ranks[name], svd, split)
            for own, factor in zip(pair, found, strict=True):
                getattr(layer, own).copy_(factor)
        return layer

    @classmethod
    def sharing(
        cls, dense: nn.RNNBase, factors: Mapping[str, Factors], folding: Folding = "spatial"
    ) -> Self:
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._declare(dense, factors)
        # The shift of weight_hh_l0 goes to bias_hh_l0.
        shifts = {name.replace("weight", "bias"): each.shift for name, each in factors.items()}
        for name, parameter in dense.named_parameters():
            if name in factors:
                for own, factor in zip(layer.factors[name], factors[name][:2], strict=True):
                    layer.register_parameter(own, factor)
            else:
                layer.register_parameter(name, shifted(parameter, shifts.get(name)))
        return layer.train(dense.training)

    @torch.no_grad()
    def to_recurrent(self) -> nn.RNNBase:
        """Torch's module with the products as weights, no longer tied to this one."""
        weights = {name: weight.clone() for name, weight in self.weights().items()}
        first = weights[self.names[0]]
        rnn = deepcopy(self._loop[0]).to_empty(device=first.device)
        rnn.load_state_dict(weights)
        return rnn.train(self.training)

    to_dense = to_recurrent

    def weights(self) -> dict[str, Tensor]:
        """All weights and biases by name, dense."""
        return {
            name: (
                self.product(*(getattr(self, own) for own in self.factors[name]))
                if name in self.factors
                else getattr(self, name)
            )
            for name in self.names
        }

    def forward(self, x: Any, hx: Any = None) -> Any:
        loop = self._loop[0].train(self.training)
        return functional_call(loop, self.weights(), (x, hx))

    def extra_repr(self) -> str:
        ranks = ", ".join(
            f"{name}: {getattr(self, own).shape[1]}" for name, (own, _) in self.factors.items()
        )
        return f"{self._loop[0]}, ranks {{{ranks}}}"


WITH_PROJECTIONS = "an LSTM with proj_size has low-rank recurrent weights already: leave it dense"


def weight_shapes(rnn: nn.RNNBase) -> dict[str, tuple[int, int]]:
    """The matrices of a recurrent module by name: (gates·n, inputs) and (gates·n, n).

    Raises:
        ValueError: it has projections, whose weights are low-rank already.
    """
    if rnn.proj_size:
        raise ValueError(WITH_PROJECTIONS)
    return {
        name: (dense.shape[0], dense.shape[1])
        for name, dense in rnn.named_parameters()
        if name.startswith("weight_")
    }
