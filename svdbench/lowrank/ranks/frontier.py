"""``rank_frontier``: every size of a network with its predicted loss, from one pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from svdbench.arguments import integer, number
from svdbench.lowrank.checks import check_model
from svdbench.lowrank.layers.base import Factors, Folding
from svdbench.lowrank.layers.weights import (
    FactorableWeight,
    by_any_name,
    copied,
    factorable_weights,
    last_layer,
    with_factors,
)
from svdbench.lowrank.ranks.allocation import Choices, Cost, Path, choices, greedy_path, knapsack
from svdbench.lowrank.ranks.curvature import DIRECTIONS, Curvature, CurvatureKind
from svdbench.lowrank.ranks.effects import output_scales
from svdbench.lowrank.ranks.examples import Data, Loss, check_data, check_loss, give_back
from svdbench.lowrank.ranks.moments import Moments, calibrate
from svdbench.lowrank.ranks.spectrum import Spectrum, spectrum
from svdbench.members import refuse_unknown

Kind = Literal["kronecker", "whitened", "plain"]
KINDS = ("kronecker", "whitened", "plain")

# Energies of a whole weight that are the damping of a loss which depends on nothing.
NOTHING = 1e-25

# The rank of each weight by its full name; None leaves it dense.
Ranks = dict[str, int | None]


@dataclass(frozen=True)
class Frontier:
    """The weights of a network as components, with the predicted cost of leaving each out.

    Losses are predicted increases over the dense network: certify them. Parameters are counted in
    the weights of ``layers`` only, without biases and the rest of the network.

    Attributes:
        layers: the components of each weight, by its full name.
        skipped: weights that are left out, with the reasons.
        multiple_of: every rank is a multiple of this number, such as 8 or 16; a layer may stay
            dense.
        macs, latency: multiply-adds per example, and seconds, of each weight's part of its layer;
            empty until ``svdbench.lowrank.costs`` counts and measures them.
        only_faster: whether a layer is restricted to ranks at which it is faster than dense.
        curvature: the curvature behind the predicted losses: "ggn" (generalised Gauss-Newton, in
            closed form), "ggn-lanczos" (by Hessian-vector products) or "fisher" (the loss's
            gradients); "" for kinds that use no loss.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        >>> X, y = torch.randn(64, 20), torch.randint(4, (64,))
        >>> frontier = rank_frontier(net, (X, y), nn.functional.cross_entropy)
        >>> sorted(frontier.ranks(fraction=0.5))
        ['0.weight', '2.weight']
    """

    layers: dict[str, Spectrum]
    skipped: Mapping[str, str] = field(default_factory=dict)
    multiple_of: int = 1
    macs: Mapping[str, Cost] = field(default_factory=dict)
    latency: Mapping[str, Cost] = field(default_factory=dict)
    only_faster: bool = False
    curvature: str = ""
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_params(self) -> int:
        """Number of parameters in the weights while all are dense."""
        return self.params({})

    @cached_property
    def points(self) -> Path:
        """The frontier: sizes ``.params`` rise and predicted ``.losses`` fall, both (P,).

        The components of all layers, sorted once by σ²/(m + n). A layer has at least rank 1, and
        is dense where its factors would not save parameters. The last point is the dense network.
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
        macs: float | None = None,
        latency: float | None = None,
        predicted_loss: float | None = None,
        multiple_of: int | None = None,
    ) -> Ranks:
        """The ranks with the lowest predicted loss for a budget, or the smallest for a given loss.

        Args:
            params: largest number of parameters in the weights.
            fraction: the same as a fraction of ``n_params``.
            macs, latency: instead: a fraction of the multiply-adds or the time of all dense layers.
            predicted_loss: instead: largest predicted increase of the loss.
            multiple_of: make every rank a multiple of this number; by default the frontier's own.

        Raises:
            ValueError: not exactly one limit, one that can't be met, ``multiple_of`` below 1, or
                unknown multiply-adds or latency.
        """
        limits: dict[str, Any] = {"params": params, "fraction": fraction, "macs": macs}
        limits |= {"latency": latency, "predicted_loss": predicted_loss}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(limits)}")
        if multiple_of is not None:
            return replace(self, multiple_of=multiple_of).ranks(**given)
        ((name, limit),) = given.items()
        limit = number(name, limit)
        if name == "predicted_loss":
            available = self._choices()
            return self._named(available, knapsack(available, loss=limit))
        available = self._choices(name if name in ("macs", "latency") else "params")
        if name != "params":
            limit *= sum(float(each.costs[-1]) for each in available)
        return self._named(available, knapsack(available, cost=limit))

    def sites(self, model: nn.Module) -> dict[str, FactorableWeight]:
        """The weights and their modules in the model that the frontier was made from."""
        foldings = {each.folding for each in self.layers.values()}
        found = [site for folding in foldings for site in factorable_weights(model, folding)[0]]
        return {site.name: site for site in found if site.name in self.layers}

    def highest_rank(self, name: str) -> int:
        """The highest rank at which the factors of a weight save parameters; 0 if none."""
        return self.layers[name].weight.most

    def params(self, ranks: Mapping[str, int | None]) -> int:
        """Number of parameters in the weights at some ranks; those not named are dense."""
        return sum(each.numbers(ranks.get(name)) for name, each in self.layers.items())

    def predicted_loss(self, ranks: Mapping[str, int | None]) -> float:
        """The predicted loss increase at some ranks: ½ Σσ² of the components left out, scaled."""
        return sum(
            float(each.energies[ranks[name] :].sum()) * self.scales.get(name, 1.0) / 2
            for name, each in self.layers.items()
            if ranks.get(name) is not None
        )

    @torch.no_grad()
    def compressed(
        self, model: nn.Module, ranks: Mapping[str, int | None], *, last: bool = False
    ) -> nn.Module:
        """A copy of the model with W_k as two factors for each weight that is given a rank.

        Weights that modules share are shared as factors.

        Args:
            model: the model that the frontier was made from.
            ranks: ranks by the names of ``layers``; None, or no entry, leaves a weight dense.
            last: release the components layer by layer, to save memory. Predictions remain
                available, but no further models can be made.

        Raises:
            ValueError: an unknown name, a rank out of range, or one at which factors save no
                parameters; or the components have been released.
        """
        chosen = self._factors(model, ranks, shared=False, last=last)
        own = [factor for _, several in chosen for each in several for factor in each[:2]]
        return copied(with_factors(model, chosen), keep=own)

    @torch.no_grad()
    def view(self, model: nn.Module, ranks: Mapping[str, int | None]) -> nn.Module:
        """Like :meth:`compressed`, for evaluation only: nothing is copied.

        Factors are slices of the spectra where possible, and everything else is shared with the
        model.
        """
        return with_factors(model, self._factors(model, ranks))

    def _factors(
        self,
        model: nn.Module,
        ranks: Mapping[str, int | None],
        *,
        shared: bool = True,
        last: bool = False,
    ) -> list[tuple[FactorableWeight, list[Factors]]]:
        refuse_unknown("weight", list(ranks), tuple(self.layers))
        sites, found = self.sites(model), []
        for name, rank in ranks.items():
            if rank is not None:
                factors = self.layers[name].factors(sites[name], rank, shared=shared)
                found.append((sites[name], factors))
                if last:
                    self.layers[name] = self.layers[name].emptied()
                    give_back()
        if last:
            self.layers.update({name: each.emptied() for name, each in self.layers.items()})
        return found

    def _choices(self, of: str = "params") -> list[Choices]:
        """The choices for each layer, with costs in numbers, multiply-adds or seconds."""
        step, found = integer("multiple_of", self.multiple_of, 1), []
        for name, each in self.layers.items():
            ranks = np.arange(step, self.highest_rank(name) + 1, step)
            if self.only_faster:
                latency = self._cost(name, "latency")
                ranks = ranks[latency.at(ranks) < latency.dense]
            if of == "params":
                costs = np.append(ranks * each.numbers(1), each.numbers(None))
            else:
                cost = self._cost(name, of)
                costs = np.append(cost.at(ranks), cost.dense)
            energies = each.energies.cpu().numpy() * self.scales.get(name, 1.0)
            found.append(choices(ranks, costs, energies))
        return found

    def _cost(self, name: str, of: str) -> Cost:
        known = self.latency if of == "latency" else self.macs
        if name not in known:
            raise ValueError(f"the {of} of {name} is unknown: pass it to the frontier")
        return known[name]

    def _named(self, available: list[Choices], chosen: list[int]) -> Ranks:
        """Ranks by name, with None for dense."""
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
    curvature: CurvatureKind = "auto",
    directions: int = DIRECTIONS,
    effects: bool = True,
    damping: float = 0.01,
    recentre: bool = True,
    layers: Sequence[str] | None = None,
    skip_last: bool = False,
    embeddings: bool = True,
    folding: Folding = "spatial",
    budget: int | None = None,
    blockwise: bool = False,
    on_moments: Callable[[FactorableWeight, Sequence[Moments]], None] = lambda site, moments: None,
) -> Frontier:
    """Predict the value of each component of each weight, from passes over calibration data.

    Near a trained network, the loss is approximately quadratic. A change Δ of a weight increases it
    by ½ tr(ΔᵀG Δ C), with C = E[x xᵀ] and G the curvature at the layer's output; in the SVD of G^½
    W C^½ that is ½ Σσ² over the components left out. Changes of different layers are assumed to add
    up.

    Args:
        model: any module; it is not changed. See :func:`svdbench.lowrank.factor` for the supported
            layers.
        data: calibration examples, separate from those for evaluation: (X, y), or batches. An input
            may be a tensor, or a tuple or dict of tensors: ``model(*X)``, ``model(**X)``.
        loss: function of the model's output and y, the mean over a batch.
        kind: "kronecker" as above; "whitened" with G = I, the error of a layer's output; "plain"
            with C = I too, the error of the weight, which needs no data.
        effects: measure the effect of each weight alone, at a low rank, on the model's output for a
            few examples, with one forward pass per weight, and scale its components accordingly.
            The scales are weakened or dropped if the resulting ranks then lose less on these
            examples. Not for "plain", a single weight, or data that can be read only once.
        curvature: "ggn", the generalised Gauss-Newton matrix, from random directions at the model's
            output: valid wherever the loss is smooth, including its minimum; "fisher", the second
            moment of the loss's gradients, which are zero at its minimum; "auto", the first of the
            two that is available. ``Frontier.curvature`` gives the one used.
        directions: number of random directions per example for "ggn", each with a backward pass.
        damping: damping of C and G, above 0, as a fraction of their mean diagonal entry.
        recentre: add (W − W_k) E[x] to the layer's bias, so that only the covariance of the inputs
            counts. Not for "plain".
        layers: full names of the weights to compress, such as "0.weight"; by default all.
        skip_last: leave the last layer dense.
        embeddings: whether to factor embedding tables, and layers tied to them.
        folding: folding of convolutions, see :class:`svdbench.lowrank.LowRankConv2d`.
        budget: bytes of moments per pass over the data; by default half the size of the model's
            parameters.
        blockwise: keep only the inputs of each block of the model (an item of its ``nn.ModuleList``
            or ``nn.Sequential``) and recompute the block in the backward pass, for examples whose
            activations take too much memory.
        on_moments: called with each weight and its moments, one for each use, before they are
            released.

    Raises:
        TypeError: ``model`` is no module, ``data`` no examples, or ``loss`` no function.
        ValueError: nothing to factor; a parameter that is not finite; NaN or infinity in the data,
            the loss or a gradient; an unknown kind, folding or layer; damping not above 0.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        >>> X, y = torch.randn(64, 20), torch.randint(4, (64,))
        >>> frontier = rank_frontier(net, (X, y), nn.functional.cross_entropy)
        >>> frontier.n_params
        720
    """
    refuse_unknown("kind of frontier", [kind], KINDS)
    if not number("damping", damping) > 0:
        raise ValueError(f"damping is {damping:g}: give a number above 0")
    check_model(model)
    if kind != "plain":
        check_data(data)
    if kind == "kronecker":
        check_loss(loss)
    found, skipped = _looked_at(model, layers, skip_last, embeddings, folding)
    _refuse_none(found, skipped)
    spectra: dict[str, Spectrum] = {}
    measured: Curvature | None = None

    def components(site: FactorableWeight, moments: Sequence[Moments] = ()) -> Spectrum:
        return spectrum(site, moments, damping=damping, recentre=recentre)

    if kind == "plain":
        spectra = {site.name: components(site) for site in found}
    else:
        judged = None
        if kind == "kronecker":
            judged, measured = loss, Curvature(loss, curvature, directions)
        passes = calibrate(
            model, data, judged, found, curvature=measured, budget=budget, blockwise=blockwise
        )
        for site, moments in passes:
            on_moments(site, moments)
            spectra[site.name] = components(site, moments)
    seen = [site for site in found if site.name in spectra]
    for site in found:
        if site.name not in spectra:
            skipped[site.name] = "no calibration row reaches it"
    _refuse_none(seen, skipped)
    if measured is not None and not any(
        float(s.energies.sum()) > NOTHING for s in spectra.values()
    ):
        raise ValueError(
            "the loss has neither a gradient nor a curvature at the model's outputs, and tells "
            "nothing of what a weight is worth: choose distillation, or kind=whitened"
        )
    frontier = Frontier(
        {site.name: spectra[site.name] for site in seen},
        skipped,
        curvature="" if measured is None else measured.used,
    )
    give_back()
    if kind != "plain" and effects and len(seen) > 1 and not isinstance(data, Iterator):
        frontier = replace(frontier, scales=output_scales(frontier, model, data, measured))
    return frontier


def _looked_at(
    model: nn.Module,
    layers: Sequence[str] | None,
    skip_last: bool,
    embeddings: bool,
    folding: Folding,
) -> tuple[list[FactorableWeight], dict[str, str]]:
    """The weights to factor, and why others are left out."""
    sites, skipped = factorable_weights(model, folding)
    last = last_layer(model, sites) if skip_last else None
    named = None if layers is None else by_any_name(sites, layers).values()
    found = []
    for site in sites:
        reason = site.refusal
        if not reason and any(use.module is last for use in site.uses):
            reason = "the last layer"
        if not reason and not embeddings and any(use.kind.lookup for use in site.uses):
            reason = "an embedding"
        if not reason and named is not None and site not in named:
            reason = "not asked for"
        if reason:
            skipped |= dict.fromkeys((use.name for use in site.uses), reason)
        else:
            found.append(site)
    return found, skipped


def _refuse_none(found: Sequence[FactorableWeight], skipped: Mapping[str, str]) -> None:
    if not found:
        why = "; ".join(f"{name} ({reason})" for name, reason in skipped.items())
        raise ValueError(f"the model has no layer to factor{why and ', only ' + why}")
