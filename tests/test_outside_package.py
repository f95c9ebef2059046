"""A package that brings a member of every group, used by every command that takes the group."""

import csv
import json
import sys
import tomllib
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from command import assert_mistake, run, table

import svdbench
from svdbench import extend
from svdbench.config.completion import names
from svdbench.config.fields import leaves
from svdbench.job import all_jobs
from svdbench.members import Registry, groups

pytestmark = pytest.mark.usefixtures("known_rates", "one_thread")

PYPROJECT = """
[project]
name = "outside"
version = "1.0"

[project.entry-points."svdbench.methods"]
my-cayley = "outside.members:MyCayley"

[project.entry-points."svdbench.operations"]
my-inverse = "outside.members:{MatrixOp}"

[project.entry-points."svdbench.loops"]
my-loop = "outside.members:{RNNLoop}"

[project.entry-points."svdbench.layers"]
my-layer = "outside.members:{Layer}"

[project.entry-points."svdbench.drivers"]
my-driver = "outside.members:{SVDDriver}"

[project.entry-points."svdbench.models"]
my-model = "outside.members:{SequenceModel}"

[project.entry-points."svdbench.tasks"]
my-task = "outside.members:{Task}"

[project.entry-points."svdbench.datasets"]
my-digits = "outside.members:Quarters"

[project.entry-points."svdbench.compressors"]
my-compressor = "outside.members:{Compressor}"

[project.entry-points."svdbench.modelcompressors"]
my-reduction = "outside.members:{ModelCompressor}"

[project.entry-points."svdbench.arms"]
my-arm = "outside.members:{LowRankArm}"
"""
QUARTERS = '''
import torch
from svdbench.extend import Dataset


class Quarters(Dataset):
    """Squares of which one quarter is bright."""

    name, title, what = "quarters", "Quarters", "squares with a bright quarter"
    shape, examples, classes = (4, 4), (60, 20), 4
    licence, source, comes_with = "CC0", "made up", "outside"

    def read(self, split):
        generator = torch.Generator().manual_seed(int(split == "test"))
        y = torch.arange(self.examples[split == "test"]) % 4
        X = 0.3 * torch.rand(len(y), 2, 2, 2, 2, generator=generator)
        X[torch.arange(len(y)), y // 2, :, y % 2, :] += 0.7
        return X.reshape(-1, 4, 4), y


def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(12, 12), torch.nn.Tanh(), torch.nn.Linear(12, 12))


def loader():
    return torch.randn(60, 12), torch.randn(60, 12)
'''
MINE = {
    **{"methods": "my_cayley", "operations": "my_inverse", "loops": "my_loop"},
    **{"layers": "my_layer", "drivers": "my_driver", "models": "my_model"},
    **{"tasks": "my_task", "datasets": "my_digits", "compressors": "my_compressor"},
    "modelcompressors": "my_reduction",
    "arms": "my_arm",
}
TIMED = ["--budget", "0.1"]
TRAINED = ["--epochs", "1", "--seeds", "1"]
SHORT = ["--steps", "2", "model.hidden_size=3"]
SEARCHED = ["--trials", "2", "--minutes", "0.005", "model.hidden_size=3"]
# Every command that takes a group, and the column of the summary that has the member's name.
USES: list[tuple[str, str, list[str]]] = [
    ("methods", "method", ["time-fasth", "--d", "6", "--methods", "fasth,my-cayley", *TIMED]),
    (
        "operations",
        "method",
        ["time-svd-ops", "--d", "6", "--methods", "inverse_svd,my_inverse", *TIMED],
    ),
    (
        "loops",
        "method",
        ["time-rnn", "--hidden", "32", "--length", "3", "--methods", "my_loop", *TIMED],
    ),
    ("layers", "method", ["time-layers", "--width", "4", "--batch", "2", *TIMED]),
    (
        "drivers",
        "method",
        ["time-svd", "--shapes", "8x6", "--ranks", "2", "--spectra", "gaussian", *TIMED],
    ),
    ("models", "model", ["train", "my-model", "--task", "copy", "task.lag=2", *SHORT]),
    ("models", "model", ["gradients", "my_model", "--task", "copy", "task.lag=2", *SHORT]),
    ("models", "model", ["search", "my-model", "--task", "copy", "task.lag=2", *SEARCHED]),
    ("tasks", "task", ["search", "lstm", "--task", "my_task", *SEARCHED]),
    ("tasks", "task", ["train", "lstm", "--task", "my-task", *SHORT]),
    ("tasks", "task", ["gradients", "lstm", "--task", "my_task", *SHORT]),
    ("tasks", "", ["accelerate", "--task", "my_task", "--net", "rnn", "--width", "8", *TRAINED]),
    ("datasets", "", ["train", "lstm", "--task", "smnist", "task.dataset=my_digits", *SHORT]),
    ("datasets", "dataset", ["compress", "my_digits", "--ranks", "2", *TRAINED]),
    ("datasets", "dataset", ["accelerate", "my-digits", "--net", "16-8-4", *TRAINED]),
    ("datasets", "dataset", ["rank-reveal", "my_digits", "--net", "16-8-4", *TRAINED]),
    (
        "compressors",
        "method",
        ["compress", "xor", "--methods", "truncsvd,my_compressor", "--ranks", "2", *TRAINED],
    ),
    (
        "modelcompressors",
        "method",
        [
            *("time-compressors", "outside.members:build", "--data", "outside.members:loader"),
            *("--methods", "kronecker,my-reduction", "--params", "0.5", "--draws", "1"),
            "timing_s=0",
        ],
    ),
    ("arms", "method", ["accelerate", "xor", "--arms", "my-arm", "--no-rivals", *TRAINED]),
]
NAMED = {"layers": "linear,my_layer", "drivers": "torch_svd,my_driver"}


def example_of(group: Registry) -> str:
    """The code in the docstring of a base class."""
    _, _, code = cleandoc(getattr(extend, group.kind).__doc__).partition(".. code-block:: python\n")
    return dedent(code).strip() + "\n"


def class_in(code: str) -> str:
    """The class of an example: the first that it defines."""
    return code.split("class ")[1].partition("(")[0]


def install(folder: Path, package: str, groups_of: dict[str, dict[str, str]]) -> None:
    """What pip would write of a distribution with these entry points."""
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
    information.joinpath("METADATA").write_text(text)
    lines = [
        line
        for group, entries in groups_of.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    information.joinpath("entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that has ours from outside."""
    folder = tmp_path_factory.mktemp("site-packages")
    sources = {group.kind: example_of(group) for group in groups() if group.plural != "datasets"}
    (folder / "outside").mkdir()
    (folder / "outside" / "__init__.py").touch()
    (folder / "outside" / "members.py").write_text("\n\n".join([*sources.values(), QUARTERS]))
    project = PYPROJECT.format(**{kind: class_in(code) for kind, code in sources.items()})
    install(folder, "outside", tomllib.loads(project)["project"]["entry-points"])
    return folder


@pytest.fixture(autouse=True)
def _installed(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(package), *sys.path])
    yield
    for name in ("outside.members", "outside", "faulty"):
        sys.modules.pop(name, None)


def by_plural(group: Registry) -> str:
    return group.plural


@pytest.mark.parametrize("group", groups(), ids=by_plural)
class TestGroup:
    def test_is_listed(self, group: Registry) -> None:
        rows = json.loads(run(["list", group.plural, "--format", "json"]).out)
        assert [row["name"] for row in rows] == [*group.names(), MINE[group.plural]]
        assert rows[0]["package"] == "svdbench"
        assert rows[-1]["package"] == "outside"
        assert rows[-1].get("what", "-")
        assert not any("can't be used" in str(row) for row in rows)

    def test_is_completed(self, group: Registry) -> None:
        complete = names(group, several=True)
        assert complete is not None
        assert complete("my") == [MINE[group.plural]]
        assert "outside.members" not in sys.modules

    def test_is_checked(self, group: Registry) -> None:
        answer = run(["check", MINE[group.plural].replace("_", "-")])
        assert (answer.code, answer.err) == (0, ""), answer.out
        assert "  fail  " not in answer.out


@pytest.mark.parametrize(("group", "column", "words"), USES, ids=lambda value: str(value)[:24])
def test_is_used(group: str, column: str, words: list[str]) -> None:
    more = ["--methods", NAMED[group]] if group in NAMED else []
    answer = run([*words, *more, "--name", "r"])
    assert (answer.code, answer.err) == (0, ""), answer.out
    (summary,) = Path("results").glob("*/r/summary.csv")
    rows = table(summary)
    assert {row["status"] for row in rows} <= {"ok", "stopped", "reached", "finished"}, rows
    if column:
        assert MINE[group] in {row[column] for row in rows}
    if group == "methods":  # a file names no class, so that it can be resumed as it is
        again = run(["time-fasth", "--resume", str(summary.parent)])
        assert (again.code, again.err) == (0, "")


def test_every_group_is_used_by_every_command_that_takes_it() -> None:
    assert {group for group, *_ in USES} == {group.plural for group in groups()} == {*MINE}
    used = {(words[0], group) for group, _, words in USES}
    for job in all_jobs():
        taken = [leaf.key.choices for leaf in leaves(job.config)]
        taken += [job.subject.choices if job.subject else None]
        for group in taken:
            assert not isinstance(group, Registry) or (job.word, group.plural) in used, job.words


def test_data_sets_are_listed_with_what_is_here() -> None:
    rows = list(csv.DictReader(run(["data", "list", "--format", "csv"]).out.splitlines()))
    assert rows[-1]["name"] == "my_digits"
    assert "squares with a bright quarter" in rows[-1]["what"]
    assert run(["data", "fetch", "my-digits"]).out.startswith("quarters: needs no files")


def test_from_python() -> None:
    found = svdbench.run("time-fasth", d=[4], methods=["my-cayley"], budget=0.05)
    assert set(found.summary["method"]) == {"my_cayley"}


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose entry points name a module that fails, one that is not there, and no class.

    Its METADATA is gone, too, as after an installation that was interrupted.
    """
    folder = tmp_path / "faulty-packages"
    folder.mkdir()
    (folder / "faulty.py").write_text("1 / 0\n")
    (folder / "wrong.py").write_text("NUMBER = 1\n")
    entries = {
        "fails": "faulty:Mine",
        "nowhere": "no_such_module:Mine",
        "number": "wrong:NUMBER",
        "missing": "wrong:Mine",
        "garbled": "not a reference",
    }
    install(folder, "faulty", {f"svdbench.{group.plural}": entries for group in groups()})
    (folder / "faulty-1.0.dist-info" / "METADATA").unlink()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


SAYS = {
    "fails": "ZeroDivisionError: division by zero (faulty.py, line 1)",
    "nowhere": "no_such_module",
    "number": "is not a class derived from svdbench.extend.",
    "missing": "has no attribute 'Mine'",
    "garbled": "garbled",
}


@pytest.mark.usefixtures("faulty")
class TestFaulty:
    @pytest.mark.parametrize("group", groups(), ids=by_plural)
    def test_the_others_are_listed(self, group: Registry) -> None:
        answer = run(["list", group.plural, "--format", "json"])
        assert (answer.code, answer.err) == (0, "")
        rows = {row["name"]: row for row in json.loads(answer.out)}
        assert {*group.names(), *SAYS, MINE[group.plural]} == set(rows)
        for name, says in SAYS.items():
            shown = str([*rows[name].values()])
            assert "can't be used: " in shown
            assert says in shown.replace('\\"', '"').replace("\\'", "'")

    @pytest.mark.parametrize("name", SAYS)
    def test_named_it_is_one_line(self, name: str) -> None:
        answer = run(["time-fasth", "--d", "4", "--methods", f"fasth,{name}", *TIMED])
        assert answer.code in (1, 2)
        assert answer.out == ""
        assert answer.err.startswith("svdbench: ")
        assert answer.err.count("\n") == 1
        assert SAYS[name] in answer.err
        assert not Path("results").exists()

    @pytest.mark.parametrize("name", ["fails", "number"])
    def test_checked_it_is_one_line(self, name: str) -> None:
        answer = run(["check", name, "--group", "tasks"])
        assert answer.code in (1, 2)
        assert SAYS[name] in answer.err + answer.out
        assert answer.err.count("\n") == 1

    def test_a_name_in_several_groups_asks_for_one(self) -> None:
        assert_mistake(run(["check", "fails"]), "is in several groups: add --group methods or ")

    def test_other_commands_are_as_before(self) -> None:
        quick: Any = ["--d", "4", *TIMED, "--name", "r"]
        assert run(["time-fasth", "--methods", "fasth,my-cayley", *quick]).err == ""
        assert run(["train", "lstm", "--task", "copy", "task.lag=2", *SHORT]).err == ""
        answer = run(["data", "list"])
        assert (answer.code, answer.err) == (0, "")
        assert "fails can't be used: " in answer.out
        assert "did you mean 'lstm'?" in run(["train", "lstn"]).err
