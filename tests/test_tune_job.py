"""The sweep over block sizes: which plans, which model, and what the command writes."""

import math
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from command import EVERY_RUN, assert_mistake, run, table
from rich.console import Console

from svdbench.jobs.tune import run as tune_blocks
from svdbench.jobs.tune import shapes as tune_job
from svdbench.jobs.tune.run import choosers, plans_of, rules, runs_with
from svdbench.jobs.tune.shapes import TERMS, Shape, fit
from svdbench.kernels import Plan, Tuned, tuned
from svdbench.kernels.plans import Case
from svdbench.kernels.tuned_plans import cache_file
from svdbench.measure.machine import Neighbours
from svdbench.reporting.render import show_block

pytestmark = pytest.mark.usefixtures("elsewhere")

SHAPES = [Shape(d, d, m, k) for d in (64, 256, 1024) for m in (8, 128) for k in (8, 32, 64, d)]
SECONDS = dict(zip(TERMS, (2e-4, 5e-5, 3e-5, 1e-9, 7e-11, 1e-10), strict=True))
TINY = ["tune", "--plot", "--d", "8,16", "--m", "2,4", "--budget", "0.05", "--name", "one"]
FOLDER = Path("results/tune/one")


def case(n: int, d: int, m: int = 32) -> Case:
    return Case(n, d, m, "float32", "cpu", 2)


def exact_steps() -> dict[Shape, float]:
    return {s: sum(c * TERMS[term].of(s) for term, c in SECONDS.items()) for s in SHAPES}


def test_table_names_the_best_and_the_next_best() -> None:
    step_s = {Plan(32): 1e-3, Plan(48): 1.04e-3, Plan(64): 2e-3}
    console = Console(width=200, file=StringIO())
    show_block(tune_job._table([Tuned(case(64, 64), Plan(32), step_s)]), console)
    assert isinstance(console.file, StringIO)
    out = console.file.getvalue()
    assert "48: 1.04×" in out
    assert "2.00×" in out  # the formula's


class TestTune:
    LINE = ("tune", "--d", "8", "--budget", "0.01")

    def test_a_disturbed_machine_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Neighbours, "cores", lambda self: 0.8)
        assert "Other processes kept 0.8 cores busy" in run([*self.LINE]).out
        monkeypatch.setattr(Neighbours, "cores", lambda self: 0.1)
        answer = run([*self.LINE])
        assert "busy" not in answer.out
        assert "Nothing was kept: on a CPU" in answer.out
        assert not cache_file().exists()

    @pytest.mark.parametrize("line", [["tune"], ["tune", "--clear"], LINE])
    def test_a_cache_of_nobody_is_one_line(
        self, line: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SVDBENCH_CACHE", "~no_such_user/x")
        assert_mistake(run([*line]), "SVDBENCH_CACHE is '~no_such_user/x'")


TIME_RNN = ["time-rnn", "--methods", "spectral,fasth_each_step", "sizes.hidden=[8]"]


@pytest.mark.usefixtures("known_rates")
@pytest.mark.parametrize(
    "line",
    [
        ["time-fasth", "--methods", "fasth", "--d", "8"],
        pytest.param(["time-svd-ops", "--ops", "inverse", "--d", "8"], marks=pytest.mark.slow),
        pytest.param([*TIME_RNN, "sizes.reflectors=[4]"], marks=pytest.mark.slow),
    ],
    ids=lambda line: line[0],
)
def test_no_other_job_keeps_anything(line: list[str]) -> None:
    tiny = ["--budget", "0.05", "measure.min_reps=1", "measure.warmup_reps=1"]
    assert run([*line, *tiny]).code == 0
    assert not cache_file().exists()


class TestPlans:
    @pytest.mark.parametrize("n", [1, 7, 64, 96, 100, 701])
    def test_every_block_size_once_and_what_the_rules_choose(self, n: int) -> None:
        for one in (case(n, 64), case(n, 63, m=5)):
            plans = plans_of(one)
            assert len(plans) == len(set(plans))
            chosen = [set(choosers(one, plan)) for plan in plans]
            assert set.union(*chosen) == {*rules(*one[:3]), "formula"}
            assert sum("formula" in names for names in chosen) == 1

    def test_the_grid_reaches_from_8_to_a_single_block(self) -> None:
        sizes = {plan.block_size for plan in plans_of(case(1536, 1024))}
        assert {8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1536} <= sizes

    def test_fused_kernels_take_a_block_size_as_it_is(self) -> None:
        on_gpu = Case(100, 100, 32, "float32", "cuda X", 0)
        assert runs_with(100, 32) == 25
        assert "k=32" in choosers(on_gpu, Plan(25))
        assert "k=32" in choosers(on_gpu, Plan(32, sweep="triton"))
        assert "k=32" not in choosers(on_gpu, Plan(16, sweep="triton"))

    def test_the_formula_is_one_of_the_plans(self) -> None:
        small = case(64, 64)
        assert {"formula", "k=n"} <= set(choosers(small, Plan(64)))


class TestCostModel:
    def test_finds_the_coefficients_again(self) -> None:
        step_s = exact_steps()
        model = fit(step_s)
        assert model.seconds == pytest.approx(SECONDS, rel=1e-6)
        assert max(model.errors) < 1e-9
        assert model.step_s(SHAPES[0]) == pytest.approx(step_s[SHAPES[0]])

    def test_its_optimum_is_where_the_step_is_shortest(self) -> None:
        model = fit(exact_steps())
        n, d, m = 2**20, 256, 8  # so many blocks that rounding n/k does not matter
        best = min(range(8, 256), key=lambda k: model.step_s(Shape(n, d, m, k)))
        optimum = model.optimum(d, m)
        assert optimum == pytest.approx(best, rel=0.01)
        assert optimum == pytest.approx(math.sqrt((3e-5 / d + 1e-9 * m) / 7e-11), rel=1e-6)

    def test_no_cost_of_large_blocks_no_optimum(self) -> None:
        model = fit({s: float(s.steps) for s in SHAPES})
        assert model.seconds["gram"] == 0
        assert model.optimum(64, 8) is None

    def test_nothing_to_fit(self) -> None:
        with pytest.raises(ValueError, match="at least one block size"):
            fit({})

    def test_no_coefficient_is_negative_and_the_fit_is_optimal(self) -> None:
        step_s = {s: t / (1 + s.k) for s, t in exact_steps().items()}
        found = fit(step_s).seconds
        x = np.array([found[name] for name in TERMS])
        A = np.array([[term.of(s) / t for term in TERMS.values()] for s, t in step_s.items()])
        gradient = A.T @ (A @ x - 1) / np.linalg.norm(A, axis=0)
        assert (x >= 0).all()
        assert (x == 0).any()  # a plain least-squares fit has negative ones here
        # Karush–Kuhn–Tucker: the minimum, and no other
        assert np.abs(gradient[x > 0]).max() < 1e-9
        assert (gradient[x == 0] > -1e-9).all()


class TestCommand:
    def test_writes_what_it_promises(self) -> None:
        code, out, _ = run(TINY)
        assert code == 0
        assert {path.name for path in FOLDER.iterdir()} == {
            *(*EVERY_RUN, "summary.csv", "model.csv", "fit.csv"),
            *("step_time.png", "best_block.png", "regret.png"),
        }
        rows = table(FOLDER / "summary.csv")
        assert {(r["d"], r["n"], r["m"]) for r in rows} == {
            (d, d, m) for d in ("8", "16") for m in ("2", "4")
        }
        assert {row["status"] for row in rows} == {"ok"}
        assert len({row["cell"] for row in rows}) == len(rows)
        for shape in {(row["d"], row["m"]) for row in rows}:
            shares = [float(row["of_best"]) for row in rows if (row["d"], row["m"]) == shape]
            assert max(shares) == 1
        assert {row["term"] for row in table(FOLDER / "fit.csv")} == set(TERMS)
        modelled = table(FOLDER / "model.csv")
        assert len(modelled) == len({(row["d"], row["m"], row["block_size"]) for row in rows})
        assert all(float(row["model_s"]) > 0 for row in modelled)
        assert "How to choose the block size?" in out
        assert tuned() == []  # what later calls use stays as it was

    def test_regret_is_what_the_rows_say(self) -> None:
        from svdbench.jobs.tune.report import by_block, by_shape
        from svdbench.record.reader import RecordedRun

        run(TINY)
        made = RecordedRun(FOLDER)
        timed = made.frame("summary")
        shapes = by_shape(timed, by_block(timed, made.frame("model")))
        for row in shapes.to_dict("records"):
            at = timed[(timed["d"] == row["d"]) & (timed["m"] == row["m"])]
            whole = at[at["block_size"] == row["n"]]["step_s"].min()
            assert row["k=n"] == pytest.approx(whole / at["step_s"].min() - 1)
            assert row["k=32"] == row["k=n"]  # n is less than 32

    def test_blocks_too_large_are_rows_that_say_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tune_blocks, "LARGEST", 8)
        code, out, _ = run([*TINY[:2], "--d", "16", *TINY[4:]])
        assert code == 0
        large = [row for row in table(FOLDER / "summary.csv") if row["block_size"] == "16"]
        assert {row["status"] for row in large} == {"skipped"}
        assert "k = 16 skipped at d = 16: mostly Gram matrices" in out

    def test_what_fails_is_a_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_room(*_: object, **__: object) -> None:
            raise MemoryError("no room")

        monkeypatch.setattr(tune_blocks, "time_plans", no_room)
        code, out, _ = run(TINY)
        assert code == 0
        assert {row["status"] for row in table(FOLDER / "summary.csv")} == {"oom"}
        assert "not enough memory" in out

    def test_an_interruption_keeps_what_was_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.kernels import time_plans

        calls = iter(range(9))

        def interrupted(*arguments: object, **options: object) -> object:
            if next(calls) == 2:
                raise KeyboardInterrupt
            return time_plans(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(tune_blocks, "time_plans", interrupted)
        code, out, err = run(TINY)
        assert code == 130
        assert "kept" in err
        assert {row["d"] for row in table(FOLDER / "summary.csv")} == {"8"}
        assert "How to choose the block size?" in out

    def test_plain_tuning_takes_several_m(self) -> None:
        out = run(["tune", "--d", "8", "--m", "2,3", "--budget", "0.01"]).out
        assert "8 × 8 × 2" in out
        assert "8 × 8 × 3" in out
        assert not Path("results").exists()


MISTAKES = [
    (["tune", "--plot", "--d", "8,x"], "--d is '8,x'"),
    (["tune", "--plot", "--m", "0"], "--m is '0': give whole numbers of at least 1, such as --m"),
    (["tune", "--m", "many"], "--m is 'many'"),
    (["tune", "--plot", "sizes.m=[]"], "sizes.m is empty"),
    (["tune", "--plot", "sizes.n=0"], "sizes.n is 0"),
    (["tune", "--plot", "--dtype", "int8"], "cannot set 'dtype'"),
    (["tune", "--plot", "--device", "tpu"], "choose cpu, cuda or cuda:N"),
    (["tune", "--device", "tpu"], "choose cpu, cuda or cuda:N"),
    (["tune", "--plot", "measure.budget_s=0"], "measure.budget_s is 0"),
    (["tune", "--plot", "measure.precision=1"], "there is no key 'measure.precision'"),
    (["tune", "--plot", "--clear"], "--clear"),
    (["tune", "--name", "mine"], "need --plot"),
    (["tune", "sizes.n=4"], "need --plot"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    assert_mistake(run(arguments), says)


def test_no_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for arguments in (["tune", "--plot", "--device", "cuda"], ["tune", "--device", "cuda"]):
        code, _, err = run(arguments)
        assert code == 2
        assert "torch sees no GPU here" in err
