"""Jobs from Python: ``svdbench.run``, ``svdbench.load`` and their results."""

import html
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import run

import svdbench

pytestmark = pytest.mark.usefixtures("elsewhere", "known_rates")

TINY = {"d": [4, 6], "methods": ["fasth", "cayley"], "budget": 0.1}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> svdbench.RunResult:
    folder = tmp_path_factory.mktemp("python")
    return svdbench.run("time-fasth", **TINY, overrides=[f"results={folder}", "sizes.m=3"])


def test_a_result_has_tables_report_and_figures(result: svdbench.RunResult) -> None:
    assert set(result.summary["method"]) == {"fasth", "cayley"}
    assert set(result.samples["d"]) == {4, 6}
    assert result.tables == ["samples", "summary"]
    assert result.config["sizes.m"] == 3
    assert result.environment["torch"]
    assert result.report.headline.startswith("d = 6: ")
    figures = result.figures
    assert "step_time" in figures
    assert len(figures["step_time"].axes) == 1
    assert repr(result).endswith(result.report.headline)
    assert "time of a step" in str(result)
    assert "time of a step" in result._repr_html_()


def test_a_run_on_disk_is_loaded(result: svdbench.RunResult) -> None:
    again = svdbench.load(result.folder)
    assert again.job == "time-fasth"
    assert again.summary.equals(result.summary)
    with pytest.raises(svdbench.UserError, match="has no table 'layers': it has samples, summary"):
        again.table("layers")


@pytest.mark.parametrize(("quiet", "printed"), [(True, False), (False, True)])
def test_a_run_is_quiet_by_default(
    quiet: bool, printed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    svdbench.run("time-fasth", d=[4], methods=["fasth"], budget=0.01, quiet=quiet)
    assert bool(capsys.readouterr().out) is printed


def test_a_class_may_stand_for_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_map.py").write_text(
        "from svdbench.jobs.time_fasth.methods.skew import Cayley\n\n\n"
        "class Mine(Cayley):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_map

    found = svdbench.run("time-fasth", d=[4], methods=["fasth", my_map.Mine], budget=0.01)
    assert set(found.summary["method"]) == {"fasth", "my_map:Mine"}


def test_a_sweep_has_the_rows_of_all_jobs() -> None:
    own = {"d": [4], "methods": ["fasth"], "budget": 0.01}
    found = svdbench.run("time-fasth", **own, multirun=True, overrides=["sizes.m=2,3"])
    assert set(found.summary["m"]) == {2, 3}


@pytest.mark.parametrize(
    ("job", "options", "says"),
    [
        ("time-fast", {}, "did you mean 'time-fasth'"),
        ("time-fasth", {"ds": [4]}, "no option of time-fasth is called 'ds': did you mean 'd'"),
        ("time-fasth", {"d": [0]}, "--d is '0': give whole numbers of at least 1"),
        ("time-fasth", {"methods": ["fastt"]}, "did you mean 'fasth'"),
        ("train", {"task": "addin"}, "no task is called 'addin'"),
        ("time-fasth", {"methods": [lambda: None]}, "define it at the top level of a module"),
    ],
)
def test_mistakes_are_user_errors(job: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(svdbench.UserError, match=says):
        svdbench.run(job, "lstm" if job == "train" else None, **options)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(svdbench.UserError, match="has no run"):
        svdbench.load(tmp_path)
    with pytest.raises(svdbench.UserError, match="there is no folder"):
        svdbench.load(tmp_path / "nowhere")


def test_importing_svdbench_imports_nothing_heavy() -> None:
    script = "import sys, svdbench; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not {"torch", "numpy", "pandas", "hydra", "typer"} & set(loaded.stdout.split())


NOTEBOOK = """
import torch

import svdbench
from svdbench.extend import Flops, Method


class Mine(Method):
    kind, builds, gradients, source = "cayley", "QX", "autograd", "here"

    def apply(self, V, X):
        A = V.triu(1) - V.triu(1).T
        return torch.linalg.solve(torch.eye(len(V)) + A, X - A @ X)

    def reference(self, V, X):
        A, eye = V.triu(1) - V.triu(1).T, torch.eye(len(V), dtype=V.dtype)
        return torch.linalg.inv(eye + A) @ (eye - A) @ X

    def flops(self, problem):
        return Flops(problem.d**3, problem.d**3)


told = []
own = {"d": [4], "methods": ["fasth", Mine], "budget": 0.01, "name": "r"}
found = svdbench.run("time-fasth", **own, progress=lambda done, what: told.append((done, what)))
print(sorted(set(found.summary["method"])), set(found.summary["status"]))
print(told[0], told[-1][0] <= 1)
try:
    svdbench.run("time-fasth", **{**own, "name": "s"}, multirun=True, overrides=["seed=0,1"])
except svdbench.UserError as error:
    print(error)
"""


def test_a_class_of_a_notebook_runs_in_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep is refused with the remedy, and so is resuming it elsewhere."""
    script = tmp_path / "notebook.py"
    script.write_text(NOTEBOOK)
    answer = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.stderr == ""
    methods, progress, refused = answer.stdout.splitlines()
    assert methods == "['__main__:Mine', 'fasth'] {'ok'}"
    assert progress == "(0.0, 'd = 4') True"
    assert "begin its cell with %%writefile my_module.py" in refused
    monkeypatch.chdir(tmp_path)
    resumed = run(["time-fasth", "--resume", "results/time-fasth/r", "--methods", "__main__:Mine"])
    assert resumed.code == 2
    assert "was defined in a notebook or script: call svdbench.run there" in resumed.err


def test_a_bar_shows_how_far_a_run_is(capsys: pytest.CaptureFixture[str]) -> None:
    svdbench.run("time-fasth", d=[4], methods=["fasth"], budget=0.01, progress=True)
    assert "100%" in capsys.readouterr().out


def test_a_notebook_is_told_nothing_but_by_the_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich displays HTML in a notebook, wherever standard output goes."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    displayed: list[str] = []
    monkeypatch.setattr("rich.jupyter.display", lambda _, text: displayed.append(text))
    svdbench.run("time-fasth", d=[4], methods=["fasth"], budget=0.01)
    assert capsys.readouterr().out == ""
    svdbench.run("time-fasth", d=[4], methods=["fasth"], budget=0.01, progress=True)
    bar = capsys.readouterr().out
    assert "100%" in bar
    assert "\r" in bar
    svdbench.run("time-fasth", d=[4], methods=["fasth"], budget=0.01, quiet=False)
    assert "time of a step" in capsys.readouterr().out
    assert displayed == []


CELLS = """
import svdbench
own = {"d": [4], "methods": ["fasth"], "budget": 0.01}
assert get_ipython().__class__.__name__ == "ZMQInteractiveShell"
---
found = svdbench.run("time-fasth", **own)
---
found = svdbench.run("train", "lstm", task="copy", overrides=["task.lag=2"], steps=2)
---
found = svdbench.run("time-fasth", **own, progress=True)
---
found = svdbench.run("time-fasth", **own, quiet=False)
---
found
"""


@pytest.mark.slow
def test_a_quiet_run_shows_nothing_in_a_kernel(tmp_path: Path) -> None:
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS.split("---")]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [cell.outputs for cell in book.cells]
    assert shown[:3] == [[], [], []]
    texts = ["".join(each.text for each in outputs) for outputs in shown[3:5]]
    assert "100%" in texts[0]
    assert "time of a step" in texts[1]
    assert {each.output_type for outputs in shown[3:5] for each in outputs} == {"stream"}
    assert "text/html" in shown[5][0].data


def test_a_notebook_shows_headline_and_table(result: svdbench.RunResult) -> None:
    shown = result._repr_html_()
    assert result.report.headline in html.unescape(shown)
    assert "<pre" in shown
