"""The report of a sweep: the metrics of its runs, aggregated over seeds and side by side."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from svdbench.errors import one_line
from svdbench.job import Job
from svdbench.record.reader import RecordedRun
from svdbench.record.schema import PLACE
from svdbench.reporting import render
from svdbench.reporting.metrics import Metric, MetricValue, headline, plain
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.words import integer, quantity, setting

# Keys over which results are aggregated, never told apart.
SEEDS = ("seed", "seeds")
# A metric has a column if at least this part of the rows has a value of it.
LEAST_FILLED = 0.5
NOTE = "each number: median over seeds of the number in the run's own report"

Of = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class SweepPart:
    """A run of a sweep: its settings, and its metrics as its own report has them."""

    settings: Mapping[str, Any]
    report: Report


def sweep_report(run: RecordedRun, make: Callable[[RecordedRun], Report]) -> Report:
    """Group the runs by all keys that differ but the seed; a row for each group and method.

    A run that can't be read is named, and the others are reported: whatever ended it.

    Args:
        make: the report of a single run.
    """
    unread: list[str] = []
    parts = list(_read(run, make, unread))
    keys = swept_keys([part.settings for part in parts])
    found = Report(f"{run.job}, a sweep of {quantity(len(parts), 'run')}")
    for part in parts:
        found.warnings += [line for line in part.report.warnings if line not in found.warnings]
    rows = _aggregated(parts, keys)
    if rows:
        found.metrics = [value for values in rows.values() for value in values.values()]
        found.blocks.append(_table(found.title, rows, keys))
        found.headline = _headline(parts, keys, rows)
    found.blocks.append(Lines(unread))
    return found


def show_sweep(job: Job, folder: Path) -> None:
    """Print the report of a sweep as far as it got; nothing where no run has a result."""
    run = RecordedRun(folder)
    found = sweep_report(run, job.report)
    if found.metrics:
        render.show(found, render.screen())


def swept_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which runs of one model differ, in the order of the configuration.

    Of keys that always have the same value, as m₂ = m₁, the first stands for all. Seeds
    are no keys.
    """
    found: dict[str, list[Any]] = {}
    for model in {keys.get("model_name") for keys in settings}:
        runs = [keys for keys in settings if keys.get("model_name") == model]
        for key in runs[0]:
            if key in SEEDS:
                continue
            values = [run.get(key) for run in settings]
            if any(run.get(key) != runs[0][key] for run in runs) and values not in found.values():
                found[key] = values
    return list(found)


def short(key: str) -> str:
    """The last part of a key, as ``m1`` of ``model.m1``."""
    return key.rpartition(".")[2]


def _read(
    run: RecordedRun, make: Callable[[RecordedRun], Report], unread: list[str]
) -> Iterator[SweepPart]:
    for part in run.parts:
        try:
            settings = {key: value for key, value in part.settings.items() if key not in PLACE}
            report = make(part)
        except Exception as error:  # files of any kind and age, of a run that was killed
            unread.append(
                f"{part.folder.name} can't be reported ({type(error).__name__}: {one_line(error)})"
            )
            continue
        yield SweepPart(settings, report)


def _aggregated(parts: Sequence[SweepPart], keys: list[str]) -> dict[Of, dict[str, MetricValue]]:
    """For each group and method the median of each metric, by the metric's column."""
    values: dict[Of, dict[str, list[tuple[MetricValue, Any]]]] = {}
    for part in parts:
        group = {short(key): setting(part.settings.get(key)) for key in keys}
        for value in part.report.metrics:
            own = {name: plain(of) for name, of in value.of.items() if name not in group}
            place = tuple((group | own).items())
            row = values.setdefault(place, {})
            row.setdefault(value.metric.column, []).append((value, part.settings.get("seed")))
    return {
        place: {column: _median(several, place) for column, several in row.items()}
        for place, row in values.items()
    }


def _median(several: Sequence[tuple[MetricValue, Any]], place: Of) -> MetricValue:
    first, _ = several[0]
    seeds = sum(value.seeds or 1 for value, _ in several)
    if len(several) == 1:
        return replace(first, of=dict(place), seeds=seeds)
    known = [value.value for value, _ in several if value.value == value.value]
    statistic = f"median over seeds of: {first.metric.statistic}"
    if first.metric.statistic == "median over seeds":
        statistic = first.metric.statistic
    metric: Metric = replace(first.metric, statistic=statistic)
    return metric.of(median(known) if known else float("nan"), seeds=seeds, **dict(place))


def _table(title: str, rows: dict[Of, dict[str, MetricValue]], keys: list[str]) -> Table:
    # What is the same in all rows is no column, unless it was swept.
    differing = _differing(rows)
    names = dict.fromkeys(name for place in rows for name, _ in place)
    shown = [name for name in names if name in differing or name in map(short, keys)]
    columns = _columns(rows)
    kept = {place: row for place, row in rows.items() if any(column in row for column in columns)}
    table = Table.of(
        title, shown or ["run"], [*columns.values(), "seeds"], keys=len(shown) or 1, note=NOTE
    )
    for place, row in kept.items():
        of = dict(place)
        seeds = max(value.seeds or 1 for value in row.values())
        table.add(
            *([_word(of.get(name)) for name in shown] or ["all"]),
            *(row.get(column, "") for column in columns),
            integer(seeds),
        )
    return table


def _differing(rows: Iterable[Of]) -> set[str]:
    """The names whose values differ between rows."""
    places = [dict(place) for place in rows]
    names = {name for place in places for name in place}
    return {name for name in names if len({place.get(name) for place in places}) > 1}


def _columns(rows: dict[Of, dict[str, MetricValue]]) -> dict[str, str]:
    """The columns of the metrics that most rows have, with their names."""
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for row in rows.values():
        for column, value in row.items():
            counts[column] = counts.get(column, 0) + 1
            names.setdefault(column, value.metric.name)
    most = max(counts.values())
    return {column: names[column] for column, n in counts.items() if n >= LEAST_FILLED * most}


def _word(value: Any) -> str:
    return "" if value is None else setting(value)


def _headline(
    parts: Sequence[SweepPart], keys: list[str], rows: dict[Of, dict[str, MetricValue]]
) -> str:
    """Of a single group that of its run; of several, the first metric of each group's best."""
    if len(parts) == 1:
        return parts[0].report.headline
    columns = _columns(rows)
    column = next(iter(columns))
    groups: dict[str, list[tuple[str, MetricValue]]] = {}
    words, differing = [short(key) for key in keys], _differing(rows)
    for place, row in rows.items():
        if column in row:
            of = dict(place)
            group = ", ".join(f"{name} = {of.get(name)}" for name in words)
            rest = [
                value if isinstance(value, str) else f"{name} = {setting(value)}"
                for name, value in place
                if name not in words and (name in differing or isinstance(value, str))
            ]
            groups.setdefault(group, []).append((", ".join(rest), row[column]))
    best = []
    for group, several in groups.items():
        sign = -1 if several[0][1].metric.better == "higher" else 1
        name, value = min(several, key=lambda one: sign * one[1].value)
        best.append((", ".join(filter(None, (group, name))), [value]))
    return headline(best)
