"""A report for programs and in words: metrics, JSON, CSV, and one way to write each number."""

import ast
import csv
import json
import math
import re
from io import StringIO
from pathlib import Path

import pytest

from svdbench.reporting import FORMATS, words
from svdbench.reporting.formats import as_json, format_report, format_table
from svdbench.reporting.metrics import Metric, headline
from svdbench.reporting.report import Lines, Report, Table, TableCell

SPEED = Metric("training speed", "speed", "× DNN", "higher", "paired median", words.ratio)


def a_report() -> Report:
    value = SPEED.of(1.08461, low=1.02, high=math.inf, seeds=5, arm="ours")
    table = Table.of("speeds", ["arm"], ["speed", "after", "after"])
    table.add("ours", value, TableCell.number(math.nan, words.number), "1")
    lines = Lines(["a line", ""])
    found = Report("a title", "a headline", [table, lines], warnings=["warning: a neighbour"])
    found.metrics.append(value)
    return found


def test_json_has_numbers_that_are_not_rounded() -> None:
    found = json.loads(format_report(a_report(), "json"))
    assert found == json.loads(json.dumps(as_json(a_report())))
    assert found["warnings"] == ["warning: a neighbour"]
    assert found["metrics"] == [
        {
            "name": "training speed",
            "column": "speed",
            "unit": "× DNN",
            "better": "higher",
            "statistic": "paired median",
            "of": {"arm": "ours"},
            "value": 1.08461,
            "low": 1.02,
            "high": None,
            "seeds": 5,
            "text": "1.08×",
        }
    ]
    assert found["tables"][0]["rows"] == [
        {"arm": "ours", "speed": 1.08461, "after": None, "after 2": "1"}
    ]
    assert found["lines"] == ["a line"]


def test_csv_has_a_row_for_each_metric_and_of_a_table_its_own() -> None:
    (row,) = csv.DictReader(StringIO(format_report(a_report(), "csv")))
    assert (row["arm"], row["value"], row["seeds"]) == ("ours", "1.08461", "5")
    table = a_report().blocks[0]
    assert isinstance(table, Table)
    (cells,) = csv.DictReader(StringIO(format_table(table, "csv")))
    assert cells == {"arm": "ours", "speed": "1.08461", "after": "", "after 2": "1"}


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_has_the_same_number(form: str) -> None:
    table = a_report().blocks[0]
    assert isinstance(table, Table)
    for text in (format_report(a_report(), form), format_table(table, form)):  # type: ignore[arg-type]
        assert "1.08" in text


def test_warnings_come_before_the_tables_and_the_headline_last() -> None:
    text = format_report(a_report(), "table")
    assert text.index("a neighbour") < text.index("speeds") < text.index("a headline")
    text = format_report(a_report(), "markdown")
    assert text.index("> warning: a neighbour") < text.index("a headline") < text.index("speeds")


def test_a_headline_leaves_out_what_is_not_known() -> None:
    groups = [("a", [SPEED.of(2)]), ("b", [SPEED.of(math.nan)])]
    assert headline(groups) == "a: training speed 2.00×"


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (words.share(0.971), "97.1%"),
        (words.share(0.00971), "0.971%"),
        (words.percent(0.9713), "97.13%"),
        (words.points(-0.0031), "−0.31"),
        (words.points(0.0), "+0.00"),
        (words.change(-0.4), "−40%"),
        (words.number(15040), "15,000"),
        (words.number(0.01234), "0.0123"),
        (words.number(-1.2e-6), "−1.2e−6"),
        (words.number(3e12), "3e12"),
        (words.integer(15040), "15,040"),
        (words.signed(-0.5), "−0.5"),
        (words.power(3.2e-7), "3e−7"),
        (words.ratio(-2), "−2.00×"),
        (words.interval(1.02, 1.15, words.ratio), "1.02–1.15×"),
        (words.interval(0.88, 0.92, words.share), "88–92%"),
        (words.interval(0.9e-3, 1.1e-3, words.seconds), "900 µs–1.10 ms"),
        (words.interval(-1, 3, words.number), "−1 to 3"),
        (words.plus_minus(0.2, words.number), " ± 0.2"),
        (words.plus_minus(math.inf, words.number), ""),
        (words.mebibytes(1 << 30), "1,024 MiB"),
    ],
)
def test_numbers_in_words(shown: str, told: str) -> None:
    assert shown == told


# Modules that write numbers for people, besides the one that decides how.
WRITERS = [
    path
    for pattern in (
        *("reporting/**/*.py", "jobs/*/report.py", "jobs/*/summaries.py", "jobs/doctor/*.py"),
        *("*/report.py", "*/display.py", "running/sweeps/report.py", "jobs/compare/*.py"),
    )
    for path in sorted((Path(__file__).parents[1] / "svdbench").glob(pattern))
    if path.name not in ("words.py", "columns.py") and path.parts[-2:] != ("compare", "__init__.py")
]


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: "/".join(path.parts[-2:]))
def test_numbers_are_written_by_one_module(path: Path) -> None:
    """No format specification of a number, and no blank before a per cent sign."""
    stray = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            spec = ast.unparse(node.format_spec)[2:-1]
            stray += [(node.lineno, spec)] if re.search(r"[.,+%efgdn]", spec) else []
        if isinstance(node, ast.Attribute) and node.attr == "format":
            literal = isinstance(node.value, ast.Constant | ast.JoinedStr)
            stray += [(node.lineno, ".format")] if literal else []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            stray += [(node.lineno, node.value)] if re.search(r"\d %(\W|$)", node.value) else []
    assert not stray, path
