"""``svdbench compare``: verdicts on numbers that are known, and one line for every mistake."""

import csv
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svdbench.jobs.compare.runs import load
from svdbench.record.schema import COMPRESSED, SAMPLES, SUMMARY, TableSchema, cell_id
from svdbench.statistics.intervals import by_pairs, by_ranks, holm

pytestmark = pytest.mark.usefixtures("elsewhere")

ENV = {"cpu": "one", "threads": 2, "torch": "2.6", "timestamp_utc": "2026-01-02T03:04:05+00:00"}
CONFIG = "sizes:\n  d: [64]\nseed: 0\nname: x\n"

Rows = Iterable[Mapping[str, Any]]


def write_table(
    path: Path, table: TableSchema, rows: Rows, version: int = 2, job: str = ""
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table.columns)
        writer.writeheader()
        common = {"schema_version": version, "run_id": path.parent.name, "status": "ok"}
        writer.writerows(common | {"job": job} | dict(row) for row in rows)


def describe(folder: Path, env: Mapping[str, Any] | None = None, config: str = CONFIG) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "env.json").write_text(json.dumps(ENV if env is None else env))
    (folder / "config.yaml").write_text(config)


def timing(
    folder: str,
    factors: Mapping[str, float],
    *,
    env: Mapping[str, Any] | None = None,
    seed: int = 0,
    bursts: int = 6,
    each: int = 8,
    noise: float = 0.01,
    version: int = 2,
    by: str = "",
    of_floor: float | None = None,
    **columns: Any,
) -> Path:
    """A run whose methods take their factor of a millisecond, with a little noise."""
    chance, samples, summary = random.Random(f"{folder}{seed}"), [], []
    for method, factor in factors.items():
        what: dict[str, Any] = {
            "method": method,
            "d": 64,
            "n": 64,
            "m": 32,
            "device": "cpu",
            "dtype": "float32",
        }
        what |= {"threads": 2} | columns
        row = what | {"cell": cell_id(job="time-fasth", **what), "version": by}
        if version > 1:
            row["l2"] = "warm"
        times = [
            (burst, 1e-3 * factor * math.exp(chance.gauss(0, noise)))
            for burst in range(bursts)
            for _ in range(each)
        ]
        for burst, t in times:
            samples.append(row | {"round": burst, "fwd_s": t / 3, "bwd_s": 2 * t / 3, "step_s": t})
        summary += [
            row
            | {"pass": "step", "median_s": sorted(t for _, t in times)[len(times) // 2]}
            | {"of_floor": of_floor}
        ]
    path = Path(folder)
    describe(path, env)
    write_table(path / "samples.csv", SAMPLES, samples, version, "time-fasth")
    write_table(path / "summary.csv", SUMMARY, summary, version, "time-fasth")
    return path


def training(
    folder: str,
    accuracies: Mapping[str, Iterable[float]],
    *,
    first: int = 0,
    env: Mapping[str, Any] | None = None,
    config: str = CONFIG,
    **columns: Any,
) -> Path:
    """A ``compress`` run with these accuracies of each arm, from seed ``first`` on."""
    rows = []
    for arm, values in accuracies.items():
        for seed, accuracy in enumerate(values, start=first):
            what: dict[str, Any] = {
                "model": "64-15-10",
                "dataset": "digits",
                "method": arm,
                "arm": arm,
            }
            what |= {"seed": seed, "device": "cpu"}
            found = {"threads": 2, "loss": 1 - accuracy, "accuracy": accuracy}
            rows.append(what | {"cell": cell_id(job="compress", **what)} | found | columns)
    path = Path(folder)
    describe(path, env, config)
    write_table(path / "summary.csv", COMPRESSED, rows, job="compress")
    return path


def compared(*arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, err = run(["compare", *arguments, "--output", "json"])
    assert err == ""
    return code, json.loads(out)


def verdicts(found: Mapping[str, Any]) -> dict[str, str]:
    return {cell["what"]["method"]: cell["verdict"] for cell in found["cells"]}


# ------------------------------------------------------------------ statistics


def test_both_versions_of_a_run_are_named() -> None:
    timing("a", {"fasth": 1}, by="1.0+aaa")
    for folder, version in (("b/one", "1.0+aaa"), ("b/two", "1.0+bbb")):
        timing(folder, {"fasth": 1}, by=version)
    out = run(["compare", "a", "b"]).out
    assert "by svdbench 1.0+aaa and 1.0+bbb" in out
    assert out.count("by svdbench") == 1


def test_trainings_that_their_clock_stopped_are_compared() -> None:
    for folder, accuracy in (("a", 0.9), ("b", 0.5)):
        training(folder, {"stock": [accuracy] * 5}, status="timeout")
    assert "worse" in run(["compare", "a", "b"]).out


def test_a_difference_is_found_and_its_ratio() -> None:
    chance = random.Random(0)
    a = [math.exp(chance.gauss(0, 0.02)) for _ in range(60)]
    b = [1.2 * math.exp(chance.gauss(0, 0.02)) for _ in range(60)]
    bursts = [str(i // 10) for i in range(60)]
    found = by_ranks(a, b, bursts, bursts)
    assert found.low < 1.2 < found.high
    assert found.p is not None
    assert found.p < 1e-6
    back = by_ranks(b, a, bursts, bursts)
    assert back.ratio == pytest.approx(1 / found.ratio)
    assert back.low == pytest.approx(1 / found.high)
    assert back.p == pytest.approx(found.p)


def test_samples_of_a_burst_are_not_independent() -> None:
    # Bursts that vary by 10 % around the same mean, their samples by 1 %.
    false = {"bursts": 0, "none": 0}
    for trial in range(100):
        chance = np.random.default_rng(trial)
        sides = [
            np.exp(np.repeat(chance.normal(0, 0.1, 5), 20) + chance.normal(0, 0.01, 100))
            for _ in range(2)
        ]
        a, b = (side.tolist() for side in sides)
        known, unknown = [str(i // 20) for i in range(100)], ["one"] * 100
        false["bursts"] += (by_ranks(a, b, known, known).p or 0) < 0.05
        false["none"] += (by_ranks(a, b, unknown, unknown).p or 0) < 0.05
    assert false["bursts"] <= 10
    assert false["none"] >= 40


def test_the_interval_covers_what_it_should() -> None:
    inside = 0
    for trial in range(200):
        chance = np.random.default_rng(trial)
        a, b = np.exp(chance.normal(0, 0.1, 30)), 1.1 * np.exp(chance.normal(0, 0.1, 30))
        alone = [str(i) for i in range(30)]
        found = by_ranks(a.tolist(), b.tolist(), alone, alone)
        inside += found.low <= 1.1 <= found.high
    assert inside >= 186


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_samples_decide_nothing(n: int) -> None:
    values = [1.0 + i / 1000 for i in range(n)]
    found = by_ranks(values, [2 * v for v in values], ["x"] * n, ["x"] * n)
    assert found.ratio == pytest.approx(2, rel=1e-2)
    assert found.p is None or found.p >= 0.05
    assert (found.low, found.high) == (0, math.inf)


def test_pairs_differ_less_than_their_sides_do() -> None:
    a = [0.5, 0.1, 0.9, 0.3, 0.7]
    found = by_pairs(a, [1.1 * v for v in a], logarithms=True)
    assert found.ratio == pytest.approx(1.1)
    assert found.p is not None
    assert found.p < 1e-6
    assert by_pairs(a, a, logarithms=True).p == 1
    assert by_pairs([0.0, 0.0], [0.0, 0.1], logarithms=False).ratio == math.inf
    assert by_pairs([0.5], [0.6], logarithms=True).p is None


def test_holm_is_stepwise() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=12),
    st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_whatever_the_numbers_an_interval_has_its_ratio(
    a: list[float], b: list[float], bursts: int
) -> None:
    found = by_ranks(a, b, [str(i % bursts) for i in range(len(a))], ["x"] * len(b))
    assert 0 <= found.low <= found.ratio * (1 + 1e-9)
    assert found.ratio <= found.high * (1 + 1e-9)
    assert found.p is None or 0 <= found.p <= 1


# ------------------------------------------------------------------ timings


def test_faster_slower_same_and_the_exit_code() -> None:
    timing("a", {"fasth": 1, "cayley": 1, "cwy": 1, "expm": 1})
    timing("b", {"fasth": 1, "cayley": 1.5, "cwy": 0.5, "expm": 1.03})
    code, found = compared("a", "b")
    assert code == found["exit_code"] == 1
    assert verdicts(found) == {"fasth": "same", "cayley": "worse", "cwy": "better", "expm": "worse"}
    slow = [cell for cell in found["cells"] if cell["regression"]]
    assert [cell["what"]["method"] for cell in slow] == ["cayley"]
    assert slow[0]["low"] < 1.5 < slow[0]["high"]
    assert slow[0]["p_adjusted"] >= slow[0]["p"]
    assert slow[0]["n_a"] == 48
    assert compared("a", "b", "--threshold", "1.6")[0] == 0
    assert compared("b", "a")[0] == 1  # what was faster is slower now
    assert compared("a", "a")[0] == 0


def test_noise_is_no_verdict() -> None:
    timing("a", {"fasth": 1}, noise=0.3)
    timing("b", {"fasth": 1.02}, noise=0.3)
    code, found = compared("a", "b")
    assert code == 0
    assert verdicts(found) == {"fasth": "can't tell"}
    out = run(["compare", "a", "b"]).out
    assert "measure longer" in out
    assert "no regression" in out


def test_without_samples_nothing_is_decided() -> None:
    for name, factor in (("a", 1), ("b", 3)):
        (timing(name, {"fasth": factor}) / "samples.csv").unlink()
    code, found = compared("a", "b")
    assert code == 0
    assert found["cells"][0]["ratio"] == pytest.approx(3, rel=0.05)
    assert found["cells"][0]["p"] is None
    assert "too few values" in run(["compare", "a", "b"]).out


def test_several_runs_of_the_same_cells_are_one_side() -> None:
    for number in range(3):  # B's runs vary by more than they differ from A's
        timing(f"a/{number}", {"fasth": 1}, seed=number)
        timing(f"b/{number}", {"fasth": (0.8, 1.1, 1.3)[number]}, seed=number)
    found = compared("a", "b")[1]
    assert verdicts(found) == {"fasth": "can't tell"}
    assert found["cells"][0]["n_b"] == 144
    assert verdicts(compared("a", "b/2")[1]) == {"fasth": "worse"}


def test_a_folder_of_results_is_a_side() -> None:
    """As ``results=before`` has made it: with a folder for the job, and runs in that."""
    for side in ("before", "after"):
        timing(f"{side}/time-fasth/r", {"a": 1.0, "b": 2.0})
    found, direct = (
        run(["compare", *(f"{side}{more}" for side in ("before", "after"))])
        for more in ("", "/time-fasth/r")
    )
    assert found.code == direct.code == 0
    timing("before/tune/r", {"a": 1.0})
    answer = run(["compare", "before", "after"])
    assert answer.code == 2
    assert "before is not a run" in answer.err


def test_passes_may_be_asked_for() -> None:
    timing("a", {"fasth": 1})
    timing("b", {"fasth": 1})
    found = compared("a", "b", "--metric", "fwd_s,bwd_s")[1]
    assert [cell["metric"] for cell in found["cells"]] == ["fwd", "bwd"]
    answer = run(["compare", "a", "b", "--metric", "speed"])
    assert answer.code == 2
    assert "choose from bwd_s, fwd_s, median_s, step_s" in answer.err


def test_cells_that_one_side_lacks_are_told() -> None:
    timing("a", {"fasth": 1, "old": 1})
    timing("b", {"fasth": 1, "new": 1})
    found = compared("a", "b")[1]
    assert [what["method"] for what in found["only_a"]] == ["old"]
    assert [what["method"] for what in found["only_b"]] == ["new"]
    out = run(["compare", "a", "b"]).out
    assert "only in A: old" in out
    assert "only in B: new" in out


@pytest.mark.parametrize(
    ("status", "code"), [("gate", 1), ("failed", 1), ("oom", 1), ("timeout", 1), ("skipped", 0)]
)
def test_what_worked_and_fails_now_is_a_regression(status: str, code: int) -> None:
    timing("c", {"fasth": 1, "cayley": 1})
    path = timing("d", {"fasth": 1, "cayley": 1}) / "summary.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    rows[1] |= {"status": status, "reason": "wrong by 3 %"}
    write_table(path, SUMMARY, rows)
    answer = run(["compare", "c", "d"])
    assert answer.code == code
    assert f"{status}: wrong by 3 %" in answer.out
    assert ("broken" in answer.out) == bool(code)
    assert compared("d", "c")[0] == 0
    assert "repaired" in run(["compare", "d", "c"]).out


def test_a_run_in_which_everything_fails_is_broken() -> None:
    timing("a", {"fasth": 1})
    path = timing("b", {"fasth": 1})
    (path / "samples.csv").unlink()
    with open(path / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    write_table(path / "summary.csv", SUMMARY, [rows[0] | {"status": "oom", "median_s": ""}])
    code, found = compared("a", "b")
    assert (code, found["broken"], found["cells"]) == (1, 1, [])
    assert run(["compare", "a", "b", "--output", "markdown"]).out.startswith("**1 broken")


def test_an_older_schema_pairs_by_what_defines_a_cell() -> None:
    timing("a", {"fasth": 1}, version=1)
    path = timing("b", {"fasth": 1})
    for table in ("samples", "summary"):  # as if a later schema had more in its identity
        file = path / f"{table}.csv"
        file.write_text(file.read_text().replace(cell_of(path), "ffffffffffff"))
    assert verdicts(compared("a", "b")[1]) == {"fasth": "same"}


def cell_of(folder: Path) -> str:
    with open(folder / "summary.csv", newline="") as file:
        return next(csv.DictReader(file))["cell"]


def test_a_machine_that_was_slower_is_told() -> None:
    for name, rate in (("a", 100), ("b", 70)):
        path = timing(name, {"fasth": 100 / rate})
        with open(path / "summary.csv", newline="") as file:
            rows = [
                row | {"matmul_gflops": rate, "foreign_cores": 1} for row in csv.DictReader(file)
            ]
        write_table(path / "summary.csv", SUMMARY, rows)
    warnings = " ".join(compared("a", "b")[1]["warnings"])
    assert "took 1.43× as long in B" in warnings
    assert "other processes kept 1.0 cores busy" in warnings


# ------------------------------------------------------------------ trainings


def test_results_are_compared_seed_by_seed() -> None:
    before = [0.90, 0.80, 0.95, 0.85, 0.70]
    training("a", {"stock": before, "rsvd": before})
    training("b", {"stock": before, "rsvd": [v - 0.03 for v in before]})
    code, found = compared("a", "b", "--metric", "accuracy")
    assert code == 1
    assert verdicts(found) == {"stock": "same", "rsvd": "worse"}
    assert all(cell["paired"] and cell["n_a"] == 5 for cell in found["cells"])
    assert found["cells"][0]["metric"] == "error"
    assert {cell["metric"] for cell in compared("a", "b")[1]["cells"]} == {"error", "loss"}


def test_one_seed_decides_nothing() -> None:
    training("a", {"stock": [0.9]})
    training("b", {"stock": [0.8]})
    code, found = compared("a", "b")
    assert (code, verdicts(found)) == (0, {"stock": "can't tell"})


def test_other_seeds_are_two_heaps() -> None:
    training("a", {"stock": [0.90, 0.91, 0.92, 0.93, 0.94, 0.95]})
    training("b", {"stock": [0.70, 0.71, 0.72, 0.73, 0.74, 0.75]}, first=6)
    code, found = compared("a", "b", "--metric", "accuracy")
    assert (code, verdicts(found)) == (1, {"stock": "worse"})
    assert not found["cells"][0]["paired"]


def test_of_other_settings_other_seeds_are_other_cells() -> None:
    training("a", {"stock": [0.9, 0.8]})
    training("b", {"stock": [0.9, 0.8]}, first=2, config="epochs: 7\n")
    answer = run(["compare", "a", "b"])
    assert answer.code == 2
    assert "epochs (None / 7)" in answer.err


# ------------------------------------------------------------------ apples and oranges


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cpu": "another"}, "cpu is 'one' in a, 'another' in b"),
        ({"threads": 4}, "threads is '2' in a, '4' in b"),
        ({"governor": "powersave"}, None),  # not known in A
        ({"torch": "3.0"}, None),
        ({"load_average": [9.0, 9.0, 9.0]}, None),
    ],
)
def test_environments_must_match(change: dict[str, Any], says: str | None) -> None:
    timing("a", {"fasth": 1})
    timing("b", {"fasth": 1}, env=ENV | change)
    answer = run(["compare", "a", "b"])
    assert answer.code == (3 if says else 0)
    if says:
        assert answer.out == ""
        assert answer.err.count("\n") == 1
        assert says in answer.err
        forced = run(["compare", "a", "b", "--force"])
        assert forced.code == 0
        assert f"warning: {says}" in forced.out
    elif "torch" in change:
        assert "torch 2.6 → 3.0" in answer.out
    elif "governor" in change:
        assert "governor is not known in a" in answer.out


@pytest.mark.parametrize(
    "change",
    [{"dtype": "float64"}, {"device": "cuda"}, {"threads": 1, "env": ENV | {"threads": 1}}],
)
def test_forced_cells_pair_without_what_differs(change: dict[str, Any]) -> None:
    timing("a", {"fasth": 1, "cwy": 1})
    timing("b", {"fasth": 2, "cwy": 1}, **change)
    assert run(["compare", "a", "b"]).code == 3
    code, found = compared("a", "b", "--force")
    assert (code, verdicts(found)) == (1, {"fasth": "worse", "cwy": "same"})


def test_gpus_must_match_where_they_compute() -> None:
    gpus = [ENV | {"gpus": [name]} for name in ("H200", "A100")]
    for device, code in (("cuda", 3), ("cpu", 0)):
        timing("a", {"fasth": 1}, env=gpus[0], device=device)
        timing("b", {"fasth": 1}, env=gpus[1], device=device)
        assert run(["compare", "a", "b"]).code == code


def test_losses_may_be_compared_across_machines() -> None:
    training("a", {"stock": [0.9, 0.8]}, epoch_s=1.0)
    training("b", {"stock": [0.9, 0.8]}, epoch_s=1.0, env=ENV | {"cpu": "another"})
    assert run(["compare", "a", "b"]).code == 3
    assert run(["compare", "a", "b", "--metric", "loss,accuracy"]).code == 0


def test_different_jobs_are_refused() -> None:
    timing("a", {"fasth": 1})
    training("b", {"stock": [0.9]})
    answer = run(["compare", "a", "b", "--force"])
    assert answer.code == 3
    assert "a is a run of time-fasth, b of compress" in answer.err


def test_nothing_known_of_where_is_no_match() -> None:
    (timing("a", {"fasth": 1}) / "env.json").unlink()
    timing("b", {"fasth": 1})
    assert run(["compare", "a", "b"]).code == 3
    assert run(["compare", "a", "b", "--force"]).code == 0


# ------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_keeps_its_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = "torch_svd_lowrank_oversampled_and_more"
    timing("a", {"fasth": 1, long: 1})
    timing("b", {"fasth": 2, long: 1})
    out = run(["compare", "a", "b"]).out
    rows = [line for line in out.splitlines() if "ms" in line]
    assert len(rows) == 2
    assert all(len(line.rstrip()) <= width and "…" not in line for line in rows)
    assert "regression" in rows[0]
    assert long[:29] in out  # the rest may stand on the next line


def test_text_from_files_stays_text() -> None:
    timing("a", {"[bold]x|y": 1, "\x1b[31mred": 1})
    timing("b", {"[bold]x|y": 1, "\x1b[31mred": 1})
    out = run(["compare", "a", "b"]).out
    assert "[bold]x|y" in out
    assert "\x1b" not in out
    marked = run(["compare", "a", "b", "--output", "markdown"]).out
    assert r"| \[bold\]x\|y |" in marked
    assert "\x1b" not in marked


def test_markdown_has_the_verdict_first() -> None:
    timing("a", {"fasth": 1, "cwy": 1})
    timing("b", {"fasth": 2, "cwy": 1})
    lines = run(["compare", "a", "b", "--output", "markdown"]).out.splitlines()
    assert lines[0].startswith("**1 regression beyond 1.05: of 2 comparisons 1 same, 1 worse")
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert any("**regression**" in line for line in rows)


def test_a_name_will_do_if_it_is_the_only_one() -> None:
    timing("results/time-fasth/one", {"fasth": 1})
    timing("results/bench/part/two", {"fasth": 1})
    assert run(["compare", "one", "two"]).code == 0
    assert run(["compare", "time-fasth/one", "results/bench/part/two"]).code == 0
    timing("results/other/one", {"fasth": 1})
    answer = run(["compare", "one", "two"])
    assert answer.code == 2
    assert "several runs are called 'one'" in answer.err


# ------------------------------------------------------------------ mistakes


def spoil(name: str, text: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).write_text(text)

    return harm


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a"], "Missing argument"),
        (["a", "nowhere"], "there is no run 'nowhere'"),
        (["a", "../../etc"], "there is no run"),
        (["a", "x\0y"], "has a NUL character"),
        (["a", "n" * 5000], "there is no run"),
        (["a", "empty"], "is not a run"),
        (["a", "a/summary.csv"], "is a file"),
        (["a", "a", "--threshold", "0.9"], "--threshold is 0.9"),
        (["a", "a", "--threshold", "nan"], "--threshold is nan"),
        (["a", "a", "--alpha", "1"], "--alpha is 1"),
        (["a", "a", "--format", "xml"], "no format is called 'xml'"),
        (["a", "a", "--metrics", ""], "--metrics ''"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], says: str) -> None:
    timing("a", {"fasth": 1})
    Path("empty").mkdir()
    answer = run(["compare", *arguments])
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert says in answer.err or "can't read" in answer.err


@pytest.mark.parametrize(
    "harm",
    [
        spoil("summary.csv", ""),
        spoil("summary.csv", "a,b\n1,2\n"),
        spoil("summary.csv", "schema_version,job,cell\n2,time-fasth,x\n"),
        spoil("summary.csv", "schema_version,job,cell,status\n99,time-fasth,x,ok\n"),
        spoil("samples.csv", "schema_version,job,cell,status,step_s\n2,time-fasth,x\n"),
        spoil("env.json", "[1, 2]"),
        spoil("env.json", "{"),
        spoil("config.yaml", "!!python/object/apply:os.system ['touch owned']"),
        spoil("config.yaml", "a: [1"),
    ],
)
def test_broken_files_are_one_line(harm: Callable[[Path], None]) -> None:
    timing("a", {"fasth": 1})
    harm(timing("b", {"fasth": 1}))
    answer = run(["compare", "a", "b"])
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert not Path("owned").exists()


def test_a_torn_line_is_left_out_and_told() -> None:
    timing("a", {"fasth": 1})
    path = timing("b", {"fasth": 1}) / "samples.csv"
    path.write_text(path.read_text()[:-9])
    answer = run(["compare", "a", "b"])
    assert (answer.code, answer.err) == (0, "")
    assert "warning: b/samples.csv: the last line is incomplete" in answer.out


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_whatever_is_in_the_files_there_is_no_traceback(data: st.DataObject) -> None:
    if not Path("a").exists():
        timing("a", {"fasth": 1, "cwy": 1}, bursts=2, each=2)
    path = timing("b", {"fasth": 1, "cwy": 1}, bursts=2, each=2)
    name = data.draw(st.sampled_from(["summary.csv", "samples.csv", "env.json", "config.yaml"]))
    text = (path / name).read_text()
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 40))
    junk = data.draw(st.text(max_size=8) | st.sampled_from(["nan", "-1", "1e999", ",", "\n", "\0"]))
    (path / name).write_text(text[:start] + junk + text[start + length :], errors="replace")
    answer = run(["compare", "a", "b"])
    assert answer.code in (0, 1, 2, 3)
    assert answer.err.count("\n") == (answer.code > 1)


def test_a_side_knows_its_runs() -> None:
    timing("a/one", {"fasth": 1})
    timing("a/two", {"fasth": 1})
    side = load("a")
    assert (side.job, len(side.environments), len(side.summary)) == ("time-fasth", 2, 2)
    assert side.settings[0] == {"sizes.d": [64]}


# ----------------------------------------------------------------- undecided


def test_a_gate_can_ask_for_a_verdict_on_every_cell() -> None:
    timing("a", {"fasth": 1}, noise=0.5, bursts=2, each=2)
    timing("b", {"fasth": 1}, noise=0.5, bursts=2, each=2, seed=1)
    code, found = compared("a", "b")
    assert (code, found["undecided"], found["exit_code"]) == (0, 1, 0)
    code, found = compared("a", "b", "--fail-undecided")
    assert (code, found["undecided"], found["exit_code"]) == (4, 1, 4)
    assert "1 undecided" in run(["compare", "a", "b", "--fail-undecided"]).out


def test_a_cell_that_was_not_measured_again_is_undecided() -> None:
    timing("a", {"fasth": 1, "cayley": 1})
    timing("b", {"fasth": 1})
    assert compared("a", "b")[0] == 0
    assert compared("a", "b", "--fail-undecided")[0] == 4
    assert compared("b", "a", "--fail-undecided")[0] == 0


def test_a_regression_counts_more_than_what_is_undecided() -> None:
    timing("a", {"fasth": 1, "cayley": 1})
    timing("b", {"fasth": 2})
    assert compared("a", "b", "--fail-undecided")[0] == 1


def test_times_below_their_floor_are_told_of() -> None:
    timing("a", {"fasth": 1}, of_floor=0.5)
    timing("b", {"fasth": 1}, of_floor=25.0)
    found = compared("a", "b")[1]
    assert any("b has times below their floor" in warning for warning in found["warnings"])
    assert not any("a has times below" in warning for warning in found["warnings"])
