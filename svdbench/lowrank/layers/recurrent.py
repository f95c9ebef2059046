"""torch's RNN, LSTM and GRU with factored weights."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import (
    Factors,
    Folding,
    LowRankLayer,
    Split,
    check_rank,
    shifted,
    two_factors,
)
from svdbench.lowrank.layers.recurrent_loops import inferred, pays
from svdbench.lowrank.layers.recurrent_training import trained, trains


class LowRankRecurrent(LowRankLayer):
    """A recurrent network of low rank, used like ``torch.nn.RNN``, ``LSTM`` or ``GRU``.

    Each chosen weight, such as ``weight_hh_l0`` of shape (gates·n, n), is W₁W₂; the others and the
    biases stay dense.

    On a CPU, if no gradient is needed, a forward pass is a loop over time with two thin products
    per step (:mod:`svdbench.lowrank.layers.recurrent_loops`) where that is faster: from about 256
    units on, or 128 in large batches. It is also trained by such a loop, with a hand-written
    gradient and no second derivatives (:mod:`svdbench.lowrank.layers.recurrent_training`): an RNN
    or GRU wherever factors save multiplications, an LSTM from about 512 units on, or 256 at a low
    rank. Otherwise the dense weights are multiplied out once per pass for torch's own loop, which
    takes as long as before.

    Args:
        rnn: the dense module, which gives the initial values of the weights that are not factored.
        ranks: the rank of each weight that is factored, by its name in ``rnn``.

    Raises:
        ValueError: no such weight, a rank out of range, or an LSTM with projections.

    Attributes:
        factors: names of W₁ and W₂ for each weight that is factored.

    Example:
        >>> model = LowRankRecurrent.from_recurrent(torch.nn.LSTM(10, 20), {"weight_hh_l0": 4})
        >>> output, _ = model(torch.randn(5, 3, 10))
        >>> output.shape
        torch.Size([5, 3, 20])
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
        """Draw new factors whose products have the variance of torch's weights, 1/(3n)."""
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
        """The low-rank module nearest to ``rnn``, which is not changed.

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
        """The equivalent module of torch, with the products as weights."""
        weights = {name: weight.clone() for name, weight in self.weights().items()}
        first = weights[self.names[0]]
        rnn = deepcopy(self._loop[0]).to_empty(device=first.device)
        rnn.load_state_dict(weights)
        return rnn.train(self.training)

    to_dense = to_recurrent

    def weights(self) -> dict[str, Tensor]:
        """All weights and biases by name, dense."""
        return {
            name: self.product(*several) if len(several) > 1 else several[0]
            for name, several in self._parts().items()
        }

    def _parts(self) -> dict[str, tuple[Tensor, ...]]:
        """All weights and biases by name, as factors or as they are."""
        return {
            name: tuple(getattr(self, own) for own in self.factors.get(name, (name,)))
            for name in self.names
        }

    def forward(self, x: Any, hx: Any = None) -> Any:
        loop, parts = self._loop[0].train(self.training), self._parts()
        if pays(loop, parts, x, hx):
            return inferred(loop, parts, x, hx)
        if trains(loop, parts, x, hx):
            return trained(loop, parts, x, hx)
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
