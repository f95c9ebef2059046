"""Environment variables that are wrong in some way, in this process and in one of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Answer
from hypothesis import strategies as st
from judge import ENDS, FINDINGS, WAIT_S, check_answer, contents, judged

Hunting = Callable[..., None]

LINES = [
    *(["data", "list"], ["data", "path"], ["tune"], ["methods"], ["report", "--results", "."]),
    *(
        ["doctor"],
        ["--version"],
        ["--help"],
        ["train", "--help"],
        ["reproduce"],
        ["compare", "a", "b"],
    ),
    *(
        ["time-fasth", "--d", "8", "--methods", "fasth"],
        ["tune", "--d", "8"],
        ["compress", "mnist"],
    ),
    *(["train", "lstm", "trainer.nodes=2"], ["train", "lstm"], ["data", "fetch", "mnist"]),
]
# Read while a command runs.
NAMES = ["SVDBENCH_DATA", "SVDBENCH_CACHE", "XDG_CACHE_HOME", "HOME", "COLUMNS", "LINES", "TERM"]
NAMES += ["NO_COLOR", "FORCE_COLOR", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_PROCID"]
NAMES += ["SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_CPUS_PER_TASK", "RANK", "TZ"]
NAMES += ["OC_CAUSE", "WORLD_SIZE", "TMPDIR", "LANG", "TTY_COMPATIBLE", "JUPYTER_COLUMNS"]
# Read as Python, torch or matplotlib begins.
EARLY = ["PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
EARLY += ["MPLBACKEND", "CUDA_VISIBLE_DEVICES", "PYTHONWARNINGS", "TRITON_INTERPRET"]
EARLY += ["PYTHONUNBUFFERED", "_SVDBENCH_COMPLETE", "SVDBENCH_CACHE", "COLUMNS"]
# Python itself refuses to begin with these.
IMPOSSIBLE = {("PYTHONIOENCODING", "many"), ("PYTHONUTF8", "many")}

VALUES = [
    "",
    " ",
    "0",
    "1",
    "-1",
    "many",
    "nan",
    "9" * 30,
    "~nosuchuser/x",
    "~",
    "/dev/null",
    "a:b",
    "é",
]
VALUES += [
    "/dev/full",
    "\udcff",
    "x" * 5000,
    "../..",
    "1,2",
    "C",
    "latin-1",
    "ascii",
    "complete_bash",
]


@st.composite
def variables(draw: st.DrawFn, names: list[str]) -> dict[str, str]:
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    return {name: draw(st.sampled_from(VALUES)) for name in chosen}


def test_a_variable_is_taken_or_refused(hunting: Hunting) -> None:
    def check(case: tuple[dict[str, str], list[str]]) -> None:
        values, line = case
        with pytest.MonkeyPatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            judged(line)

    hunting(check, st.tuples(variables(NAMES), st.sampled_from(LINES)), examples=4)


def test_a_process_with_a_variable_ends_as_it_should(hunting: Hunting) -> None:
    """Only commands that end by themselves, without stopping before they work."""
    lines = [
        line for line in LINES if line[0] in ("data", "methods", "report", "reproduce", "--help")
    ]
    lines = [line for line in lines if "fetch" not in line]

    def check(case: tuple[dict[str, str], list[str]]) -> None:
        values, line = case
        if IMPOSSIBLE & set(values.items()) or values.get("PYTHONUTF8") not in (None, "0", ""):
            return
        before = contents(Path.cwd().parent)
        command = [sys.executable, "-m", "svdbench", *line]
        try:
            ended = subprocess.run(
                command, capture_output=True, env=os.environ | values, timeout=WAIT_S
            )
        except subprocess.TimeoutExpired:
            FINDINGS["hangs"].add(str(case))
            raise
        out, err = ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
        check_answer(Answer(ended.returncode, out, err))
        if ended.returncode == 2:
            assert contents(Path.cwd().parent) == before
        ENDS["refused" if ended.returncode == 2 else "accepted"] += 1

    hunting(check, st.tuples(variables(EARLY), st.sampled_from(lines)), examples=1)
