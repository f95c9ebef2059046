"""``make gpu`` as far as a machine without a GPU can tell: its flow, its budget, its verdicts."""

import csv
import io
import itertools
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from command import EVERY_RUN, table
from promises.figures import Promise, finish
from promises.gpu import __main__ as main
from promises.gpu import kernels, memcheck, parts, timings
from promises.gpu.exact import ERRORS
from promises.gpu.parts import Part
from promises.gpu.timings import FIRST, FULL
from rich.console import Console

from svdbench.errors import UserError
from svdbench.job import find_job
from svdbench.jobs.time_fasth import TimeFastH
from svdbench.jobs.time_fasth import run as time_fasth
from svdbench.measure.algorithm import Problem
from svdbench.measure.machine import Rates
from svdbench.measure.plan import TimingPlan, forever
from svdbench.members import METHODS
from svdbench.record.lines import read_rows
from svdbench.record.reader import RecordedRun
from svdbench.record.run import RunWriter
from svdbench.running.session import display, show_run
from svdbench.timings.config import L2, Measure, Sizes
from svdbench.timings.report import read_summary
from svdbench.timings.session import CellConditions, TimedMethod, TooSlow, time_cell

ROOT = Path(__file__).resolve().parents[1]
TINY = TimingPlan(budget_s=0.02, min_reps=1, max_reps=3, warmup_reps=1)

# ------------------------------------------------------------------ the command


# What Triton's interpreter runs.
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="a GPU is here, or no Triton"
)


def rehearse(folder: Path, way: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """``make gpu`` in miniature, where nobody can import Hydra."""
    script = (
        "import sys; sys.modules |= dict.fromkeys(('hydra', 'omegaconf'))\n"
        "from promises.gpu.__main__ import main\n"
        f"main(['--rehearse', {way!r}, '--results', {str(folder)!r}, *{options!r}])"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def run_of(results: Path) -> Path:
    (folder,) = (path for path in (results / "gpu").iterdir() if path.is_dir())
    return folder


@interpreted
def test_a_rehearsal_runs_every_kernel(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "interpreter", "--short", "--only", "kernels")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "judges no figures" in done.stdout.splitlines()[-2] + done.stdout.splitlines()[-1]
    folder = run_of(tmp_path)
    rows = table(folder / "kernels.csv")
    assert {row["kernel"] for row in rows} == set(ERRORS)
    assert {row["status"] for row in rows} == {"ok"}
    assert not (folder / "figures.csv").exists()
    with tarfile.open(f"{folder}.tar.gz") as archive:
        assert f"{folder.name}/kernels.csv" in archive.getnames()


@pytest.mark.slow
@interpreted
def test_a_rehearsal_times_every_method(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "interpreter", "--short", "--only", "timings")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = run_of(tmp_path)
    runs = {path.name: path for path in (folder / "time-fasth").iterdir()}
    assert set(runs) == {"float32-m32-warm", "bfloat16-m32-warm"}
    for name, place in runs.items():
        assert {"config.yaml", "env.json", "samples.csv", "summary.csv", "step_time.png"} <= {
            path.name for path in place.iterdir()
        }
        rows = read_rows(place / "summary.csv")
        assert {row["method"] for row in rows} >= set(FIRST)
        dtype = name.partition("-")[0]
        assert {(row["device"], row["dtype"], row["l2"]) for row in rows} == {
            ("cpu", dtype, "warm")
        }
        assert yaml.safe_load((place / "config.yaml").read_text())["dtype"] == dtype
    with tarfile.open(f"{folder}.tar.gz") as archive:
        assert f"{folder.name}/timings.log" in archive.getnames()


@pytest.mark.slow
@interpreted
@pytest.mark.parametrize("way", ["interpreter", "host"])
def test_all_parts_can_be_rehearsed(way: str, tmp_path: Path) -> None:
    done = rehearse(tmp_path, way)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in run_of(tmp_path).iterdir()}
    assert {"kernels.csv", "steps.csv", "micro.csv", "smoke.xml", "tests.xml"} <= names
    assert "not checked: there is no GPU" in done.stdout


@pytest.mark.parametrize(
    ("built_for", "says"), [(None, "is a build without CUDA: install"), ("13.0", "nvidia-smi")]
)
def test_without_a_gpu_it_says_so_in_one_line(
    built_for: str | None,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(SystemExit) as stopped:
        main.main([])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert err.startswith("make gpu needs an NVIDIA GPU that torch can see, and ")
    assert says in err
    assert err.count("\n") == 1
    assert out == ""


def part(name: str, script: str, limit_s: float = 60.0) -> Part:
    return Part(name, f"does {name}", ("-c", script), limit_s)


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled beside the first part."""
    start = parts.start
    monkeypatch.setattr(main, "start", lambda _, env: start(("-c", ""), env))


def test_a_part_that_crashes_or_hangs_costs_that_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_compiling: None
) -> None:
    hang = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    )
    every = [
        part("crash", "raise RuntimeError('CUDA error: something is wrong')"),
        part("hang", hang, 0.5),
        part("fine", "print('here it is')"),
    ]
    folder = tmp_path / "now"
    assert main.run(every, folder, "host", 60.0) == 1
    out = capsys.readouterr().out
    flat = " ".join(out.split())
    assert "crash does crash" in flat
    assert "something is wrong" in flat
    assert "not done within 0 s" in flat
    assert "here it is" in (folder / "fine.log").read_text()
    assert "Traceback" in (folder / "crash.log").read_text()


def test_parts_that_the_time_does_not_reach_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_compiling: None
) -> None:
    assert main.run([part("late", "print('never')")], tmp_path / "now", "host", 1.0) == 0
    out = capsys.readouterr().out
    assert "no time was left" in out
    assert "never" not in out


def test_all_limits_together_are_seven_minutes() -> None:
    limits = [each.limit_s for each in main.parts(Path("results"), None)]
    assert sum(limits[:-1]) <= main.TOTAL_S  # the last takes what is left
    assert limits[0] <= 60
    assert 2 * main.TOTAL_S < 15 * 60


def test_a_part_is_told_the_time_that_it_gets() -> None:
    every = {each.name: each for each in main.parts(Path("results"), None)}
    assert every["more"].command(40.0)[-2:] == ("--seconds", "25")
    assert every["kernels"].command(3.0)[-2:] == ("--seconds", "1")
    assert every["smoke"].command(40.0) == every["smoke"].arguments


def test_a_part_that_there_is_none_of(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["--rehearse", "--only", "kernel"])
    assert stopped.value.code == 2
    assert "no part is called 'kernel': choose from kernels, steps" in capsys.readouterr().err


def test_verdicts_come_last_and_are_in_the_archive(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_compiling: None,
) -> None:
    monkeypatch.setattr(main, "device_chip", lambda: "none")
    folder = tmp_path / "now"
    assert main.run([part("fine", "print('here it is')")], folder, None, 60.0) == 0
    out = capsys.readouterr().out
    assert out.index("here it is") < out.index("all results:") < out.index("promised and measured")
    assert "not measured" in out.rstrip().splitlines()[-1]
    with tarfile.open(tmp_path / "now.tar.gz") as archive:
        assert "now/figures.csv" in archive.getnames()


def test_a_run_that_crashes_is_red_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def run(config: TimeFastH, *_: object, **__: object) -> None:
        begun.append(config.name)
        if len(begun) == 1:
            raise RuntimeError("CUDA error: something is wrong")

    monkeypatch.setattr(time_fasth, "run", run)
    monkeypatch.setattr(timings, "rates_of", lambda *_: Rates(1e9, 1e8))
    assert not timings.measure(timings.REHEARSAL, tmp_path, False, lambda: 1.0)
    assert len(begun) == 2
    assert "something is wrong" in capsys.readouterr().err
    assert timings.measure(timings.REHEARSAL, tmp_path, False, lambda: 1.0)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("ERROR SUMMARY: 0 errors", 0),
        ("Invalid __global__ read\nERROR SUMMARY: 2 errors", 1),
        ("Error: device not supported\nERROR SUMMARY: 1 error", 0),
        ("", 0),
    ],
)
def test_what_the_sanitizer_says(said: str, code: int) -> None:
    assert memcheck.verdict(said) == code


# ------------------------------------------------------------------ each kernel by its own inputs

# What each writes: some of it, where there is more.
OUTPUTS = {
    **{"factors": "p_T", "join": "p_T", "invert": "p_T", "join_strip": "p_T"},
    **{"sweep_resident": "p_out", "sweep_streamed": "p_states", "gradient": "p_dV"},
    **{"scale": "p_scale", "gram": "p_S", "join_tile": "p_S", "rows": "p_Y", "triangle": "p_Z"},
    **{"update": "p_out", "half_product": "p_F", "tile_gradient": "p_dV"},
    **{"scan": "p_h", "gated_scan": "p_h", "gated_gradient": "p_dgates"},
    **{"delta_states": "p_w", "delta_gradient": "p_Y"},
}
# The number of a case that has the kernel, where that is not a small one by tiles.
HAS = {"sweep_streamed": 1, "join": 2, "join_tile": 4, "join_strip": 4}
HAS |= dict.fromkeys(("factors", "sweep_resident", "gradient"), 0)
HAS |= {"scan": 5, "gated_scan": 7, "gated_gradient": 7, "delta_states": 8, "delta_gradient": 8}


def test_every_kernel_that_ships_is_judged() -> None:
    ahead = pytest.importorskip("svdbench.kernels.triton_ahead", exc_type=ImportError)
    source = Path(ahead.__file__).parent
    shipped = {
        name.removesuffix("_kernel")
        for path in source.glob("triton_*.py")
        for name in re.findall(r"^def (\w+_kernel)\(", path.read_text(), re.MULTILINE)
    }
    elsewhere = {"recurrence"}  # compared with operations of PyTorch in test_gpu_smoke.py
    assert shipped - elsewhere == set(ERRORS) == set(OUTPUTS)


@interpreted
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kernel", sorted(ERRORS))
def test_a_kernel_that_writes_something_else_is_named(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote is changed by a unit of TF32: that kernel shows, and no other."""
    wrong: set[str] = set()
    right = ERRORS[kernel]

    def write(name: str, case: Any, status: str, *_: Any, **__: Any) -> None:
        if status != "ok":
            wrong.add(name)

    def off(before: dict[str, Any], after: dict[str, Any]) -> Any:
        name = OUTPUTS[kernel]
        return right(before, after | {name: after[name] * (1 + 2**-10)})

    monkeypatch.setitem(ERRORS, kernel, off)
    kernels.run_case(kernels.cases()[HAS.get(kernel, 15)], "cpu", True, write)
    assert wrong == {kernel}


# ------------------------------------------------------------------ what is run


def runs(
    left: Callable[[], float] = forever, more: bool = False
) -> list[tuple[TimeFastH, TooSlow]]:
    return list(timings.runs(FULL, Path("results"), more, left))


def test_the_promised_comes_first_and_everything_comes() -> None:
    first = [config for config, _ in runs(lambda: 100.0)]
    assert [config.name for config in first] == [
        *("float32-m32-warm", "float32-m128-warm", "bfloat16-m32-warm"),
    ]
    configs = first + [config for config, _ in runs(lambda: 100.0, more=True)]
    assert len({config.name for config in configs}) == len(configs) == 8
    for config in configs:
        assert config.sizes.d == [64, 128, 256, 448, 512, 1024, 2048, 3072]
        assert config.device == "cuda"
        assert config.methods is not None
        assert config.methods[:5] == list(FIRST)
        assert sorted(config.methods) == sorted(config.orthogonal)


def test_shares_of_the_time_add_up_to_what_may_be_measured() -> None:
    time_left = 100.0
    budgets = []
    for config, _ in timings.runs(FULL, Path("results"), False, lambda: time_left):
        budgets.append(config.measure.budget_s)
        time_left -= config.measure.budget_s / FULL.measuring
    assert time_left == pytest.approx(0)
    assert budgets == pytest.approx([24.0, 8.0, 8.0])
    assert all(config.measure.budget_s > 0 for config, _ in runs(lambda: -5.0))


def test_what_is_too_slow_is_known_to_the_later_runs_of_its_dtype_and_m() -> None:
    known = {config.name: too_slow for config, too_slow in runs(lambda: 100.0, more=True)}
    assert known["bfloat16-m128-warm"] is known["bfloat16-m128-cold"]
    assert known["bfloat16-m128-warm"] is not known["bfloat16-m32-cold"]
    assert known["bfloat16-m128-warm"] is not known["float32-m128-cold"]


def test_the_options_are_those_that_hydra_composes() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    for name, options in timings.options_of_all().items():
        path = ROOT / "conf" / "orthogonal" / f"{name}.yaml"
        assert options == omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.load(path))
    assert timings.options_of_all()["parallel"]["max_bytes"] == 4e9


# ------------------------------------------------------------------ conditions of a cell


def cell(
    folder: Path, conditions: CellConditions, d: int = 6
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of samples.csv and summary.csv of one cell with two methods."""
    problem = Problem(d=d, n=d, m=2)
    V, X, G = torch.randn(d, d), torch.randn(d, 2), torch.randn(d, 2)
    entries = [
        TimedMethod(name, METHODS.load(name), (V,), X.clone().requires_grad_(), G)
        for name in ("cayley", "sequential")
    ]
    record = RunWriter.create(folder, "time-fasth", env={})
    with record, display(Console(file=io.StringIO()), 1) as shown:
        time_cell(problem, entries, conditions, record, shown, Rates(matmul=1e9, copy=1e8))
    samples = record.folder / "samples.csv"
    return read_rows(samples) if samples.exists() else [], read_rows(record.folder / "summary.csv")


def test_cold_is_before_every_repetition_and_in_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(
        "svdbench.measure.machine.emptier", lambda device: lambda: emptied.append(device)
    )
    warm_samples, warm = cell(tmp_path, CellConditions(TINY))
    assert emptied == []
    samples, cold = cell(tmp_path, CellConditions(TINY, L2.cold))
    assert len(emptied) == len(samples) + 2  # a warm-up each
    assert {row["l2"] for row in (*samples, *cold)} == {"cold"}
    assert {row["l2"] for row in (*warm_samples, *warm)} == {"warm"}
    assert not {row["cell"] for row in warm} & {row["cell"] for row in cold}


def test_both_floors_and_the_bandwidth_of_each_pass(tmp_path: Path) -> None:
    _, rows = cell(tmp_path, CellConditions(TINY))
    assert [row["pass"] for row in rows] == 2 * ["fwd", "bwd", "step"]
    for row, moved, share in zip(rows, 2 * [240, 432, 672], 2 * [4, 8, 12], strict=True):
        found = {key: float(row[key]) for key in row if key.endswith(("_s", "_bytes", "floor"))}
        assert found["least_bytes"] == moved
        assert found["gbytes_per_s"] == pytest.approx(moved / found["median_s"] / 1e9)
        assert found["bytes_floor_s"] == pytest.approx(moved / 1e8)
        assert found["floor_s"] == pytest.approx(share * 6 * 6 * 2 / 1e9)
        assert found["of_floor"] == pytest.approx(found["floor_s"] / found["median_s"])
        larger = max(found["floor_s"], found["bytes_floor_s"])
        assert found["of_larger_floor"] == pytest.approx(larger / found["median_s"])
        assert float(row["copy_gbytes_per_s"]) == 0.1
        assert row["device_name"] == ""


def test_without_time_everything_is_skipped_with_a_reason(tmp_path: Path) -> None:
    samples, rows = cell(tmp_path, CellConditions(TINY, left=lambda: 0.0))
    assert samples == []
    assert {row["status"] for row in rows} == {"skipped"}
    assert {row["reason"] for row in rows} == {"the time budget ran out before its turn"}


def test_too_slow_holds_from_the_size_on_at_which_it_showed(tmp_path: Path) -> None:
    too_slow: TooSlow = {"cayley": (6, "at d = 6 one step took 9 s")}
    statuses = []
    for d in (4, 6, 8):
        _, rows = cell(tmp_path, CellConditions(TINY, too_slow=too_slow), d)
        statuses.append({row["status"] for row in rows if row["method"] == "cayley"})
    assert statuses == [{"ok"}, {"timeout"}, {"timeout"}]


def test_a_cold_cache_on_a_cpu_is_refused(tmp_path: Path) -> None:
    config = TimeFastH(sizes=Sizes(d=[4]), measure=Measure(l2=L2.cold), results=str(tmp_path))
    with pytest.raises(UserError, match=r"works on GPUs only: use measure\.l2=warm"):
        time_fasth.run(config, "")


def test_a_run_whose_time_was_up_at_once_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = timings.options_of_all()
    config = TimeFastH(
        sizes=Sizes(d=[4, 8]),
        results=str(tmp_path),
        orthogonal=options,
        methods=["fasth", "cayley"],
    )
    folder = time_fasth.run(config, "", left=lambda: 0.0)
    assert {path.name for path in folder.iterdir()} == {*(*EVERY_RUN, "summary.csv")}
    out = capsys.readouterr().out
    assert "cayley, fasth skipped at d = 4, 8: the time budget ran out" in out


# ------------------------------------------------------------------ the verdicts


def summary(**changes: Any) -> pd.DataFrame:
    """Step times that keep every promise, some of them changed: (method, d) ↦ seconds."""
    rows = []
    for dtype, m, l2 in itertools.product(("float32", "bfloat16"), (32, 128), ("warm", "cold")):
        for d, (method, seconds) in itertools.product(
            FULL.d,
            {
                "fasth": 1.0,
                "sequential": 60.0,
                "cayley": 6.0,
                "fasthpp": 3.0,
                "torch_householder_map": 50.0,
            }.items(),
        ):
            judged = (dtype, m, l2) == ("float32", 32, "warm")
            median = changes.get(f"{method}_{d}", seconds) if judged else 1.0
            rows.append(
                {
                    **{"pass": "step", "dtype": dtype, "m": m, "l2": l2, "d": d},
                    **{"method": method, "median_s": median, "of_larger_floor": 0.25},
                    "status": "ok" if median else "timeout",
                    "error": 2e-7 if method == "fasth" else 1e-7,
                }
            )
    return pd.DataFrame(rows)


def verdicts(frame: pd.DataFrame) -> dict[tuple[str, int | None], bool | None]:
    return {(f.what, f.d): f.kept for f in timings.figures(frame, FULL.d)}


def test_every_promise_is_judged_once() -> None:
    judged = verdicts(summary())
    assert len(judged) == len(timings.figures(summary(), FULL.d)) == 1 + 1 + 8 + 6 + 1 + 1 + 2
    assert set(judged.values()) == {True}


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        ({"sequential_448": 59.0}, ("sequential / fasth", 448)),
        ({"cayley_1024": 5.9}, ("cayley / fasth", 1024)),
        ({"cayley_64": 0.99}, ("fastest other method / fasth", 64)),
        ({"fasthpp_256": 2.9}, ("fasthpp / fasth", 256)),
        ({"torch_householder_map_512": 49.0}, ("torch_householder_map / fasth", 512)),
    ],
)
def test_a_promise_that_is_missed_or_not_measured(
    change: dict[str, float], figure: tuple[str, int]
) -> None:
    missed = {what: kept for what, kept in verdicts(summary(**change)).items() if kept is not True}
    assert missed == {figure: False}
    if figure[0] != "fastest other method / fasth":  # another one is the fastest then
        none = dict.fromkeys(change)
        unknown = {what: k for what, k in verdicts(summary(**none)).items() if k is not True}
        assert unknown == {figure: None}


def test_the_floor_and_the_errors_are_judged_too() -> None:
    frame = summary()
    ours = (frame["method"] == "fasth") & (frame["l2"] == "warm") & (frame["d"] == 2048)
    frame.loc[ours & (frame["m"] == 128), "of_larger_floor"] = 0.2
    frame.loc[ours & (frame["dtype"] == "bfloat16") & (frame["m"] == 32), "error"] = 2.1e-7
    missed = {what: kept for what, kept in verdicts(frame).items() if kept is not True}
    assert missed == {
        ("fasth / larger floor, m = 128", 2048): False,
        ("error of fasth / of sequential, bfloat16", 2048): False,
    }


def test_without_fasth_nothing_is_measured_and_nothing_breaks() -> None:
    frame = summary()
    assert set(verdicts(frame[frame["method"] != "fasth"]).values()) == {None}
    assert set(verdicts(frame[frame["method"] == "none"]).values()) == {None}


def test_verdicts_are_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [
        Promise("a", 64, 2.0, True, 1.5),
        Promise("b", None, 2.0, False, 1.5),
        Promise("c", 128, None, True, 3),
    ]
    finish(figures, tmp_path)
    with open(tmp_path / "figures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kept"] for row in rows] == ["True", "False", ""]
    assert [row["measured"] for row in rows] == ["2", "2", ""]
    assert [row["bound"] for row in rows] == ["at least", "at most", "at least"]
    out = capsys.readouterr().out
    for word in ("kept", "missed", "not measured"):
        assert word in out


# ------------------------------------------------------------------ reports of any version


@pytest.mark.parametrize("table", ["time-fasth/summary.csv", "bench/2048.csv"])
def test_tables_of_the_first_schema_version_are_still_shown(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.csv").write_bytes((ROOT / "results/reference" / table).read_bytes())
    rows = read_summary(RecordedRun(tmp_path))
    if set(rows["schema_version"]) != {1}:
        pytest.skip("the reference set was measured anew")
    assert set(rows["l2"]) == {"warm"}
    show_run(find_job("time-fasth"), tmp_path, Console())
    out = capsys.readouterr().out
    assert "floor, 12ndm" in out
    assert "floor, bytes" not in out
