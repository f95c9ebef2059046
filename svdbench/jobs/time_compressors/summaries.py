"""The methods of a ``time-compressors`` run over all draws: their numbers, each computed once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from svdbench.reporting.metrics import Metric, Values
from svdbench.reporting.words import clock_time, mebibytes, number, ratio, share, signed
from svdbench.statistics.intervals import Interval, mean_interval

KEPT = Metric("weights kept", "kept", "fraction", "lower", "mean of the draws", share)
LOSS = Metric("loss", "loss", "", "lower", "mean of the draws, held out", partial(number, digits=4))
MORE = Metric(
    "loss against {}", "difference", "", "lower", "mean of paired differences, held out", signed
)
SPENT = Metric("time to compress", "spent_s", "s", "lower", "mean of the draws", clock_time)
MEMORY = Metric("peak memory", "peak_bytes", "bytes", "lower", "largest of the draws", mebibytes)
LATENCY = Metric("latency", "latency_ratio", "× dense", "lower", "medians", ratio)
DECODING = Metric("a generated token", "decode_ratio", "× dense", "lower", "medians", ratio)


@dataclass(frozen=True)
class CompressorSummary:
    """A method within a budget, over all draws in which it has a result.

    Attributes:
        method, budget, tuned: which.
        draws: how many.
        kept: part of the numbers in the weights.
        loss: on the examples held out, the mean; ``lowest`` and ``highest`` of the draws.
        increase: of the loss over the dense model's.
        difference: this loss less that of the method ``against``, pair by pair; None of that
            method itself, or without pairs.
        spent_s: to calibrate, compress and tune.
        peak_bytes, latency_ratio, decode_ratio: NaN where not measured.
    """

    method: str
    budget: float
    tuned: bool
    draws: int
    kept: float
    loss: float
    lowest: float
    highest: float
    increase: float
    against: str
    difference: Interval | None
    spent_s: float
    peak_bytes: float
    latency_ratio: float
    decode_ratio: float

    @property
    def differs(self) -> bool:
        """Whether the difference is more than noise."""
        return self.difference is not None and self.difference.excludes(0.0)

    @cached_property
    def metrics(self) -> Values:
        of: dict[str, Any] = {"method": self.method, "budget": self.budget, "tuned": self.tuned}
        found = [
            KEPT.of(self.kept, **of),
            LOSS.of(self.loss, low=self.lowest, high=self.highest, **of),
            SPENT.of(self.spent_s, **of),
            MEMORY.of(self.peak_bytes, **of),
            LATENCY.of(self.latency_ratio, **of),
            DECODING.of(self.decode_ratio, **of),
        ]
        if self.difference is not None:
            found.append(more_than(self.against).of_interval(self.difference, **of))
        return {value.metric: value for value in found}


def more_than(against: str) -> Metric:
    """The metric of differences from a method."""
    metric = MORE
    return Metric(
        metric.name.format(against),
        *(metric.column, metric.unit, metric.better, metric.statistic),
        metric.form,
    )


def summarise(summary: pd.DataFrame, samples: pd.DataFrame) -> list[CompressorSummary]:
    """All methods with a result, by budget from the largest, then tuned, then loss."""
    found = list(_summaries(summary[summary["status"] == "ok"], samples))
    return sorted(found, key=lambda each: (-each.budget, each.tuned, each.loss))


def _summaries(ok: pd.DataFrame, samples: pd.DataFrame) -> Iterator[CompressorSummary]:
    for (budget, tuned, method), rows in ok.groupby(["budget", "tuned", "method"]):
        against = str(rows["against"].iloc[0])
        costs = rows[["calibrate_s", "compress_s", "tune_s"]].astype(float).fillna(0.0)
        yield CompressorSummary(
            method=str(method),
            budget=float(budget),
            tuned=bool(tuned),
            draws=len(rows),
            kept=float(rows["kept"].mean()),
            loss=float(rows["loss"].mean()),
            lowest=float(rows["loss"].min()),
            highest=float(rows["loss"].max()),
            increase=float(rows["increase"].mean()),
            against=against,
            difference=None if method == against else _difference(samples, rows, against),
            spent_s=float(costs.sum(axis=1).mean()),
            peak_bytes=float(rows["peak_bytes"].astype(float).max()),
            latency_ratio=_ratio(rows, "latency_s"),
            decode_ratio=_ratio(rows, "decode_s"),
        )


def _ratio(rows: pd.DataFrame, name: str) -> float:
    return float((rows[name].astype(float) / rows[f"dense_{name}"].astype(float)).mean())


def _difference(samples: pd.DataFrame, rows: pd.DataFrame, against: str) -> Interval | None:
    """A method's losses less another's, of the same blocks of examples in the same draws.

    The noise of examples and that of draws are both in it: of the two intervals, over blocks of
    their means over draws and over draws of theirs over blocks, the wider one counts.
    """
    row = rows.iloc[0]
    same = samples[(samples["budget"] == row["budget"]) & (samples["tuned"] == row["tuned"])]
    tables = [
        same[same["method"] == name].pivot_table(index="block", columns="draw", values="loss")
        for name in (row["method"], against)
    ]
    pairs = (tables[0] - tables[1]).dropna(axis="columns", how="all")
    if not pairs.size:
        return None
    over_blocks = mean_interval(list(pairs.mean(axis=1)))
    if pairs.shape[1] == 1:  # which says nothing of other draws
        return over_blocks
    over_draws = mean_interval(list(pairs.mean(axis=0)))
    return max((over_blocks, over_draws), key=lambda each: _width(each))


def _width(found: Interval) -> float:
    return found.halfwidth if math.isfinite(found.halfwidth) else math.inf
