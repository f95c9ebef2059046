"""A comparison as a report for a terminal or a pull request, and as JSON for programs."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from svdbench.jobs.compare.comparison import CellComparison, CellWithoutNumber, Comparison
from svdbench.jobs.compare.pairing import What
from svdbench.jobs.compare.runs import Side
from svdbench.reporting.formats import to_csv
from svdbench.reporting.report import Lines, Report, Style, Table, TableCell
from svdbench.reporting.words import UNKNOWN, interval, quantity, ratio, setting, share
from svdbench.statistics.intervals import Ratio

STYLES: dict[str, Style] = {
    **{"regression": "bad", "slower": "warn", "worse": "warn"},
    **{"faster": "good", "better": "good", "same": "dim"},
}
# A line of text that names cells has room for so many.
_LISTED = 6


def report(comparison: Comparison) -> Report:
    """Both sides, a table for each metric with a row for each cell, and what follows."""
    labels, alike = _labels_of([cell.what for cell in comparison.cells])
    found = Report("comparison", _verdict(comparison))
    about = [*_sides(comparison), *_differences(comparison), *[alike] * bool(alike)]
    tables = [
        _table(f"{metric}, lower is better", cells, labels, _interval_name(comparison))
        for metric, cells in _tables(comparison)
    ]
    conclusions = Lines(_conclusions(comparison), wrap=True)
    found.blocks = [Lines(about, wrap=True), *tables, conclusions]
    found.warnings = [_clean(f"warning: {warning}") for warning in comparison.warnings]
    found.tone = "bad" if comparison.exit_code else "strong"
    return found


def _table(title: str, cells: list[CellComparison], labels: list[str], confidence: str) -> Table:
    words = [name for name in labels if not _is_number(cells, name)]
    sizes = [name for name in labels if name not in words]
    heads = [[name.replace("_", "\n", 1) for name in names] for names in (words, sizes)]
    table = Table.of(
        title,
        heads[0],
        [*heads[1], "A", "B", "B / A", confidence],
        keys=len(labels),
        more_words=["B is"],
    )
    for cell in cells:
        what = [_clean(cell.what.get(name, "–")) for name in (*words, *sizes)]
        word = _word(cell)
        verdict = TableCell(word, "bad" if cell.regression else "")
        table.add(*what, *_numbers(cell), verdict, style=STYLES.get(word, ""))
    return table


def _tables(comparison: Comparison) -> Iterator[tuple[str, list[CellComparison]]]:
    for metric in comparison.metrics:
        cells = [cell for cell in comparison.cells if cell.metric == metric]
        if cells:
            yield metric.name, cells


def _sides(comparison: Comparison) -> Iterator[str]:
    """Which is A and which is B."""
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        yield _clean(f"{letter}  {side.name}{_about(side)}")


def _about(side: Side) -> str:
    """The date, the source and the number of runs of a side."""
    env = side.environments[0]
    found = [str(env["timestamp_utc"])[:16].replace("T", " ")] if env.get("timestamp_utc") else []
    source = env.get("source")
    if isinstance(source, dict) and source.get("commit"):
        found.append(
            f"commit {str(source['commit'])[:8]}{' + changes' * bool(source.get('dirty'))}"
        )
    if len(versions := sorted(side.values("version"))) > 1:
        found.append(f"by svdbench {' and '.join(versions)}")
    if len(side.environments) > 1:
        found.append(quantity(len(side.environments), "run"))
    return f"  ({', '.join(found)})" if found else ""


def _differences(comparison: Comparison) -> Iterator[str]:
    """What the environments share, and where they differ."""
    same = [
        f"{fact.name} {fact.a}"
        for fact in comparison.facts
        if fact.name in ("cpu", "threads", "device_name", "torch") and fact.same and fact.a
    ]
    if same:
        yield _clean(f"both: {', '.join(same)}")
    other = [
        f"{fact.name} {fact.a or 'unknown'} → {fact.b or 'unknown'}"
        for fact in comparison.facts
        if fact.kind == "informs" and not fact.same
    ]
    if other:
        yield _clean(f"differs: {'; '.join(other)}")


def _conclusions(comparison: Comparison) -> Iterator[str]:
    """Cells without a value, then those of one side, then what the words mean."""
    for letter, whats in (("A", comparison.only_a), ("B", comparison.only_b)):
        if whats:
            yield f"only in {letter}: {_listed(whats)}"
    cells: list[CellComparison | CellWithoutNumber] = [*comparison.cells, *comparison.lost]
    labels, _ = _labels_of([cell.what for cell in cells])
    for lost in comparison.lost:
        if lost.broken or lost.a != lost.b:
            known = [lost.what[name] for name in labels if name in lost.what]
            yield _clean(f"{' '.join(known or lost.what.values())}: {_ends(lost)}")
    neither = [lost for lost in comparison.lost if not lost.broken and lost.a == lost.b]
    if neither:
        yield f"no value in either: {_listed([lost.what for lost in neither])}"
    unknown = [cell for cell in comparison.cells if cell.verdict == "can't tell"]
    few = [cell for cell in unknown if cell.p is None]
    if few:
        yield (
            f"can't tell: {len(few)} have too few values for a test: keep samples.csv, or train "
            "more seeds (--seeds 5)"
        )
    if len(unknown) > len(few):
        yield (
            f"can't tell: {len(unknown) - len(few)} may differ by more than a "
            f"factor of {setting(comparison.threshold)}, or not at all: measure longer (--budget), "
            "on a quiet machine, or several runs"
        )
    if any(cell.metric.is_time for cell in comparison.regressions):
        yield (
            "times also vary between processes and over the day, which one run can't "
            "show: repeat both, in turns, before you trust this"
        )


def _ends(lost: CellWithoutNumber) -> str:
    said = "broken" if lost.broken else "repaired" if lost.repaired else "no number"
    return f"{said}: A {lost.a}; B {lost.b}"


def _verdict(comparison: Comparison) -> str:
    """The verdict in one line."""
    counts = comparison.counts
    words = [f"{counts[word]} {word}" for word in ("same", "better", "worse", "can't tell")]
    counted = ", ".join(word for word in words if not word.startswith("0 "))
    n, broken = len(comparison.regressions), len(comparison.broken)
    regressions = f"{quantity(n, 'regression') if n else 'no regression'} beyond"
    regressions += f" {setting(comparison.threshold)}"
    start = " and ".join(
        [regressions] * (n > 0 or not broken) + [f"{broken} broken"] * (broken > 0)
    )
    if comparison.fail_undecided and comparison.undecided:
        start += f"; {comparison.undecided} undecided"
    tests = sum(cell.p is not None for cell in comparison.cells)
    return (
        f"{start}: of {quantity(len(comparison.cells), 'comparison')} "
        f"{counted or 'none'}"
        + f" (α = {setting(comparison.alpha)} for all {tests} together)"
        * (tests > 0)
    )


def _word(cell: CellComparison) -> str:
    """The verdict on a cell in one word; times are faster or slower."""
    if cell.regression:
        return "regression"
    if cell.metric.is_time:
        return {"better": "faster", "worse": "slower"}.get(cell.verdict, cell.verdict)
    return cell.verdict


def _numbers(cell: CellComparison) -> list[str | TableCell]:
    """A, B, their ratio and its interval."""
    both = [TableCell.number(value, cell.metric.text) for value in (cell.a, cell.b)]
    found = cell.found
    if found is None or not math.isfinite(found.ratio):
        return [*both, UNKNOWN, UNKNOWN]
    known = found.low > 0 or math.isfinite(found.high)
    between = interval(found.low, found.high, ratio) if known else UNKNOWN
    return [*both, TableCell(ratio(found.ratio), value=found.ratio), between]


def _interval_name(comparison: Comparison) -> str:
    """The head of the column of intervals."""
    return share(1 - comparison.alpha)


def _labels_of(whats: Sequence[What]) -> tuple[list[str], str]:
    """The columns in which cells differ, and the others in words.

    Of columns that always have the same value, as n = d, the first stands for all.
    """
    names = dict.fromkeys(name for what in whats for name in what)
    columns = {name: [what.get(name, "") for what in whats] for name in names}
    varying: dict[str, list[str]] = {}
    constant = []
    for name, values in columns.items():
        if len(set(values)) == 1:
            constant.append(f"{name} {values[0]}")
        elif values not in varying.values():
            varying[name] = values
    return list(varying), _clean(", ".join(constant))


def _is_number(cells: Sequence[CellComparison], name: str) -> bool:
    """Whether a column has nothing but numbers in it."""
    return all(re.fullmatch(r"[\d.e+-]*", cell.what.get(name, "")) for cell in cells)


def _listed(whats: Sequence[What]) -> str:
    labels, constant = _labels_of(whats)
    if len(whats) == 1:
        labels = list(whats[0])
        constant = ""
    words = [" ".join(what.get(name, "–") for name in labels) for what in whats[:_LISTED]]
    more = f" and {len(whats) - _LISTED} more" if len(whats) > _LISTED else ""
    return _clean(f"{'; '.join(words)}{more}" + (f" ({constant})" if constant else ""))


def _clean(text: str) -> str:
    """Text without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def as_json(comparison: Comparison) -> str:
    """Everything, with null for what isn't known or isn't finite."""
    found: dict[str, Any] = {
        "job": comparison.a.job,
        "a": comparison.a.name,
        "b": comparison.b.name,
        "threshold": comparison.threshold,
        "alpha": comparison.alpha,
        "exit_code": comparison.exit_code,
        "regressions": len(comparison.regressions),
        "broken": len(comparison.broken),
        "undecided": comparison.undecided,
        "counts": dict(comparison.counts),
        "warnings": comparison.warnings,
        "environment": [
            {"field": f.name, "kind": f.kind, "a": f.a, "b": f.b, "same": f.same}
            for f in comparison.facts
        ],
        "cells": [_object(cell) for cell in comparison.cells],
        "without_number": [
            {"what": lost.what, "a": lost.a, "b": lost.b, "broken": lost.broken}
            for lost in comparison.lost
        ],
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _object(cell: CellComparison) -> dict[str, Any]:
    found = cell.found
    parts = [field.name for field in fields(Ratio)]
    numbers: dict[str, float | None] = asdict(found) if found else dict.fromkeys(parts)
    return {
        "what": cell.what,
        "metric": cell.metric.name,
        "column": cell.metric.column,
        "a": cell.a,
        "b": cell.b,
        "n_a": cell.n_a,
        "n_b": cell.n_b,
        "paired": cell.paired,
        **{k: v if v is not None and math.isfinite(v) else None for k, v in numbers.items()},
        "p_adjusted": cell.p,
        "verdict": cell.verdict,
        "regression": cell.regression,
    }


def as_csv(comparison: Comparison) -> str:
    """A row for each cell that was compared."""
    rows = [_object(cell) for cell in comparison.cells]
    return to_csv({**row.pop("what"), **row} for row in rows)
