"""The algorithms of ``svdbench rank-reveal``: which rank does each weight need?"""

import math
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from svdbench.jobs.rank_reveal import EXACT, FRONTIER, PUBLISHED, RankReveal
from svdbench.jobs.rank_reveal.subject import Progress, RevealSubject
from svdbench.lowrank import (
    Curve,
    Frontier,
    Increase,
    LowRankLinear,
    Ranks,
    certify,
    factor,
    loss_curves,
    rank_frontier,
)
from svdbench.lowrank.costs import layer_latencies, layer_macs
from svdbench.lowrank.ranks.curves import linear_weights
from svdbench.lowrank.ranks.examples import called


@dataclass(frozen=True)
class RevealedLayer:
    """A weight (m, n), the rank that it was found to need, and the numbers it then has."""

    name: str
    rows: int
    columns: int
    rank: int | None
    dense_numbers: int
    numbers: int


@dataclass(frozen=True)
class RevealedRanks:
    """What an algorithm reveals.

    Attributes:
        layers: the weights it looked at; a rank of None: as they are.
        network: the model at these ranks, with factors where they have fewer numbers.
        predicted: by how much the loss should rise.
        searched: by how much it does on the examples that chose.
        evaluations, most: of the network's loss, those made, and the bound where there is one.
    """

    method: str
    layers: list[RevealedLayer]
    network: nn.Module
    seconds: float
    predicted: float | None = None
    searched: Increase | None = None
    evaluations: int | None = None
    most: int | None = None

    @property
    def saved(self) -> int:
        """How many numbers fewer there are in the weights."""
        return sum(layer.dense_numbers - layer.numbers for layer in self.layers)


@dataclass
class Revealer:
    """Runs the algorithms on a network; keeps what others may use again."""

    subject: RevealSubject
    config: RankReveal
    on_progress: Progress
    curves: dict[str, Curve] = field(default_factory=dict)
    frontiers: dict[str, Frontier] = field(default_factory=dict)
    _weights: dict[str, torch.Tensor] | None = None

    def run(self, method: str) -> RevealedRanks:
        start = time.perf_counter()
        found = {EXACT: self._exact, FRONTIER: self._frontier, PUBLISHED: self._published}[method]()
        return replace(found, seconds=time.perf_counter() - start)

    def at(self, rank: int) -> RevealedRanks:
        """All weights at a rank, or at their full one where that is less."""
        weights = self.weights()
        ranks: Ranks = {name: min(rank, *w.shape) for name, w in weights.items()}
        return self._truncated(f"rank {rank}", ranks)

    def seconds_of_exact(self) -> float:
        """What exact should take at most: the whole network for each rank."""
        start = time.perf_counter()
        self.subject.losses(self.subject.model, self.subject.curves)
        each = time.perf_counter() - start
        return each * sum(min(weight.shape) for weight in self.weights().values())

    def frontier(self, kind: str) -> Frontier:
        if kind not in self.frontiers:
            subject = self.subject
            self.on_progress(0.0, f"{kind} frontier")
            self.frontiers[kind] = rank_frontier(
                subject.model,
                subject.calibration,
                subject.loss,
                kind=kind,  # type: ignore[arg-type]
            )
        return self.frontiers[kind]

    def weights(self) -> dict[str, torch.Tensor]:
        if self._weights is None:
            found = linear_weights(self.subject.model)
            calls = Counter[str]()
            with ExitStack() as stack, torch.no_grad():
                for name, layer in found.items():

                    def count(module: nn.Module, given: object, name: str = name) -> None:
                        calls[name] += 1

                    stack.callback(layer.register_forward_pre_hook(count).remove)
                called(self.subject.model, self.subject.batch(1)[0])
            self._weights = {n: layer.weight for n, layer in found.items() if calls[n] == 1}
        return self._weights

    def _exact(self) -> RevealedRanks:
        """Of each layer the rank from which on its curve stays within epsilon of the end."""
        subject, names = self.subject, list(self.weights())
        for number, name in enumerate(names):
            self.on_progress(number / len(names), f"exact curve of {name}")
            self.curves |= loss_curves(subject.model, subject.curves, subject.loss, [name])
        epsilon = self.config.epsilon
        ranks: Ranks = {name: curve.rank(epsilon) for name, curve in self.curves.items()}
        found = self._truncated(EXACT, ranks)
        # What each layer adds alone, as if nothing added up but the losses.
        predicted = sum(
            float(curve.losses[(ranks[name] or 0) - 1]) - curve.dense
            for name, curve in self.curves.items()
        )
        made = sum(len(curve.losses) for curve in self.curves.values())
        return replace(found, predicted=predicted, evaluations=made)

    @torch.no_grad()
    def _published(self) -> RevealedRanks:
        """Keene's Algorithm 3, loop and all: an SVD and an evaluation for every rank.

        It assigns rank j where ℓ_j − ℓ_{j+1} ≥ ε, when j + 1 gains much; meant must be the
        first j where it gains less. Returned are the ranks, in place of the matrices.
        """
        subject, evaluations = self.subject, 0
        ranks: Ranks = {}
        model = deepcopy(subject.model)
        weights = self.weights()
        for number, (name, weight) in enumerate(weights.items()):
            self.on_progress(number / len(weights), f"published: {name}")
            before, most = math.inf, min(weight.shape)
            for rank in range(1, most + 1):
                U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
                model.get_parameter(name).copy_((U[:, :rank] * S[:rank]) @ Vh[:rank])
                now = float(subject.losses(model, subject.curves).mean())
                evaluations += 1
                if before - now < self.config.epsilon:
                    ranks[name] = rank - 1
                    break
                before = now
            else:
                ranks[name] = most
            model.get_parameter(name).copy_(weight)
        return replace(self._truncated(PUBLISHED, ranks), evaluations=evaluations)

    def _frontier(self) -> RevealedRanks:
        """The smallest of all sizes that the loss allows, or the best of a budget."""
        subject, config = self.subject, self.config
        frontier = replace(self.frontier(config.kind), multiple_of=config.multiple_of)
        searched = evaluations = most = None
        if config.allowed is not None:
            points = len(frontier.points.losses)
            most = math.ceil(math.log2(points)) + 5
            seen = 0

            def evaluate(ranks: Mapping[str, int | None]) -> torch.Tensor:
                nonlocal seen
                self.on_progress(min(seen / most, 1.0), f"certifying: evaluation {seen + 1}")
                seen += 1
                network = frontier.view(subject.model, ranks)
                return subject.losses(network, subject.search)

            certificate = certify(frontier, evaluate, max_loss_increase=config.allowed)
            ranks, searched = certificate.ranks, certificate.search
            evaluations = certificate.evaluations + 2  # those on the test examples
        else:
            ranks = self._within(frontier)
        return RevealedRanks(
            FRONTIER,
            [
                RevealedLayer(
                    name,
                    each.weight.rows,
                    each.weight.columns,
                    ranks[name],
                    each.numbers(None),
                    each.numbers(ranks[name]),
                )
                for name, each in frontier.layers.items()
            ],
            frontier.compressed(subject.model, ranks).eval(),
            0.0,
            predicted=frontier.predicted_loss(ranks) if config.kind == "kronecker" else None,
            searched=searched,
            evaluations=evaluations,
            most=most,
        )

    def _within(self, frontier: Frontier) -> Ranks:
        """The ranks of the lowest predicted loss within the budget."""
        ((name, share),) = self.config.budget.given().items()
        if name == "params":
            return frontier.ranks(fraction=share)
        model, (x, count) = self.subject.model, self.subject.batch(self.config.latency.batch)
        if name == "macs":
            macs = layer_macs(frontier, model, x, count)
            return replace(frontier, macs=macs).ranks(macs=share)
        latency = layer_latencies(
            frontier, model, x, on_layer=lambda layer: self.on_progress(0.5, f"latency of {layer}")
        )
        return replace(frontier, latency=latency).ranks(latency=share)

    @torch.no_grad()
    def _truncated(self, method: str, ranks: Ranks) -> RevealedRanks:
        """All weights truncated to their ranks, and as factors where those save."""
        network = deepcopy(self.subject.model)
        layers = []
        saving: Ranks = {}
        for name, rank in ranks.items():
            weight = network.get_parameter(name)
            rows, columns = weight.shape
            numbers = rows * columns
            if rank is not None and LowRankLinear.saves(columns, rows, rank):
                saving[name], numbers = rank, rank * (rows + columns)
            elif rank is not None and rank < min(rows, columns):
                U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
                weight.copy_((U[:, :rank] * S[:rank]) @ Vh[:rank])
            layers.append(RevealedLayer(name, rows, columns, rank, rows * columns, numbers))
        network, _ = factor(network, saving, skip_last=False, inplace=True)
        return RevealedRanks(method, layers, network.eval(), 0.0)
