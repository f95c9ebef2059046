"""Metrics that can be compared: times, losses, errors, sizes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from svdbench.errors import UserError
from svdbench.jobs.compare.runs import Row, Side
from svdbench.record.lines import RecordError
from svdbench.record.schema import ended_well
from svdbench.reporting.columns import metric_of
from svdbench.reporting.metrics import Metric

# Accuracies are compared by what is missing: a step from 99% to 98% doubles the errors.
_REST = ("accuracy", "test_accuracy", "best_accuracy", "energy")

# Relative to another row of the same run, which may have changed instead.
_RELATIVE = ("vs_best", "over_optimal", "added")

# Compared by default, where a run has them: timings, then trainings.
_TIMINGS = ("step_s", "time_s")
_TRAININGS = ("loss", "accuracy", "kept", "n_params", "epoch_s", "step_s", "latency_s")
# The score of a test set stands for that of the last evaluation.
_BETTER = {"loss": "test_loss", "accuracy": "test_accuracy"}


@dataclass(frozen=True)
class ComparedMetric:
    """A metric in a form of which less is better.

    Attributes:
        metric: of a column of the tables.
        sampled: whether its values are those of ``samples.csv``, or the summary's.
    """

    metric: Metric
    sampled: bool = False

    @property
    def column(self) -> str:
        return self.metric.column

    @property
    def is_time(self) -> bool:
        return self.metric.unit == "s"

    @property
    def is_rest(self) -> bool:
        return self.column in _REST

    @property
    def name(self) -> str:
        """The error for an accuracy, the column without its unit otherwise."""
        if self.is_rest:
            return {"energy": "1 − energy"}.get(
                self.column, self.column.replace("accuracy", "error")
            )
        return self.column.removesuffix("_s")

    def cost(self, row: Row) -> float | None:
        """The value of a row, of which less is better; None where there is none."""
        value = number(row, self.column)
        if value is None:
            return None
        if self.is_time and value <= 0:
            raise RecordError(
                f"{self.column} of cell {row['cell']} is {value}: repair or delete the row"
            )
        return 1 - value if self.is_rest else value

    def text(self, value: float) -> str:
        """As people read it."""
        return self.metric.form(value)


def number(row: Row, column: str) -> float | None:
    """A finite number of a row; None where there is none.

    Raises:
        RecordError: something else stands there.
    """
    text = row.get(column) or "nan"
    try:
        value = float(text)
    except ValueError as error:
        fault = (
            f"{column} of cell {row['cell']} is {text!r}, not a number: repair or delete the row"
        )
        raise RecordError(fault) from error
    return value if math.isfinite(value) else None


def is_training(side: Side) -> bool:
    """Whether cells have seeds, and results that depend on them; else they are timings."""
    return any("seed" in row for row in side.summary[:1])


def choose(a: Side, b: Side, asked: Sequence[str] | None) -> list[ComparedMetric]:
    """The metrics asked for, or those that both sides have of the usual ones.

    Raises:
        UserError: a metric that isn't known, or that one of the sides doesn't have.
    """
    both = _in_common(a, b)
    known = sorted(name for name in both if _is_comparable(name))
    if asked is not None:
        for name in asked:
            if name not in known:
                raise UserError(
                    f"--metrics {name!r} is not a metric of both runs: choose from "
                    f"{', '.join(known) or 'none: they have no metric in common'}"
                )
        return [_metric(a, b, name) for name in dict.fromkeys(asked)]
    usual = _TRAININGS if is_training(a) else _TIMINGS
    names = [_BETTER.get(name, name) for name in usual if _BETTER.get(name) in known]
    names += [name for name in usual if name in known and _BETTER.get(name) not in known]
    if not is_training(a) and not names:
        names = [name for name in ("median_s",) if name in known]
    if "loss" in names or "test_loss" in names:
        names = [name for name in names if name != "n_params"]
    if not names:
        raise UserError(f"{a.name} and {b.name} have no metric in common: nothing to compare")
    order = [*_BETTER.values(), *usual]
    return [_metric(a, b, name) for name in sorted(names, key=lambda n: (*order, n).index(n))]


def _in_common(a: Side, b: Side) -> set[str]:
    """Columns with a value on both sides; where all cells of one failed, those of the other."""
    found = [_filled(side.summary) | _filled(side.samples) for side in (a, b)]
    alive = [any(map(ended_well, side.summary)) for side in (a, b)]
    return found[0] & found[1] if all(alive) or not any(alive) else found[alive.index(True)]


def _filled(rows: Iterable[Row]) -> set[str]:
    found: set[str] = set()
    for row in rows:
        found |= {name for name, value in row.items() if value and name not in found}
    return found


def _is_comparable(column: str) -> bool:
    metric = metric_of(column)
    if metric is None:
        return False
    return column in _REST or (metric.better == "lower" and column not in _RELATIVE)


def _metric(a: Side, b: Side, column: str) -> ComparedMetric:
    """The metric, with samples of a time where both sides have them."""
    metric = metric_of(column)
    assert metric is not None
    sampled = metric.unit == "s" and all(column in _filled(side.samples) for side in (a, b))
    return ComparedMetric(metric, sampled)
