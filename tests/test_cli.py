"""The command line as a user meets it: what it writes, and one line for every mistake."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from command import EVERY_RUN, assert_mistake, run, table

from svdbench.errors import is_interrupt

pytestmark = pytest.mark.usefixtures("elsewhere")

TINY = ["--d", "8", "--budget", "0.2", "sizes.m=3", "measure.min_reps=1", "measure.warmup_reps=1"]
TINY += ["orthogonal.fasth.tune=false"]


class TestTimeFastH:
    def test_writes_what_it_promises(self) -> None:
        methods = "fasth,cayley,sequential"
        tuned = [*TINY, "orthogonal.fasth.tune=true"]
        code, out, _ = run(["time-fasth", *tuned, "--methods", methods, "--name", "one"])
        assert code == 0
        folder = Path("results/time-fasth/one")
        assert {path.name for path in folder.iterdir()} == {
            *(*EVERY_RUN, "samples.csv", "summary.csv"),
            *("step_time.png", "ratio_to_fasth.png", "times_floor.png"),
        }
        rows = table(folder / "summary.csv")
        assert {(row["method"], row["pass"]) for row in rows} == {
            (method, p) for method in methods.split(",") for p in ("fwd", "bwd", "step")
        }
        assert {row["status"] for row in rows} == {"ok"}
        assert all(float(row["error"]) < 1e-4 and float(row["median_s"]) > 0 for row in rows)
        assert "fasth" in out
        assert json.loads((folder / "env.json").read_text())["torch"]
        assert "m: 3" in (folder / "config.yaml").read_text()

    @pytest.mark.usefixtures("known_rates")
    def test_a_method_that_cannot_run_is_a_row(self) -> None:
        arguments = ["time-fasth", *TINY, "--methods", "fasth,cayley", "--name", "n", "sizes.n=5"]
        assert run(arguments).code == 0
        rows = table("results/time-fasth/n/summary.csv")
        skipped = [row for row in rows if row["method"] == "cayley"]
        assert [row["status"] for row in skipped] == ["skipped"]
        assert "n" in skipped[0]["reason"]

    @pytest.mark.usefixtures("known_rates")
    def test_reasons_are_shown_to_the_letter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.jobs.time_fasth.methods.skew import Cayley

        monkeypatch.setattr(Cayley, "skip", lambda self, problem: "install 'svdbench[peers]'")
        arguments = ["time-fasth", *TINY, "--methods", "fasth,cayley", "--name", "reason"]
        assert "install 'svdbench[peers]'" in run(arguments).out

    @pytest.mark.usefixtures("known_rates")
    def test_a_wrong_method_gets_no_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.jobs.time_fasth.methods.skew import Cayley

        right = Cayley.apply
        monkeypatch.setattr(Cayley, "apply", lambda self, V, X: 1.01 * right(self, V, X))
        arguments = ["time-fasth", *TINY, "--methods", "fasth,cayley", "--name", "wrong"]
        assert run(arguments).code == 0
        rows = table("results/time-fasth/wrong/summary.csv")
        (wrong,) = (row for row in rows if row["method"] == "cayley")
        assert wrong["status"] == "gate"
        assert wrong["median_s"] == ""
        assert "before timing" in wrong["reason"]

    @pytest.mark.usefixtures("known_rates")
    def test_a_crash_and_a_timeout_are_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.jobs.time_fasth.methods.reflectors import Sequential

        def crash(*_: object) -> None:
            raise MemoryError("no room")

        monkeypatch.setattr(Sequential, "apply", crash)
        arguments = ["time-fasth", *TINY, "--methods", "fasth,sequential", "--name", "bad"]
        assert run([*arguments, "measure.timeout_s=1e-9"]).code == 0
        rows = table("results/time-fasth/bad/summary.csv")
        assert {row["method"]: row["status"] for row in rows} == {
            "fasth": "timeout",
            "sequential": "oom",
        }

    @pytest.mark.usefixtures("known_rates")
    def test_sweeps(self) -> None:
        arguments = ["time-fasth", *TINY, "--methods", "fasth", "--name", "sweep", "-m"]
        assert run([*arguments, "sizes.m=1,2"]).code == 0
        for job, m in (("0", "1"), ("1", "2")):
            assert {row["m"] for row in table(f"results/time-fasth/sweep/{job}/summary.csv")} == {m}

    @pytest.mark.usefixtures("known_rates")
    def test_options_of_a_method(self) -> None:
        arguments = ["time-fasth", *TINY, "--methods", "fasth", "orthogonal.fasth.block_size=3"]
        assert run([*arguments, "--name", "k"]).code == 0
        rows = table("results/time-fasth/k/summary.csv")
        assert {row["block_size"] for row in rows} == {"3"}

    def test_show_config(self) -> None:
        code, out, _ = run(["time-fasth", "--show-config", "--quick", "sizes.m=7"])
        assert code == 0
        assert "m: 7" in out
        assert "block_size: null" in out
        assert not Path("results").exists()

    def test_options_are_taken_to_the_letter(self) -> None:
        out = run(["time-fasth", "--show-config", "--methods", "fasth, cayley"]).out
        assert re.search(r"^methods: +# .*\n- fasth\n- cayley\n", out, re.MULTILINE)
        out = run(["train", "lstm", "--show-config", "--resume", r"a\b"]).out
        assert re.search(r"resume: a\\b +# ", out)


MISTAKES = [
    (["time-fasth", "sizes.q=3"], "there is no key 'sizes.q': --show-config"),
    (["time-fasth", "size.m=3"], "did you mean 'sizes.m'?"),
    (["train", "lstm", "task.lenght=3"], "did you mean 'task.length'?"),
    (["train", "lstm", "model.m1=3"], "there is no key 'model.m1': --show-config"),
    (["time-fasth", "sizes.m=many"], "cannot set 'sizes.m'"),
    (["time-fasth", "sizes.m=0"], "sizes.m is 0: it must be 1 or more"),
    (["time-fasth", "sizes.d=[]"], "sizes.d is empty"),
    (["time-fasth", "dtype=float8"], "cannot set 'dtype'"),
    (["time-fasth", "device=tpu"], "choose cpu, cuda or cuda:N"),
    (["time-fasth", "measure=slow"], "slow"),
    (["time-fasth", "measure.budget_s=-1"], "budget_s"),
    (["time-fasth", "measure.min_reps=9", "measure.max_reps=3"], "max_reps"),
    (["time-fasth", "sizes.m=[1"], "sizes.m"),
    (["time-fasth", "nonsense"], "is not KEY=VALUE"),
    (["time-fasth", "--d", "64,x"], "--d is '64,x'"),
    (["time-fasth", "--methods", "fast"], "did you mean 'fasth'"),
    (["time-fasth", "--name", "../up"], "can't name a run"),
    (["time-fasth", "--name", "a b'c"], "can't name a run"),
    (["time-fasth", "orthogonal.fasth.block_size=wide", "--methods", "fasth"], "block_size"),
    (["time-fasth", "hydra/launcher=joblib"], "is for sweeps: add -m"),
    (["time-fasth", "--bogus"], "No such option"),
    (["time-fasht"], "No such command"),
    (["tune", "--d", "0"], "--d is '0'"),
    (["tune", "--dtype", "int8"], "choose from"),
    (["train", "lstm", "--steps", "abc"], "--steps is 'abc': give a whole number"),
    (["train", "lstm", "--lr=fast"], "--lr is 'fast': give a number"),
    (["gradients", "lstm", "--evaluate-every", "0"], "--evaluate-every is 0: it must be 1 or more"),
    (["tune", "--d", "99999999"], "not enough memory for 35.5 PiB: use smaller sizes"),
]

# What would be the same work twice, in lists of every command.
TWICE = [
    ("time-fasth --d 8,8", "sizes.d has 8 twice: give it once"),
    ("time-fasth --methods fasth,fasth", "methods has fasth twice"),
    ("time-svd-ops --d 8,16,8", "sizes.d has 8 twice"),
    ("time-svd-ops --ops inverse,inverse", "ops has inverse twice"),
    ("time-rnn --hidden 8,8", "sizes.hidden has 8 twice"),
    ("time-rnn --length 5,5", "sizes.length has 5 twice"),
    ("time-rnn sizes.reflectors=[null,4,null]", "sizes.reflectors has null twice"),
    ("time-rnn --methods spectral,spectral", "methods has spectral twice"),
    ("time-svd --shapes 8x12,8×12", "sizes.shapes has 8x12 twice"),
    ("time-svd --ranks 2,2", "sizes.ranks has 2 twice"),
    ("time-svd --spectra step,step", "spectra has step twice"),
    ("time-svd --methods gram,gram", "methods has gram twice"),
    ("tune --plot --d 8,8", "sizes.d has 8 twice"),
    ("tune --plot --m 8,8", "sizes.m has 8 twice"),
    ("tune --d 8,8", "--d has 8 twice"),
    ("tune --d 8 --m 2,2", "--m has 2 twice"),
    ("train lstm,LSTM", "MODEL has lstm twice"),
    ("gradients lstm,lstm", "MODEL has lstm twice"),
    ("compress --ranks 2,2", "ranks has 2 twice"),
    ("compress --methods rsvd,rsvd", "methods has rsvd twice"),
    ("compress a:b --data a:c layers=[x,x]", "layers has x twice"),
    ("accelerate --alphas 0.5,.5", "alphas has 0.5 twice"),
    ("accelerate --phis 0,0", "phis has 0.0 twice"),
    ("rank-reveal --algorithms exact,exact", "algorithms has exact twice"),
    ("rank-reveal fractions=[0.5,0.5]", "fractions has 0.5 twice"),
    ("time-fasth -m sizes.m=8,8", "sizes.m has 8 twice"),
    ("time-fasth -m measure.precision=1e-2,0.01", "measure.precision has 0.01 twice"),
    ("time-fasth -m sizes.d=[8],[8]", "sizes.d has [8] twice"),
    ("train lstm -m seed=0,1,0", "seed has 0 twice"),
    ("train lstm -m optimizer=adam,'adam'", "optimizer has adam twice"),
    ("compress -m data.name=choice(xor,xor)", "data.name has xor twice"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    assert_mistake(run(arguments), says)


@pytest.mark.parametrize(("command", "says"), TWICE, ids=[command for command, _ in TWICE])
def test_the_same_work_twice_is_refused(command: str, says: str) -> None:
    assert_mistake(run(command.split()), says)


def test_a_name_taken_is_refused_and_kept() -> None:
    folder = Path("results/time-fasth/mine")
    folder.mkdir(parents=True)
    (folder / "precious").write_text("data")
    code, _, err = run(["time-fasth", *TINY, "--name", "mine"])
    assert code == 2
    assert "already holds results" in err
    assert [path.name for path in folder.iterdir()] == ["precious"]


def test_methods_and_tune() -> None:
    code, out, _ = run(["methods"])
    assert code == 0
    assert "torch_householder_map" in out
    assert "has no block sizes" in run(["tune"]).out
    assert "16 × 16 × 2" in run(["tune", "--d", "16", "--m", "2", "--budget", "0.05"]).out


def test_version_and_help() -> None:
    assert run(["--version"]).out.startswith("svdbench ")
    code, out, _ = run(["time-fasth", "--help"])
    assert code == 0
    assert "--methods" in out


class TestPackage:
    def test_modules_for_users_are_attributes(self) -> None:
        script = (
            "import svdbench; print(svdbench.nn.orthogonal, svdbench.lowrank, svdbench.kernels)"
        )
        assert _python(script).returncode == 0

    def test_the_version_is_an_attribute(self) -> None:
        import svdbench

        assert svdbench.version == svdbench.__version__
        assert run(["--version"]).out == f"svdbench {svdbench.version}\n"
        assert {"__version__", "kernels", "lowrank", "nn", "version"} <= set(dir(svdbench))

    def test_another_attribute_is_none(self) -> None:
        import svdbench

        with pytest.raises(AttributeError, match="'svdbench' has no attribute 'nnn'"):
            _ = svdbench.nnn

    def test_importing_it_imports_nothing_heavy(self) -> None:
        loaded = _python("import sys, svdbench; dir(svdbench); print(*sys.modules)").stdout.split()
        assert not {"torch", "numpy", "typer"} & set(loaded)


class TestInternalError:
    """What should never happen is one line, too, and its traceback is kept."""

    @pytest.fixture(autouse=True)
    def _broken(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def broken(*_: object) -> None:
            raise KeyError("surprise")

        monkeypatch.setattr("svdbench.jobs.list.run.run", broken)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def test_is_one_line_and_a_file(self) -> None:
        code, out, err = run(["methods"])
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("svdbench: internal error: KeyError: 'surprise': please report it")
        (kept,) = Path().glob("svdbench-*.txt")
        assert kept.name in err
        assert "Traceback" in kept.read_text()
        assert "methods" in kept.read_text()

    @pytest.mark.parametrize("line", [["--traceback", "methods"], ["methods", "--traceback"]])
    def test_is_shown_if_asked_for(self, line: list[str]) -> None:
        assert "Traceback" in run(line).err

    def test_is_one_line_where_nothing_can_be_written(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
        assert "with what --traceback shows" in run(["methods"]).err


class TestStreams:
    """A command as a process: what its streams lead to is none of its results' business."""

    TRAIN = ("train", "lstm", "--hidden", "4", "--batch", "2", "task.length=5", "task.test_size=6")
    TRAIN += ("--steps", "2", "trainer.evaluate_every=1")

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
    def test_any_encoding_will_do(self, encoding: str) -> None:
        ended = _svdbench(["time-fasth", "--help"], PYTHONIOENCODING=encoding)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert b"--methods" in ended.stdout
        ended.stdout.decode(encoding)

    @pytest.mark.slow
    @pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
    def test_a_training_ends_well_in_any_encoding(self, encoding: str) -> None:
        ended = _svdbench(self.TRAIN, PYTHONIOENCODING=encoding)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert b"loss" in ended.stdout

    def test_characters_come_as_near_as_ascii_allows(self) -> None:
        from svdbench.cli.streams import nearest

        text = "2 × 10⁻³ µs … ≤ ‖∂L/∂h‖ é │\udce9"
        shown = b""
        for at, character in enumerate(text):
            try:
                shown += character.encode("ascii")
            except UnicodeEncodeError:
                error = UnicodeEncodeError("ascii", text, at, at + 1, "")
                plain, _ = nearest(error)
                shown += plain if isinstance(plain, bytes) else plain.encode("ascii")
        assert shown == b"2 x 10-3 us ... <= ||dL/dh|| e ?\xe9"

    @pytest.mark.parametrize(
        "line",
        [["--help"], ["--version"], ["methods"], ["tune"], ["data", "path"], ["train", "-h"]],
    )
    def test_a_full_disk_is_one_line(self, line: list[str]) -> None:
        with open("/dev/full", "wb") as full:
            ended = _svdbench(line, stdout=full)
        assert ended.returncode == 1
        assert ended.stderr.decode() == (
            "svdbench: standard output can't be written: No space left on device: send it "
            "elsewhere\n"
        )

    @pytest.mark.slow
    def test_a_run_stops_in_order_where_its_output_is_lost(self) -> None:
        with open("/dev/full", "wb") as full:
            ended = _svdbench([*self.TRAIN, "--name", "n"], stdout=full)
        assert ended.returncode == 1
        assert ended.stderr.count(b"\n") == 1
        assert b"finished parts are kept" in ended.stderr

    def test_a_reader_that_has_gone_is_no_error_to_tell(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as gone:
            ended = _svdbench(["--help"], stdout=gone)
        assert (ended.returncode, ended.stderr) == (1, b"")

    def test_mistakes_keep_their_exit_code_where_errors_are_lost(self) -> None:
        with open("/dev/full", "wb") as full:
            assert _svdbench(["nosuch"], stderr=full).returncode == 2

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_closed_streams_lead_nowhere(self, closed: str) -> None:
        line = f'"$0" -m svdbench data path {closed}'
        ended = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True)
        assert (ended.returncode, ended.stderr) == (0, b"")


# Sends itself ^C when a module is looked for.
INTERRUPTED = """
import os, runpy, signal, sys

# It is ignored where tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
module, *sys.argv[1:] = sys.argv[1:]

class Interrupts:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
runpy.run_module("svdbench", run_name="__main__", alter_sys=True)
"""
TIMED = ["time-fasth", "--d", "8"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        *[("svdbench.cli", TIMED), ("typer", TIMED), ("hydra", TIMED), ("torch", TIMED)],
        ("svdbench.reporting.html", ["report", "--results", "."]),
    ],
)
def test_control_c_is_one_line_wherever_it_comes(module: str, line: list[str]) -> None:
    ended = _python(INTERRUPTED, module, *line)
    assert ended.returncode == 130
    assert ended.stdout == ""
    assert ended.stderr.startswith("svdbench: interrupted")
    assert ended.stderr.count("\n") == 1


def test_an_exception_that_is_its_own_cause_is_no_control_c() -> None:
    error = ValueError()
    error.__cause__ = error
    assert not is_interrupt(error)


def test_an_exception_that_control_c_became_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a module in C whose initialisation it met."""

    def met(*_: object) -> None:
        raise SystemError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("svdbench.jobs.list.run.run", met)
    assert run(["methods"]) == (130, "", "svdbench: interrupted\n")


def _python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def _svdbench(
    arguments: Sequence[str], *, stdout: Any = PIPE, stderr: Any = PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "svdbench", *arguments],
        stdout=stdout,
        stderr=stderr,
        env=os.environ | environment,
    )


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, svdbench.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.returncode == 0
    heavy = {"torch", "hydra", "omegaconf", "pandas", "matplotlib", "numpy"}
    assert not heavy & set(loaded.stdout.split())
