"""What ``svdbench rank-reveal`` writes down: layers, networks, curves, and frontiers."""

from dataclasses import asdict
from typing import Any

from svdbench.jobs.rank_reveal import FRONTIER, RankReveal
from svdbench.jobs.rank_reveal.algorithms import RevealedRanks
from svdbench.jobs.rank_reveal.points import FrontierPoint
from svdbench.jobs.rank_reveal.subject import TestScores
from svdbench.lowrank import Curve, Increase
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.measure.machine import device_name, threads_of
from svdbench.record.run import RunWriter
from svdbench.record.schema import TRAINING_STATUSES, TableSchema, cell_id

_NETWORK = ("model", "dataset", "method", "seed", "device", "threads")

# A row for each weight that an algorithm looked at. ``rank`` is what it was found to need,
# empty for a weight that stays as it is, ``full`` the most that it could have; ``numbers`` it
# then has, as factors where they save.
SAMPLES = TableSchema(
    "samples",
    (*_NETWORK, *("layer", "rows", "columns", "rank", "full", "form", "dense_numbers", "numbers")),
    TRAINING_STATUSES,
)

# A row for each algorithm, and one for the dense network, by seed. Losses and accuracies are
# those of the test examples, ``increase`` over the dense network's with the standard error
# of the mean of pairs; ``predicted`` beforehand; ``searched`` on the examples that chose.
# ``weights`` are the numbers in the weights that any algorithm looked at, ``kept`` their part of
# the dense ones; ``macs`` are of one example,
# ``latency_s`` a forward pass of ``latency_batch``; ``evaluations`` of the true loss, of which
# there may be ``most_evaluations``; ``decompose_s`` the time of the algorithm; ``speedup`` the
# dense network's latency over its own.
SUMMARY = TableSchema(
    "summary",
    (
        *_NETWORK,
        *("kind", "epsilon", "allowed", "budget", "multiple_of", "rank"),
        *("split", "loss", "accuracy", "increase", "increase_se", "examples"),
        *("predicted", "searched", "searched_se", "searched_examples"),
        *("n_params", "weights", "kept", "macs", "bytes", "latency_s", "latency_batch", "speedup"),
        *("evaluations", "most_evaluations", "decompose_s", "elapsed_s", "device_name"),
    ),
    TRAINING_STATUSES,
)

# The loss of the examples of the curves with one layer at a rank, the others dense.
CURVES = TableSchema(
    "curves", (*_NETWORK, "layer", "rank", "full", "loss", "dense_loss", "singular_value")
)

# The test loss of a network of ``fraction`` of the numbers in the weights, where ``budget``
# was allowed, the ranks chosen by a method; ``dense`` for a weight that stays so.
POINTS = TableSchema(
    "frontier",
    (
        *_NETWORK,
        *("budget", "params", "fraction", "ranks", "predicted"),
        *("loss", "accuracy", "dense_loss", "dense_accuracy"),
    ),
)

DENSE = "dense"


class RankRows:
    def __init__(
        self,
        record: RunWriter,
        config: RankReveal,
        model: str,
        dataset: str,
        options: dict[str, Any],
    ) -> None:
        self.record, self.config = record, config
        self.network = {
            "model": model,
            "dataset": dataset,
            "device": config.device,
            "threads": threads_of(config.device),
        }
        self.options = options | {
            "epsilon": config.epsilon,
            "kind": config.kind,
            "allowed": config.allowed,
            "budget": config.budget.given(),
            "multiple_of": config.multiple_of,
        }

    def found(self, seed: int, found: RevealedRanks) -> None:
        for layer in found.layers:
            row = asdict(layer)
            row["layer"] = row.pop("name")
            row["full"] = min(layer.rows, layer.columns)
            row["form"] = "factors" if layer.numbers < layer.dense_numbers else "dense"
            self.record.append(SAMPLES, self._cell(seed, found.method) | row)

    def summary(
        self,
        seed: int,
        found: RevealedRanks,
        weights: int,
        judged: TestScores,
        dense: TestScores,
        costs: dict[str, Any],
    ) -> None:
        """The row of an algorithm's network; that of the dense one has no layers."""
        config = self.config
        row: dict[str, Any] = self._cell(seed, found.method) | costs
        row |= {
            "split": "test",
            "loss": judged.loss,
            "accuracy": judged.accuracy,
            "examples": len(judged.losses),
            "n_params": numbers_of(found.network),
            "bytes": bytes_of(found.network),
            "weights": weights - found.saved,
            "kept": 1 - found.saved / weights,
        }
        if found.layers:
            increase = Increase.of(judged.losses, dense.losses)
            row |= {
                "increase": increase.mean,
                "increase_se": increase.standard_error,
                "predicted": found.predicted,
                "evaluations": found.evaluations,
                "most_evaluations": found.most,
                "decompose_s": found.seconds,
                "epsilon": config.epsilon,
            }
            ranks = {layer.rank for layer in found.layers}
            row["rank"] = ranks.pop() if len(ranks) == 1 else None
        if found.searched is not None:
            row |= {
                "searched": found.searched.mean,
                "searched_se": found.searched.standard_error,
                "searched_examples": found.searched.examples,
            }
        if found.method == FRONTIER:
            limits = [f"{name} {share:g}" for name, share in config.budget.given().items()]
            row |= {
                "kind": config.kind,
                "epsilon": None,
                "allowed": config.allowed,
                "budget": limits[0] if limits else None,
                "multiple_of": config.multiple_of,
            }
        self.record.append(SUMMARY, row | {"device_name": device_name(config.device)})

    def curve(self, seed: int, name: str, curve: Curve) -> None:
        common = self._cell(seed, "exact") | {"layer": name, "dense_loss": curve.dense}
        values = zip(curve.losses.tolist(), curve.singular_values.tolist(), strict=True)
        for rank, (loss, value) in enumerate(values, 1):
            row = {"rank": rank, "full": len(curve.losses), "loss": loss, "singular_value": value}
            self.record.append(CURVES, common | row)

    def point(self, seed: int, point: FrontierPoint, dense: TestScores) -> None:
        row = self._cell(seed, point.method, budget=point.budget) | {
            "budget": point.budget,
            "params": point.params,
            "fraction": point.fraction,
            "predicted": point.predicted,
            "dense_loss": dense.loss,
            "dense_accuracy": dense.accuracy,
        }
        if point.ranks is not None and point.judged is not None:
            named = [DENSE if rank is None else str(rank) for rank in point.ranks.values()]
            scores = {"loss": point.judged.loss, "accuracy": point.judged.accuracy}
            row |= {"ranks": " ".join(named), **scores}
        else:
            row |= {"status": "skipped", "reason": point.reason}
        self.record.append(POINTS, row)

    def _cell(self, seed: int, method: str, **more: Any) -> dict[str, Any]:
        settings = self.network | {"method": method, "seed": seed}
        cell = cell_id(job=self.record.job, settings=settings, options=self.options, more=more)
        return settings | {"cell": cell, "status": "ok"}
