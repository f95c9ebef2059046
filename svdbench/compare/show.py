"""A comparison as a table for a terminal, as Markdown for a pull request, as JSON for programs."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from svdbench.compare import words as said
from svdbench.compare.comparison import Comparison
from svdbench.compare.verdicts import CellComparison
from svdbench.report.tables import new_table
from svdbench.statistics.tests import Ratio

_STYLES = {
    **{"regression": "bold red", "slower": "red", "worse": "red"},
    **{"faster": "green", "better": "green", "same": "dim"},
}


def show_table(comparison: Comparison, console: Console) -> None:
    """Both runs, a table for each metric with a row for each cell, and what follows."""
    labels, alike = said.labels_of([cell.what for cell in comparison.cells])
    _say(console, (*said.sides(comparison), *said.differences(comparison)))
    _say(console, [alike] * bool(alike))
    for metric, cells in _tables(comparison):
        title, interval = f"{metric}, less is better", said.interval_name(comparison)
        table = _wide(title, cells, labels, interval)
        unbounded = console.options.update(width=10_000)
        if Measurement.get(console, unbounded, table).maximum > console.width:
            table = _narrow(title, cells, labels, interval)
        console.print(table)
    _say(console, said.conclusions(comparison))
    _say(console, [said.verdict(comparison)], "bold red" if comparison.exit_code else "bold")


def _wide(title: str, cells: list[CellComparison], labels: list[str], interval: str) -> Table:
    """A column for each label."""
    words = [name for name in labels if not said.is_number(cells, name)]
    sizes = [name for name in labels if name not in words]
    heads = [[_head(name) for name in names] for names in (words, sizes)]
    numbers = [*heads[1], "A", "B", "B / A", interval]
    table = new_table(title, heads[0], numbers, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("B is", no_wrap=True)
    for cell in cells:
        what = [escape(said.clean(cell.what.get(name, "–"))) for name in (*words, *sizes)]
        table.add_row(
            *what, *said.numbers(cell), said.word(cell), style=_STYLES.get(said.word(cell))
        )
    return table


def _narrow(title: str, cells: list[CellComparison], labels: list[str], interval: str) -> Table:
    """One column for all labels, which may take several lines."""
    table = new_table(
        title, ["cell"], ["A", "B", "B / A", interval], padding=(0, 1, 0, 0), pad_edge=False
    )
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    table.add_column("B is", no_wrap=True)
    sizes = [name for name in labels if said.is_number(cells, name)]
    for cell in cells:
        words = [
            f"{name}\N{NO-BREAK SPACE}{cell.what[name]}" if name in sizes else cell.what[name]
            for name in sorted(labels, key=sizes.__contains__)  # words first
            if name in cell.what
        ]
        what = escape(said.clean(" ".join(words)))
        table.add_row(
            what, *said.numbers(cell), said.word(cell), style=_STYLES.get(said.word(cell))
        )
    return table


def markdown(comparison: Comparison) -> str:
    """GitHub's flavour."""
    labels, alike = said.labels_of([cell.what for cell in comparison.cells])
    lines = [f"**{_plain(said.verdict(comparison))}**", ""]
    told = (*said.sides(comparison), *said.differences(comparison), *([alike] * bool(alike)))
    lines += [f"- {_plain(line)}" for line in told]
    head = [*labels, "A", "B", "B / A", said.interval_name(comparison), "B is"]
    align = [":--"] * len(labels) + ["--:"] * 4 + [":--"]
    for metric, cells in _tables(comparison):
        lines += ["", f"{_plain(metric)}, less is better:", "", _row(head), _row(align)]
        for cell in cells:
            what = [_plain(said.clean(cell.what.get(name, "–"))) for name in labels]
            word = f"**{said.word(cell)}**" if cell.regression else said.word(cell)
            lines.append(_row([*what, *said.numbers(cell), word]))
    lines += ["", *(f"- {_plain(line)}" for line in said.conclusions(comparison))]
    return "\n".join(lines).rstrip() + "\n"


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


def _say(console: Console, lines: Iterable[str], style: str = "") -> None:
    """Sentences, broken between words on a terminal, and nowhere in a file."""
    for line in lines:
        text = Text(line, style)
        console.print(text, soft_wrap=not console.is_terminal)


def _tables(comparison: Comparison) -> Iterator[tuple[str, list[CellComparison]]]:
    for metric in comparison.metrics:
        cells = [cell for cell in comparison.cells if cell.metric == metric]
        if cells:
            yield metric.name, cells


def _head(column: str) -> str:
    """In two lines where it has two words."""
    return column.replace("_", "\n", 1)


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _plain(text: str) -> str:
    """Text that stays text in Markdown."""
    return re.sub(r"([|\\`<>\[\]_*])", r"\\\1", text)


FORMS: dict[str, Callable[[Comparison], str]] = {"markdown": markdown, "json": as_json}
