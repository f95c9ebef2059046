"""No number differs between the terminal, Markdown, the page, the index and the JSON of a run."""

import html
import re
from pathlib import Path

import pytest

from svdbench.jobs.report.run import report_of
from svdbench.record.reader import RecordedRun, read_run
from svdbench.reporting.formats import as_json, parts
from svdbench.reporting.html.page import Repeat, render, render_index, run_line, run_page
from svdbench.reporting.metrics import plain
from svdbench.reporting.render import escape_markdown, to_markdown, to_text
from svdbench.reporting.report import Report, Table

REFERENCE = Path(__file__).resolve().parents[1] / "results/reference"
# A run of each job, and where a job has several kinds of tables, of each of them.
RUNS = [
    "time-fasth",
    "time-rnn",
    "tune",
    "bench-lowrank/time-svd/drivers",
    "bench-lowrank/accelerate/twice",
    "bench-lowrank/compress/corrected",
    "bench-reveal/rank-reveal/frontier",
    "bench-reveal/rank-reveal/three_layer",
    "bench-rnn/train/adding-200-exprnn",
    "bench-rnn/train/defaults",
    "reproduce/runs/accelerate/mnist-corrected",
    "reproduce/runs/compress/three-layer-published",
    "reproduce/quick/runs/gradients/norms",
    "reproduce/runs/time-svd-ops/operations",
    "reproduce/runs/train/copy-long",
]
NUMBER = re.compile(r"[−+]?\d(?:[\d,.]*\d)?(?:e−?\d+)?(?:%|×)?")


def rendered(run: RecordedRun, report: Report) -> dict[str, str]:
    """The run in each form for people; without figures, which take long to draw."""
    report.figures.clear()
    page = render([run_page(run, report, Repeat(None), run.folder)])
    index = render_index([run_line(run, report, run.folder)], run.folder)
    return {
        "terminal": to_text(report, 1000),
        "markdown": to_markdown(report),
        "page": html.unescape(
            re.sub(r"<script.*?</script>|data:image[^\"]*", "", page, flags=re.S)
        ),
        "index": html.unescape(index),
    }


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest) -> RecordedRun:
    return read_run(REFERENCE / request.param)


@pytest.fixture(scope="module")
def report(run: RecordedRun) -> Report:
    found = report_of(run)
    assert not run.notes
    assert found.metrics
    return found


def test_no_number_differs(run: RecordedRun, report: Report) -> None:
    shown = rendered(run, report)
    body = to_text(Report("", blocks=report.blocks), 1000)
    told = {value.text for value in report.metrics} | set(NUMBER.findall(body))
    # The headline has no number that the report doesn't have.
    assert set(NUMBER.findall(report.headline)) <= set(NUMBER.findall(" ".join(told)))
    for name, text in shown.items():
        headline = escape_markdown(report.headline) if name == "markdown" else report.headline
        assert headline in text, name
    for value in report.metrics:
        assert value.text in shown["terminal"], value
    for table in parts(report):
        if isinstance(table, Table):
            for cell in (cell for row in table.rows for cell in row.cells):
                assert cell.text in shown["terminal"]
                assert cell.text in shown["page"]
                assert escape_markdown(cell.text.strip()) in shown["markdown"]


def test_the_json_has_the_same_values_unrounded(report: Report) -> None:
    found = as_json(report)
    assert found["headline"] == report.headline
    for value, record in zip(report.metrics, found["metrics"], strict=True):
        assert record["value"] == plain(value.value)
        assert record["text"] == value.text
        assert record["unit"] == value.metric.unit
        assert record["name"]
        assert record["column"]
    tables = [part for part in parts(report) if isinstance(part, Table)]
    for table, data in zip(tables, found["tables"], strict=True):
        for row, record in zip(table.rows, data["rows"], strict=True):
            for cell, value in zip(row.cells, record.values(), strict=True):
                assert cell.value is None or value == plain(cell.value)


def test_each_value_of_a_metric_is_computed_once(report: Report) -> None:
    """Where a table shows a value with the column and place of a metric, it is that metric's."""
    keys = [
        (value.metric.column, tuple(sorted(map(str, value.of.items())))) for value in report.metrics
    ]
    assert len(keys) == len(set(keys))


def test_every_aggregate_over_seeds_says_over_how_many(run: RecordedRun, report: Report) -> None:
    if "seed" not in (run.summary.columns if run.summary else ()):
        return
    assert all(value.seeds for value in report.metrics)
    tables = [part for part in parts(report) if isinstance(part, Table)]
    text = to_text(Report(report.title, report.headline, [*tables]))
    assert "seed" in report.title + text
