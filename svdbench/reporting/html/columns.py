"""A table as compact JSON for the page: by columns, repeated values once, numbers as numbers."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from svdbench.record.columns import described
from svdbench.record.reader import SIZES, Sheet
from svdbench.reporting.metrics import BYTES, FRACTION, TIMES, metric_of

# What the page says of a run anyway, if it is the same in all rows.
KNOWN = ("schema_version", "job", "run_id")
# Nobody begins to read a row with these.
LAST = {"reason": 1, "cell": 2}
# Never numbers, though a hash or a name may look like one.
WORDS = {"cell", "run_id", "job", "status", "reason", "method", "arm", "model", "layer"}
# Sizes and settings, which are written as they are typed: 1024, not 1,024.
PLAIN = {*SIZES, "hidden_size", "batch_size", "threads", "processes", "latency_batch"}
# Ratios here, without a sign elsewhere.
RATIOS = {"relative_loss"}


@dataclass(frozen=True)
class Payload:
    """A table for the page.

    Attributes:
        json: columns with their kinds and values, safe inside a ``script`` element.
        same: columns that have one value in all rows, with it.
        empty: columns without a value.
        rows, total: rows in here, and lines of the file.
    """

    json: str
    same: list[tuple[str, str]]
    empty: list[str]
    rows: int
    total: int


def payload(sheet: Sheet, job: str = "") -> Payload:
    """The table of a job as the page's script takes it.

    A column is ``{"name", "means", "kind"}`` with ``"values"``, or with ``"dict"`` and ``"codes"``
    into it where values repeat. Kinds: ``text``, ``plain`` (a size), ``int``, ``number``, ``s``,
    ``bytes``, ``share`` (a fraction) and ``ratio``. An empty cell is null, a number has seven
    digits, and infinity and NaN are text.
    """
    columns, same, empty = [], [], []
    by_column = zip(sheet.columns, zip(*sheet.rows, strict=True), strict=True)
    for name, values in sorted(by_column, key=lambda column: LAST.get(column[0], 0)):
        distinct = list(dict.fromkeys(values))
        if distinct == [""]:
            empty.append(name)
        elif len(distinct) == 1:
            same += [(name, distinct[0])] if name not in KNOWN else []
        else:
            columns.append(_column(name, described(job, name), values, distinct))
    text = f'{{"name":{json.dumps(sheet.name)},"columns":[{",".join(columns)}]}}'
    # So that no text from a file ends the element that it stands in.
    return Payload(text.replace("<", "\\u003c"), same, empty, len(sheet.rows), sheet.total)


def _column(name: str, means: str, values: Sequence[str], distinct: list[str]) -> str:
    found = None if name in WORDS else _numbers(distinct)
    kind = "text" if found is None else _kind(name, distinct)
    encoded = found or [json.dumps(text) if text else "null" for text in distinct]
    head = f'{{"name":{json.dumps(name)},"means":{json.dumps(means)},"kind":"{kind}",'
    if 2 * len(distinct) <= len(values):
        code = {text: str(i) for i, text in enumerate(distinct)}
        codes = ",".join([code[text] for text in values])
        return f'{head}"dict":[{",".join(encoded)}],"codes":[{codes}]}}'
    of = dict(zip(distinct, encoded, strict=True))
    return f'{head}"values":[{",".join([of[text] for text in values])}]}}'


def _numbers(distinct: list[str]) -> list[str] | None:
    """The values as JSON numbers; None if one is no number."""
    try:
        return [_number(text) if text else "null" for text in distinct]
    except ValueError:
        return None


def _number(text: str) -> str:
    if text.isdecimal():
        return str(int(text))
    value = float(text)
    return f"{value:.7g}" if math.isfinite(value) else f'"{value}"'


def _kind(name: str, distinct: list[str]) -> str:
    whole = all(text.isdecimal() or not text for text in distinct)
    if name in PLAIN and whole:
        return "plain"
    metric = metric_of(name)
    unit = "" if metric is None else metric.unit
    # Some fractions are counts in other tables.
    if unit == FRACTION and all(0 <= float(text or 0) <= 1 for text in distinct):
        return "share"
    if unit == TIMES or name in RATIOS:
        return "ratio"
    if unit == BYTES or name.endswith("_bytes"):
        return "bytes"
    if unit == "s":
        return "s"
    return "int" if whole else "number"
