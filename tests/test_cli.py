"""The command line as a user meets it: what it writes, and one line for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import EVERY_RUN, assert_mistake, run, table

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
            *("step_time.png", "ratio_to_fasth.png", "fraction_of_floor.png"),
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
        from svdbench.orthogonal.cayley import Cayley

        monkeypatch.setattr(Cayley, "skip", lambda self, problem: "install 'svdbench[peers]'")
        arguments = ["time-fasth", *TINY, "--methods", "fasth,cayley", "--name", "reason"]
        assert "install 'svdbench[peers]'" in run(arguments).out

    @pytest.mark.usefixtures("known_rates")
    def test_a_wrong_method_gets_no_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.orthogonal.cayley import Cayley

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
        from svdbench.orthogonal.sequential import Sequential

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
        assert "methods:\n- fasth\n- cayley\n" in out
        out = run(["train", "lstm", "--show-config", "--resume", r"a\b"]).out
        assert "resume: a\\b\n" in out


MISTAKES = [
    (["time-fasth", "sizes.q=3"], "there is no key 'sizes.q'"),
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
    (["time-fasth", "hydra/launcher=joblib"], "is for sweeps, of several jobs: add -m"),
    (["time-fasth", "--bogus"], "No such option"),
    (["time-fasht"], "No such command"),
    (["tune", "--d", "0"], "--d is '0'"),
    (["tune", "--dtype", "int8"], "choose from"),
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
    ("compress --rank 2,2", "ranks has 2 twice"),
    ("compress --method rsvd,rsvd", "methods has rsvd twice"),
    ("compress a:b --data a:c layers=[x,x]", "layers has x twice"),
    ("accelerate --alpha 0.5,.5", "alphas has 0.5 twice"),
    ("accelerate --phi 0,0", "phis has 0.0 twice"),
    ("rank-reveal --algorithm exact,exact", "algorithms has exact twice"),
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
    assert "nothing measured yet" in run(["tune"]).out
    assert "16 × 16 × 2" in run(["tune", "--d", "16", "--m", "2", "--budget", "0.05"]).out


def test_version_and_help() -> None:
    assert run(["--version"]).out.startswith("svdbench ")
    code, out, _ = run(["time-fasth", "--help"])
    assert code == 0
    assert "--methods" in out


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, svdbench.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.returncode == 0
    heavy = {"torch", "hydra", "omegaconf", "pandas", "matplotlib", "numpy"}
    assert not heavy & set(loaded.stdout.split())
