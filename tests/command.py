"""``svdbench`` as a user calls it: its exit code, what it says, and the tables it writes."""

import csv
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from svdbench.cli import main

# The files that every run begins with.
EVERY_RUN = ("config.yaml", "env.json", "progress.jsonl")


class Answer(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


def run(arguments: list[str]) -> Answer:
    """``svdbench *arguments``, in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stopped:
        main(arguments)
    return Answer(int(stopped.value.code or 0), out.getvalue(), err.getvalue())


def run_compiled(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m module`` in a process of its own, in which Triton's interpreter is off."""
    tests = Path(__file__).parent
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        capture_output=True,
        text=True,
    )


def table(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_mistake(answer: Answer, says: str) -> None:
    """One line on standard error and exit code 2; nothing shown, nothing written."""
    assert answer.code == 2
    assert says in answer.err
    assert answer.err.startswith("svdbench: ")
    assert answer.err.count("\n") == 1
    assert answer.out == ""
    assert not Path("results").exists()


def losses(name: str) -> list[float]:
    """Of a training, evaluation by evaluation."""
    return [float(row["loss"]) for row in table(f"results/train/{name}/samples.csv")]
