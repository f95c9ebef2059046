"""A report for programs: as JSON, and a table as CSV, JSON, Markdown or text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any

from svdbench.reporting import Format
from svdbench.reporting.metrics import plain
from svdbench.reporting.report import Lines, Report, Table, TableCell

# Of the JSON; raised when a name in it changes its meaning.
JSON_VERSION = 1


def as_json(report: Report) -> dict[str, Any]:
    """A report as plain data: what it warns of, its metrics, its tables as records, its sentences.

    Numbers are not rounded; those that are not finite are None.

    Example:
        >>> as_json(svdbench.load("results/time-fasth/one").report)["metrics"][0]
        {'name': 'time of a step', 'column': 'median_s', 'unit': 's', 'better': 'lower', ...}
    """
    tables, lines = [], []
    for part in parts(report):
        if isinstance(part, Table):
            tables.append(part)
        else:
            lines += [line for line in part if line]
    return {
        "version": JSON_VERSION,
        "title": report.title,
        "headline": report.headline,
        "warnings": list(report.warnings),
        "metrics": [value.record for value in report.metrics],
        "tables": [
            {
                "title": table.title,
                "columns": column_names(table),
                "rows": records(table),
                "note": table.note,
            }
            for table in tables
        ],
        "lines": lines,
    }


def format_report(report: Report, form: Format, width: int = 100) -> str:
    """A report in one of :data:`~svdbench.reporting.FORMATS`; as CSV its metrics, a row each."""
    from svdbench.reporting.render import to_markdown, to_text

    if form == "json":
        return _json(as_json(report))
    if form == "csv":
        return to_csv(_rows(report))
    return to_markdown(report) if form == "markdown" else to_text(report, width)


def format_reports(reports: Sequence[Report], form: Format, width: int = 100) -> str:
    """Several reports in one text: as JSON a list, as CSV the metrics of all."""
    if form == "json":
        return _json([as_json(report) for report in reports])
    if form == "csv":
        return to_csv(row for report in reports for row in _rows(report))
    return "\n".join(format_report(report, form, width) for report in reports)


def format_table(table: Table, form: Format, width: int = 100) -> str:
    """A table in one of :data:`~svdbench.reporting.FORMATS`.

    In CSV and JSON its numbers are not rounded.
    """
    if form == "json":
        return _json(records(table))
    if form == "csv":
        return to_csv(records(table), column_names(table))
    return format_report(Report(table.title, blocks=[table]), form, width)


def records(table: Table) -> list[dict[str, Any]]:
    """The rows of a table by column: numbers where the cells have them, text elsewhere."""
    names = column_names(table)
    rows = [[_value(cell) for cell in row.cells] for row in table.rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def column_names(table: Table) -> list[str]:
    """The names of the columns, each once: a second ``after`` is ``after 2``."""
    found: list[str] = []
    for column in table.columns:
        name, again = column.name.replace("\n", " "), 1
        while (name if again == 1 else f"{name} {again}") in found:
            again += 1
        found.append(name if again == 1 else f"{name} {again}")
    return found


def to_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as CSV; None is an empty cell."""
    rows = list(rows)
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    file = StringIO()
    table = csv.DictWriter(file, names, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()


def parts(report: Report) -> Iterator[Table | Lines]:
    """The tables and lines of a report in reading order, groups taken apart."""
    for block in (*report.blocks, report.closing):
        if isinstance(block, Table | Lines):
            yield block
        else:
            yield from block.blocks()


def _value(cell: TableCell) -> Any:
    if cell.value is not None:
        return plain(cell.value)
    return f"{cell.text} {cell.below}".strip().replace("\n", " ")


def _rows(report: Report) -> list[dict[str, Any]]:
    """The metrics of a report; where it has none, the rows of its tables."""
    if report.metrics:
        return [_flat(value.record) for value in report.metrics]
    tables = [part for part in parts(report) if isinstance(part, Table)]
    return [{"table": table.title, **row} for table in tables for row in records(table)]


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    of = record.pop("of")
    return {**of, **{name: value for name, value in record.items() if name not in of}}


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
