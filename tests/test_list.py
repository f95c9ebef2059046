"""``svdbench list``, and tables as JSON, CSV and Markdown on standard output or in a file."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from command import assert_mistake, run

from svdbench.jobs.list.kinds import KINDS
from svdbench.members import DATASETS, DRIVERS, METHODS, MODELS, TASKS
from svdbench.reporting import FORMATS
from svdbench.running.output import output_of

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_what_can_be_listed() -> None:
    code, out, _ = run(["list"])
    assert code == 0
    assert all(kind in out for kind in KINDS)


@pytest.mark.parametrize(
    ("kind", "group"),
    [("models", MODELS), ("task", TASKS), ("Drivers", DRIVERS), ("data-sets", DATASETS)],
)
def test_members_are_listed_with_what_they_are(kind: str, group: object) -> None:
    rows = json.loads(run(["list", kind, "--format", "json"]).out)
    names = [row["name"] for row in rows if row["package"] == "svdbench"]
    assert names == group.names()  # type: ignore[attr-defined]
    assert all(row["what"] for row in rows)


@pytest.mark.parametrize("kind", ["presets", "optimizers", "experiments", "published", "nn"])
def test_other_kinds_are_listed(kind: str) -> None:
    rows = json.loads(run(["list", kind, "--format", "json"]).out)
    assert rows
    assert all(value for row in rows for name, value in row.items() if name in ("name", "task"))


def test_methods_keep_their_older_command() -> None:
    rows = json.loads(run(["list", "methods", "--format", "json"]).out)
    assert {row["name"] for row in rows} == set(METHODS.names())
    assert run(["methods"]).out == run(["list", "methods"]).out


def test_runs_are_listed() -> None:
    assert_mistake(run(["list", "results"]), "there is no folder results")
    folder = Path("results/train/one")
    folder.mkdir(parents=True)
    (folder / "summary.csv").write_text("schema_version,job,run_id,cell,status\n1,train,one,a,ok\n")
    (row,) = json.loads(run(["list", "results", "--format", "json"]).out)
    assert row["folder"] == str(folder)
    assert row["command"] == "train"


def test_mistakes_are_one_line() -> None:
    assert_mistake(run(["list", "modles"]), "did you mean 'models'?")
    assert_mistake(run(["list", "--format", "xml"]), "known: table, markdown, csv, json")
    assert_mistake(run(["list", "--output", "."]), "is a folder: give a file")
    assert_mistake(run(["list", "--output", "no/such.md"]), "can't write no/such.md")
    assert_mistake(run(["list", "--output", "\ud800"]), "has half of a surrogate pair")


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_has_what_standard_output_has(form: str) -> None:
    on_screen = run(["list", "tasks", "--format", form, "--output", "-"]).out
    assert run(["list", "tasks", "--format", form, "--output", "table.txt"]).out == ""
    if form != "table":  # whose width is the terminal's
        assert Path("table.txt").read_text(encoding="utf-8") == on_screen
    assert "addition" in Path("table.txt").read_text(encoding="utf-8")


def test_a_file_that_is_there_is_replaced_in_the_format_of_its_name() -> None:
    Path("tasks.csv").write_text("old")
    assert run(["list", "tasks", "-o", "tasks.csv"]).code == 0
    rows = list(csv.DictReader(StringIO(Path("tasks.csv").read_text(encoding="utf-8"))))
    assert [row["name"] for row in rows] == TASKS.names()


def test_a_format_may_stand_where_it_did() -> None:
    assert output_of(None, "json") == output_of("json", None)


@pytest.mark.usefixtures("known_rates")
def test_a_job_writes_nothing_but_json_to_standard_output() -> None:
    words = ["time-fasth", "--d", "8", "--budget", "0.2", "--methods", "fasth", "--name", "one"]
    quick = ["measure.min_reps=1", "orthogonal.fasth.tune=false"]
    code, out, err = run([*words, *quick, "--format", "json"])
    assert code == 0
    told = json.loads(out)
    assert told["tables"]
    assert "results/time-fasth/one" in err
    assert json.loads(run(["report", "results/time-fasth/one", "--format", "json"]).out) == told
    assert run(["report", "results/time-fasth/one", "-o", "-"]).out.startswith("<!")
    assert run(["report", "--format", "csv"]).out.startswith("folder,result,started\n")


def test_columns_are_listed_with_their_meaning() -> None:
    rows = json.loads(run(["list", "columns", "--format", "json"]).out)
    assert all(row["column"] and row["meaning"] for row in rows)
    ours = [row for row in rows if row["column"] == "m"]
    assert [row["command"] for row in ours] == ["", "accelerate-when", "time-svd"]
    assert ours[2]["meaning"] == "rows of the matrix"
