"""One side of a comparison as it lies on disk, and its metrics that can be compared."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svdbench.errors import UserError, one_line
from svdbench.files import NAME
from svdbench.record.lines import RecordError
from svdbench.record.reader import CONFIG, ENVIRONMENT, RecordedRun
from svdbench.record.schema import PLACE, ended_well
from svdbench.reporting.metrics import Metric, metric_of

Row = dict[str, str]

# In which folder of a side a row was found; no column of any table has this name.
RUN = "run folder"

# Keys of a configuration that say where a run goes or for how long it may, not what it is.
_FREE = (*PLACE, "seed", "seeds", "max_minutes", "budget_s")


@dataclass(frozen=True)
class Side:
    """What one side of a comparison has written down.

    Attributes:
        name: what the user called it.
        job: the command that wrote it.
        summary, samples: rows, every value as text, with the run's folder beside.
        environments: what each ``env.json`` says; empty where there is none.
        settings: of each run, its configuration, flat: ``{"sizes.m": 32, …}``.
        complaints: about files that could be read in part.
    """

    name: str
    job: str
    summary: list[Row]
    samples: list[Row]
    environments: list[dict[str, Any]]
    settings: list[dict[str, Any]]
    complaints: list[str]

    @property
    def versions(self) -> set[str]:
        """The versions of the schema that the rows have."""
        return {row["schema_version"] for row in self.summary}

    def values(self, column: str) -> set[str]:
        """What stands in a column of the summary, empty cells left out."""
        return {row[column] for row in self.summary if row.get(column)}


def load(given: str, results: Path = Path("results")) -> Side:
    """Read a folder, or a name that only one run under ``results`` has.

    A folder without tables of its own stands for the runs in it: repetitions of the same
    cells, or the parts of a sweep.

    Raises:
        UserError: no such run, several, or one that can't be read.
    """
    runs = _runs(_find(given, results))
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        summary, samples = _rows(runs, "summary"), _rows(runs, "samples")
    jobs = sorted({row.get("job", "") for row in summary})
    if not summary:
        raise UserError(f"{given} has no rows in summary.csv: nothing was measured")
    if len(jobs) > 1:
        raise UserError(
            f"{given} holds runs of several jobs ({', '.join(jobs)}): give the folder of one job"
        )
    return Side(
        given,
        jobs[0],
        summary,
        samples,
        [run.facts if (run.folder / ENVIRONMENT).exists() else {} for run in runs],
        [_settings(run) for run in runs],
        [str(complaint.message) for complaint in complaints],
    )


def _find(given: str, results: Path) -> Path:
    path = Path(given)
    try:
        if path.is_dir():
            return path
        if path.exists():
            raise UserError(f"{given} is a file: give the folder of a run")
        if (results / path).is_dir() and ".." not in path.parts and not path.is_absolute():
            candidates = [results / path] if _having_tables(results / path) else []
        else:
            candidates = []
        if not candidates and NAME.fullmatch(given):
            found = (one for depth in range(1, 5) for one in results.glob("*/" * depth + given))
            candidates = sorted(one for one in found if _having_tables(one))
    except (OSError, ValueError) as error:  # a name too long, or with NUL in it
        raise UserError(f"can't read {given!r}: {one_line(error)}: check the path") from error
    if len(candidates) > 1:
        raise UserError(
            f"several runs are called {given!r}: give the folder, "
            f"{', '.join(map(str, candidates[:3]))}{' or another' * (len(candidates) > 3)}"
        )
    if not candidates:
        raise UserError(
            f"there is no run {given!r}: give a folder, such as results/time-fasth/NAME, "
            f"or a name under {results}/"
        )
    return candidates[0]


def _having_tables(folder: Path) -> list[RecordedRun]:
    """The runs in a folder, or in the only job in it; where there is none, itself if a run."""
    for place in (folder, *_folders_in(folder)):
        parts = RecordedRun(place).parts
        if runs := [run for run in parts if (run.folder / "summary.csv").is_file()]:
            return runs
    return []


def _folders_in(folder: Path) -> list[Path]:
    """Those of jobs, where a folder is one for results; none where it has several."""
    found = [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
    jobs = [each for each in found if any(each.glob("*/summary.csv"))]
    return jobs if len(jobs) == 1 else []


def _runs(folder: Path) -> list[RecordedRun]:
    try:
        runs = _having_tables(folder)
    except OSError as error:
        raise UserError(f"can't read {folder}: {error.strerror}: check its permissions") from error
    if not runs:
        raise UserError(f"{folder} is not a run: neither it nor a folder in it has a summary.csv")
    return runs


def _rows(runs: list[RecordedRun], table: str) -> list[Row]:
    found = []
    for run in runs:
        for row in run.lines(table):
            if not {"cell", "job", "status"} <= row.keys():
                path = run.folder / f"{table}.csv"
                raise RecordError(f"{path} is not a table of svdbench: it has no cells")
            found.append(row | {RUN: run.folder.name})
    return found


def _settings(run: RecordedRun) -> dict[str, Any]:
    """The configuration without the keys that say where; nothing where there is none."""
    found = run.settings if (run.folder / CONFIG).exists() else {}
    return {key: value for key, value in found.items() if key.rpartition(".")[2] not in _FREE}


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
