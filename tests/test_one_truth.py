"""No number differs between the terminal, Markdown, the page, the index and the JSON of a run."""

import csv
import html
import json
import re
import shutil
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command import run as command

from svdbench.jobs.compare import report as comparing
from svdbench.jobs.compare.comparison import Comparison, compare
from svdbench.jobs.compare.runs import load
from svdbench.jobs.report.run import report_of
from svdbench.jobs.reproduce import report as reproducing
from svdbench.jobs.reproduce import run as reproduce
from svdbench.jobs.reproduce.evidence import JudgedResult, read_evidence
from svdbench.jobs.reproduce.numbers import rows
from svdbench.jobs.reproduce.result import FULL, QUICK, all_results
from svdbench.record.reader import RecordedRun, read_run
from svdbench.reporting.claims import written
from svdbench.reporting.formats import as_json, parts
from svdbench.reporting.html.page import Repeat, fill, render, render_index, run_line, run_page
from svdbench.reporting.metrics import plain
from svdbench.reporting.render import escape_markdown, to_markdown, to_text
from svdbench.reporting.report import Report, Table

REFERENCE = Path(__file__).resolve().parents[1] / "results/reference"
# A run of each job, and where a job has several kinds of tables, of each of them.
RUNS = [
    "time-fasth",
    "time-rnn",
    "tune",
    "time-layers",
    "time-compressors/speaker",
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


@pytest.mark.parametrize("name", RUNS)
def test_kept_runs_are_finished(name):
    assert not RecordedRun(REFERENCE / name).statuses["unfinished"]


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


NET = """
import torch

torch.manual_seed(0)
X = torch.randn(300, 12)


def build():
    return torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))


def data():
    return X, X[:, :3].argmax(1)
"""
# Of the jobs, and of a sweep, that the reference has no run of.
MADE = {
    "compress-model": ["compress", "my_net:build", "--data", "my_net:data", "--params", "0.5"],
    "time-layers": ["time-layers", "--width", "6,8", "--batch", "4", "--budget", "0.1"],
    "sweep": [
        *("time-fasth", "--d", "4", "--methods", "fasth,cwy", "--budget", "0.05"),
        *("-m", "sizes.m=2,3"),
    ],
}


@pytest.fixture(scope="module", params=[*RUNS, *MADE])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    if request.param not in MADE:
        return read_run(REFERENCE / request.param)
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "my_net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        answer = command(
            [*MADE[request.param], "--name", "r"]
            if request.param != "sweep"
            else [*MADE[request.param], "name=r"]
        )
    sys.modules.pop("my_net", None)
    assert (answer.code, answer.err) == (0, "")
    (made,) = (folder / "results").glob("*/*")
    return read_run(made)


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
    named = re.sub(r"\d+ more", "", report.headline)
    assert set(NUMBER.findall(named)) <= set(NUMBER.findall(" ".join(told)))
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
    if run.job == "compress-model":  # compresses one model once
        assert len(run.frame("summary")) == 1
        return
    if run.job == "time-compressors":  # means over draws of the calibration examples
        assert run.frame("summary")["seed"].nunique() == 1
        assert "3 draws" in to_text(report)
        return
    assert all(value.seeds for value in report.metrics)
    tables = [part for part in parts(report) if isinstance(part, Table)]
    text = to_text(Report(report.title, report.headline, [*tables]))
    assert "seed" in report.title + text


# ------------------------------------------------------------------ compare


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A run, and the same with all times a tenth longer."""
    later = tmp_path_factory.mktemp("compare") / "later"
    shutil.copytree(REFERENCE / "time-fasth", later)
    for name in ("samples", "summary"):
        frame = pd.read_csv(later / f"{name}.csv")
        times = [column for column in frame if column.endswith("_s") and "floor" not in column]
        frame[times] *= 1.1
        frame.to_csv(later / f"{name}.csv", index=False)
    return compare(load(str(REFERENCE / "time-fasth")), load(str(later)))


def numbers_in(value: Any) -> Iterator[float]:
    """All numbers in plain data."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_a_comparison_has_the_same_numbers_in_every_form(comparison: Comparison) -> None:
    shown = comparing.report(comparison)
    text, markdown = to_text(shown, 1000), to_markdown(shown)
    exact = json.loads(comparing.as_json(comparison))
    assert shown.headline in text
    assert escape_markdown(shown.headline) in markdown
    assert exact["regressions"] == int(shown.headline.split()[0]) > 0
    known = set(numbers_in(exact["cells"]))
    cells = [
        cell
        for table in shown.blocks
        if isinstance(table, Table)
        for row in table.rows
        for cell in row.cells
    ]
    assert sum(cell.value is not None for cell in cells) >= 3 * len(exact["cells"])
    for cell in cells:
        assert cell.text in text
        assert escape_markdown(cell.text.strip()) in markdown
        assert cell.value is None or plain(cell.value) in known
    table = list(csv.DictReader(StringIO(comparing.as_csv(comparison))))
    for record, cell in zip(table, exact["cells"], strict=True):
        both = {name: value for name, value in cell.items() if name in record}
        assert {"a", "b", "ratio", "low", "high"} <= both.keys()
        for name, value in both.items():
            assert record[name] == ("" if value is None else str(value)), name


# ------------------------------------------------------------------ reproduce

KEPT = [
    (judged, root, variant)
    for variant, root in ((FULL, REFERENCE / "reproduce"), (QUICK, REFERENCE / "reproduce/quick"))
    for result in all_results()
    if (judged := read_evidence(result, root)) is not None
]


def cells_of(page: str) -> list[list[str]]:
    """The cells of every row of an HTML page, without tags."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in rows]
    return [[html.unescape(re.sub(r"<.*?>", "", cell)) for cell in row] for row in cells if row]


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of every row of the tables of Markdown, without links."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [
        [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).strip(" *").replace("\\|", "|") for cell in row]
        for row in cells
    ]


@pytest.mark.parametrize(
    ("judged", "root", "variant"), KEPT, ids=[f"{j.result.name}-{v}" for j, _, v in KEPT]
)
def test_a_published_result_has_the_same_numbers_on_every_page(
    judged: JudgedResult, root: Path, variant: str
) -> None:
    name = judged.result.name
    view = reproducing.result_page(judged, variant)
    page = fill("result.html", title=judged.result.title, view=view, pictures=[])
    markdown = reproducing.markdown(view)
    kept = {row["number"]: row for row in rows(root / name / "numbers.csv", ("number", "value"))}
    lines = [*view.deciding, *view.beside]
    assert lines
    told = [
        [line.says, line.published, line.ours, line.interval, line.of, line.bound] for line in lines
    ]
    assert [row[:6] for row in cells_of(page)] == told
    assert [row[:6] for row in rows_of(markdown) if row[0] != "claim"] == told
    shown = {answer.claim.says: answer.claim for answer in judged.answers}
    for line in lines:
        claim = shown[line.says]
        if claim.number in kept:
            assert line.ours == written(float(kept[claim.number]["value"]), claim.form)
    # The verdict, in the terminal, on both pages, in both lists, and in the file for programs.
    (row,) = reproduce._verdicts([judged]).rows
    assert [cell.text for cell in row.cells] == [judged.result.title, view.verdict, view.reason]
    assert f"**Verdict: {view.verdict}** ({view.reason})." in markdown
    assert view.verdict.capitalize() in html.unescape(page)
    told = [view.source.cited, judged.result.title, view.verdict, view.reason]
    assert rows_of(reproducing.index_markdown([view]))[-1] == told
    index = fill("results.html", title="results", views=[view], rule="")
    assert sorted(cells_of(index)[0]) == sorted(told)
    assert reproduce.read_verdicts(root)[name] == view.verdict


def test_the_list_of_published_results_has_the_same_verdicts_in_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    words = ["reproduce", "--results", str(REFERENCE / "reproduce")]
    exact = json.loads(command([*words, "--format", "json"]).out)
    verdicts = reproduce.read_verdicts(REFERENCE / "reproduce")
    assert {row["name"]: row["yours"] for row in exact} == verdicts
    markdown = {row[0]: row for row in rows_of(command([*words, "--format", "markdown"]).out)}
    terminal = command(words).out
    for row in exact:
        told = [str(row[key]) for key in ("minutes", "--quick", "our verdict", "yours")]
        assert markdown[row["name"].replace("_", r"\_")][2:] == told
        assert re.search(rf"{row['name']} .*{r' +'.join(map(re.escape, told))}", terminal)
