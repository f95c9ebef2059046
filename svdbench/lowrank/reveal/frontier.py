"""``rank_frontier``: every size a network can have, with its loss foretold, in one pass."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import nn

from svdbench.lowrank.layers.factor import Weight, factor
from svdbench.lowrank.layers.linear import LowRankLinear
from svdbench.lowrank.reveal.allocation import Choices, Path, choices, greedy_path, knapsack
from svdbench.lowrank.reveal.examples import Data, Loss
from svdbench.lowrank.reveal.spectrum import Spectrum, spectrum
from svdbench.lowrank.reveal.statistics import calibrate, linear_weights
from svdbench.registry import refuse_unknown

Kind = Literal["kronecker", "whitened", "plain"]
KINDS = ("kronecker", "whitened", "plain")

# The rank of each weight by its full name; None leaves it dense.
Ranks = dict[str, int | None]


@dataclass(frozen=True)
class Frontier:
    """The linear layers of a network as components, and what leaving them out should cost.

    Losses are predicted, and above the dense network's: certify them. Numbers are counted
    in the weights of ``layers`` alone, without biases and what else the network has.

    Attributes:
        layers: by the full name of the weight.
        skipped: weights that stay as they are, and why.
    """

    layers: Mapping[str, Spectrum]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_params(self) -> int:
        """Numbers in the weights while all are dense."""
        return sum(int(each.params[-1]) for each in self._choices())

    @cached_property
    def points(self) -> Path:
        """The frontier: sizes ``.params`` rise and predicted ``.losses`` fall, both (P,).

        Components of all layers by σ²/(m + n), sorted once. A layer has rank 1 at least and
        is dense from where its factors would have no fewer numbers. The last point is the
        dense network.
        """
        return greedy_path(self._choices())

    def ranks_at(self, point: int) -> Ranks:
        """The ranks at one of the ``points``."""
        return self._named(self._choices(), list(self.points.chosen[point]))

    def ranks(
        self,
        *,
        params: int | None = None,
        fraction: float | None = None,
        predicted_loss: float | None = None,
        multiple_of: int = 1,
    ) -> Ranks:
        """The ranks with the lowest predicted loss for a size, or the smallest for a loss.

        Args:
            params: numbers in the weights, at most.
            fraction: of ``n_params``, in their place.
            predicted_loss: above the dense network's, at most, in their place.
            multiple_of: of every rank, as 8 or 16 for hardware; a layer may stay dense.

        Raises:
            ValueError: not exactly one limit, one that nothing is small enough for, or
                ``multiple_of`` below 1.
        """
        if sum(limit is not None for limit in (params, fraction, predicted_loss)) != 1:
            raise ValueError("give one of params, fraction and predicted_loss")
        if multiple_of < 1:
            raise ValueError(f"multiple_of is {multiple_of}: give 1 or more")
        limit = fraction * self.n_params if fraction is not None else params
        available = self._choices(multiple_of)
        return self._named(available, knapsack(available, params=limit, loss=predicted_loss))

    def params(self, ranks: Mapping[str, int | None]) -> int:
        """Numbers in the weights at some ranks."""
        return sum(
            each.weight.rows * each.weight.columns
            if ranks.get(name) is None
            else (ranks[name] or 0) * (each.weight.rows + each.weight.columns)
            for name, each in self.layers.items()
        )

    def predicted_loss(self, ranks: Mapping[str, int | None]) -> float:
        """½ Σσ² of what some ranks leave out, of all layers together."""
        return sum(
            float(each.energies[ranks[name] :].sum()) / 2
            for name, each in self.layers.items()
            if ranks.get(name) is not None
        )

    @torch.no_grad()
    def compressed(self, model: nn.Module, ranks: Mapping[str, int | None]) -> nn.Module:
        """A copy of the model with W_k as two factors for each weight that has a rank.

        Args:
            model: that which the frontier was made of.
            ranks: by the names of ``layers``; None, or no entry, leaves a weight dense.

        Raises:
            ValueError: an unknown name, or a rank out of range.
        """
        refuse_unknown("weight", list(ranks), tuple(self.layers))
        model = deepcopy(model)
        for name, rank in ranks.items():
            if rank is None:
                continue
            layer, owner = self.layers[name], name.rpartition(".")[0]
            dense = model.get_parameter(name)
            model, _ = factor(
                model,
                {name: rank},
                skip_last=False,
                only_if_saves=False,
                inplace=True,
                svd=layer.driver,
            )
            new, shift = model.get_submodule(owner), layer.bias_shift(dense, rank)
            if shift is not None and isinstance(new, LowRankLinear) and new.bias is not None:
                new.bias.add_(shift)
        return model

    def _choices(self, multiple_of: int = 1) -> list[Choices]:
        return [
            choices(each.weight.rows, each.weight.columns, each.energies.cpu().numpy(), multiple_of)
            for each in self.layers.values()
        ]

    def _named(self, available: list[Choices], chosen: list[int]) -> Ranks:
        """By name, with None for dense."""
        return {
            name: int(each.ranks[one]) or None
            for name, each, one in zip(self.layers, available, chosen, strict=True)
        }


def rank_frontier(
    model: nn.Module,
    data: Data,
    loss: Loss,
    *,
    kind: Kind = "kronecker",
    damping: float = 0.01,
    recentre: bool = True,
) -> Frontier:
    """What each component of each linear layer is worth, from one pass over calibration data.

    The loss near a trained network is about a parabola, ½ tr(ΔᵀG Δ C) for a change Δ of a
    weight, C = E[x xᵀ] and G = E[g gᵀ]; in the SVD of G^½ W C^½ it is ½ Σσ² of the components
    left out. Changes of different layers are taken to add up.

    Args:
        model: any module; its layers of class ``nn.Linear`` are looked at, and it stays as
            it is.
        data: calibration examples, apart from those that will judge: (X, y), or batches.
        loss: of the model's output and y, the mean over a batch.
        kind: "kronecker" as above; "whitened" with G = I, the error of a layer's output;
            "plain" with C = I too, the error of the weight, which needs no data.
        damping: of C and G, above 0, as a fraction of their mean diagonal entry.
        recentre: a layer's bias takes over what its mean input loses, (W − W_k) E[x], so
            that only the spread of the inputs counts. Not for "plain".

    Raises:
        ValueError: nothing to factor; NaN or infinity; an unknown kind; damping not above 0.
    """
    refuse_unknown("kind of frontier", [kind], KINDS)
    if not damping > 0:
        raise ValueError(f"damping is {damping:g}: give a number above 0")
    found, skipped = linear_weights(model)
    _refuse_none(found, skipped)
    moments = {}
    if kind != "plain":
        moments = calibrate(model, data, loss if kind == "kronecker" else None, found)
        for name in [name for name in found if name not in moments]:
            skipped[name] = "no calibration row comes to it"
            del found[name]
        _refuse_none(found, skipped)
    layers = {}
    for name, layer in found.items():
        weight = Weight(name, *layer.weight.shape)
        layers[name] = spectrum(
            weight,
            layer.weight,
            moments.pop(name, None),  # freed as it is used
            damping=damping,
            recentre=recentre and layer.bias is not None,
        )
    return Frontier(layers, skipped)


def _refuse_none(found: Mapping[str, nn.Linear], skipped: Mapping[str, str]) -> None:
    if not found:
        why = "; ".join(f"{name} ({reason})" for name, reason in skipped.items())
        raise ValueError(f"the model has no linear layer to factor{why and ', only ' + why}")
