"""``LowRankRecurrent``: torch's RNN, LSTM or GRU with weights that are kept as two factors."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import (
    Factors,
    Folding,
    LayerKind,
    LowRankLayer,
    Observer,
    Part,
    shifted,
    substituted,
)
from svdbench.lowrank.layers.linear import Split, check_rank, two_factors
from svdbench.lowrank.layers.unrolled import unrolled


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
    ) -> "LowRankRecurrent":
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
    def sharing(cls, rnn: nn.RNNBase, factors: Mapping[str, Factors]) -> "LowRankRecurrent":
        """The module with these very factors; what isn't factored is that of ``rnn`` itself.

        The shift of ``weight_hh_l0`` goes to ``bias_hh_l0``.
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._declare(rnn, factors)
        shifts = {name.replace("weight", "bias"): each.shift for name, each in factors.items()}
        for name, dense in rnn.named_parameters():
            if name in factors:
                for own, factor in zip(layer.factors[name], factors[name][:2], strict=True):
                    layer.register_parameter(own, factor)
            else:
                layer.register_parameter(name, shifted(dense, shifts.get(name)))
        return layer.train(rnn.training)

    @torch.no_grad()
    def to_recurrent(self) -> nn.RNNBase:
        """Torch's module with the products as weights, no longer tied to this one."""
        weights = {name: weight.clone() for name, weight in self.weights().items()}
        first = weights[self.names[0]]
        rnn = deepcopy(self._loop[0]).to_empty(device=first.device)
        rnn.load_state_dict(weights)
        return rnn.train(self.training)

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


class RecurrentKind(LayerKind):
    """``nn.RNN``, ``nn.LSTM``, ``nn.GRU``: products with the input and the state before a step.

    Rows come in for each step of each sequence, and the gradient is that at the gates before
    their activations, where the result of the product is added.
    """

    dense, low_rank = (nn.RNN, nn.LSTM, nn.GRU), (LowRankRecurrent,)

    def parts(self, module: nn.RNNBase, folding: Folding) -> list[Part]:
        refusal = _REFUSED if module.proj_size else ""
        return [
            Part(name, p, p.shape[0], p.shape[1], bias=module.bias, refusal=refusal)
            for name, p in module.named_parameters()
            if name.startswith("weight_")
        ]

    def matrix(self, module: nn.RNNBase, own: str, folding: Folding) -> Tensor:
        return module.get_parameter(own).detach()

    def watch(
        self, module: nn.RNNBase, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        return substituted(module, partial(unrolled, module, observers))

    def factored(
        self, module: nn.RNNBase, factors: Mapping[str, Factors], folding: Folding
    ) -> LowRankRecurrent:
        return LowRankRecurrent.sharing(module, factors)

    def unfactored(self, layer: LowRankRecurrent) -> nn.RNNBase:
        return layer.to_recurrent()


_REFUSED = "an LSTM with proj_size has low-rank recurrent weights already: leave it dense"


def weight_shapes(rnn: nn.RNNBase) -> dict[str, tuple[int, int]]:
    """The matrices of a recurrent module by name: (gates·n, inputs) and (gates·n, n).

    Raises:
        ValueError: it has projections, whose weights are low-rank already.
    """
    if rnn.proj_size:
        raise ValueError(_REFUSED)
    return {
        name: (dense.shape[0], dense.shape[1])
        for name, dense in rnn.named_parameters()
        if name.startswith("weight_")
    }
