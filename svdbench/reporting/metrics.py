"""Metrics: named numbers with a unit, a direction and a statistic, shared by all forms of a report.

A job declares each of its metrics once and computes its values once, from the run's tables.
The terminal, Markdown, the HTML page, the list of runs and the JSON show these values. Columns of
tables that are metrics have them by name: :func:`metric_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from svdbench.reporting.words import UNKNOWN, few, interval, known, number, seconds

if TYPE_CHECKING:
    from svdbench.statistics.intervals import Interval
from svdbench.reporting.words import count, ratio, share

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Metric:
    """What a number says of a run.

    Attributes:
        name: in words, such as ``"training speed"``.
        column: the name for programs, that of the column it is computed from.
        unit: such as ``"s"``, ``"× DNN"`` or ``"fraction"``; empty for a plain number.
        better: whether less or more is better; empty where neither is.
        statistic: how it is computed from several values, such as ``"median over seeds"``.
        form: writes a value for people.

    Example:
        >>> speed = Metric("training speed", "speed", "× DNN", "higher", "paired median", ratio)
        >>> speed.of(1.0846, seeds=5, arm="SVD-DNN").text
        '1.08×'
    """

    name: str
    column: str
    unit: str = ""
    better: Better = ""
    statistic: str = ""
    form: Callable[[float], str] = number

    def of(
        self,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        seeds: int | None = None,
        **of: Any,
    ) -> MetricValue:
        """A value of the metric, and what it is of: ``of(0.0026, method="fasth", d=512)``."""
        return MetricValue(self, float(value), of, low, high, seeds)

    def of_interval(self, found: Interval, *, seeds: int | None = None, **of: Any) -> MetricValue:
        """A value with the ends of its interval: :meth:`of` its mean."""
        return self.of(found.mean, low=found.low, high=found.high, seeds=seeds, **of)

    @property
    def description(self) -> str:
        """Name, unit and statistic: ``training speed, × DNN, paired median``."""
        return ", ".join(filter(None, (self.name, self.unit, self.statistic)))


@dataclass(frozen=True)
class MetricValue:
    """A value of a metric, not rounded.

    Attributes:
        of: what it is the value of, such as ``{"method": "fasth", "d": 512}``.
        low, high: ends of its interval; None where it has none.
        seeds: over how many seeds it was aggregated; None where there are no seeds.
    """

    metric: Metric
    value: float
    of: Mapping[str, Any] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    seeds: int | None = None

    @property
    def text(self) -> str:
        """As people read it, in every form of a report."""
        return known(self.value, self.metric.form)

    @property
    def interval(self) -> str:
        """Both ends of the interval as people read them; a dash where there is none."""
        ends = self.low, self.high
        if any(end is None or not math.isfinite(end) for end in ends):
            return UNKNOWN
        return interval(*ends, self.metric.form)  # type: ignore[arg-type]

    @property
    def record(self) -> dict[str, Any]:
        """As programs read it: numbers are not rounded, those that are not finite are None."""
        metric = self.metric
        return {
            "name": metric.name,
            "column": metric.column,
            "unit": metric.unit,
            "better": metric.better,
            "statistic": metric.statistic,
            "of": {name: plain(value) for name, value in self.of.items()},
            "value": plain(self.value),
            "low": plain(self.low),
            "high": plain(self.high),
            "seeds": self.seeds,
            "text": self.text,
        }


# The values of one thing, such as an arm or a model, by metric.
Values = dict[Metric, MetricValue]
EPOCH = Metric("time of an epoch", "epoch_s", "s", "lower", "median over seeds and epochs", seconds)


def plain(value: Any) -> Any:
    """A value as JSON can hold it; None for a number that is not finite."""
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def headline(groups: Iterable[tuple[str, Sequence[MetricValue]]], most: int = 4) -> str:
    """A line from the values of some metrics: ``lstm: test accuracy 98%, test loss 0.07; …``.

    Args:
        groups: what the values are of, and the values; those that are not known are left out.
        most: the largest number of groups to name; the others are counted.
    """
    found = []
    for name, values in groups:
        known_ones = [value for value in values if value.value == value.value]
        if known_ones:
            words = ", ".join(f"{value.metric.name} {value.text}" for value in known_ones)
            found.append(f"{name}: {words}" if name else words)
    return few(found, most)


FRACTION, BYTES, TIMES = "fraction", "bytes", "×"
# Times that are no measure of speed: budgets, quartiles, floors, and what has passed so far.
_NO_SPEED = (
    *("floor_s", "q25_s", "q75_s", "elapsed_s", "evaluation_s"),
    *("budget_s", "used_s", "search_s"),
)


def _all(unit: str, better: Better, *columns: str) -> list[Metric]:
    forms = {FRACTION: share, BYTES: count, "count": count, TIMES: ratio}
    form = forms.get(unit)
    named = [(column.replace("_", " "), column) for column in columns]
    if form is None:
        return [Metric(name, column, unit, better) for name, column in named]
    return [Metric(name, column, unit, better, form=form) for name, column in named]


_METRICS = {
    metric.column: metric
    for metric in (
        *_all("", "lower", "loss", "test_loss", "best_loss", "train_loss"),
        *_all("", "lower", "error", "rel_error", "promise", "relative_loss"),
        *_all("count", "lower", "steps_to_target", "n_params", "macs", "multiplications"),
        *_all(BYTES, "lower", "bytes", "peak_bytes", "train_bytes"),
        *_all(BYTES, "", "dense_bytes"),
        *_all(FRACTION, "lower", "kept", "added"),
        *_all(FRACTION, "higher", "accuracy", "test_accuracy", "best_accuracy", "energy"),
        *_all(FRACTION, "higher", "of_floor", "of_larger_floor", "of_best"),
        *_all(FRACTION, "", "dense_accuracy", "chance", "fraction", "phi", "budget"),
        *_all(TIMES, "higher", "speedup", "ceiling"),
        *_all(TIMES, "lower", "vs_best", "over_optimal"),
    )
}


def metric_of(column: str) -> Metric | None:
    """What a column says, where it is a metric; times are recognised by their ``_s``."""
    if column in _METRICS:
        return _METRICS[column]
    if not column.endswith("_s") or column.endswith("_per_s"):
        return None
    better: Better = "" if column.endswith(_NO_SPEED) else "lower"
    return Metric(column.removesuffix("_s").replace("_", " "), column, "s", better, form=seconds)
