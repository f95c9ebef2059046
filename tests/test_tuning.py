"""The block-size tuner: exact with a clock of its own, careful with its file."""

import errno
import json
import multiprocessing
import warnings
from pathlib import Path
from typing import TextIO

import pytest
import torch

from svdbench.kernels import (
    Plan,
    Tuned,
    apply_reflectors,
    choose_block_size,
    clear_tuned,
    plans,
    tune,
    tuned,
    tuned_plans,
)
from svdbench.kernels.choice import plan_for
from svdbench.kernels.plans import Case, candidates, formula
from svdbench.kernels.timing import measure_plans
from svdbench.kernels.tuned_plans import ALGORITHM, cache_file, plan_on_gpu, remember

CASE = Case(256, 256, 8, "float32", "cuda X", 0)


def answer(case: Case = CASE, block_size: int = 24) -> Tuned:
    plan = Plan(block_size)
    return Tuned(case, plan, {plan: 1e-3, Plan(64): 2e-3, Plan(64, "triton"): 3e-3})


def test_finds_the_fastest_plan_on_a_fake_clock() -> None:
    costs = {Plan(16): 3.0, Plan(32): 1.0, Plan(64): 2.0}
    time = 0.0

    def step(plan: Plan) -> None:
        nonlocal time
        time += costs[plan]

    steps = {plan: (lambda p=plan: step(p)) for plan in costs}
    seconds = measure_plans(steps, budget_s=30, now=lambda: time)
    assert seconds == costs
    # The two that were left behind stopped after three rounds, the winner went on.
    assert time == sum(costs.values()) * 4 + 12


def test_remembers_on_disk_and_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(answer())
    other = answer(CASE._replace(m=9), 48)
    content = json.loads(cache_file().read_text())
    remember(other)
    assert len(content["tuned"]) == 1
    monkeypatch.setattr(tuned_plans, "_known", None)  # as in a new process
    assert [t.plan.block_size for t in tuned()] == [24, 48]
    assert plan_for(CASE) == Plan(24)
    assert tuned()[0].step_s == answer().step_s


@pytest.mark.parametrize("text", ["", "{", "[]", '{"algorithm": "older", "tuned": []}', "null"])
def test_a_file_that_is_not_ours_is_measured_anew(text: str) -> None:
    cache_file().parent.mkdir(parents=True, exist_ok=True)
    cache_file().write_text(text)
    assert tuned() == []
    assert plan_for(CASE) == formula(CASE)


def kept_with(**changed: object) -> dict[str, object]:
    """An answer of the file with something else in it."""
    plan = changed.pop("plan", [24, "torch"])
    case = CASE._asdict() | changed.pop("case", {})
    return {"case": case, "plan": plan, "step_s": [{"plan": plan, "s": 1e-3}]} | changed


@pytest.mark.parametrize(
    "entry",
    [
        kept_with(plan=[2**31, "torch"]),
        kept_with(plan=[0, "torch"]),
        kept_with(plan=[24, "triton"]),  # no block size of the kernels
        kept_with(plan=[True, "torch"]),
        kept_with(plan=[24.0, "torch"]),
        kept_with(plan=[24, []]),
        kept_with(plan=[24, 1, 0, "torch"]),  # of an older version
        kept_with(plan="24"),
        kept_with(case={"device": "cpu"}),
        kept_with(case={"n": 0}),
        kept_with(case={"d": "256"}),
        kept_with(case={"device": None}),
        kept_with(case={"device": "cpu\n"}),
        kept_with(case={"dtype": "int8"}),
        kept_with(case={"more": 1}),
        kept_with(step_s=[]),
        kept_with(step_s=[{"plan": [24, "torch"], "s": float("nan")}]),
        kept_with(
            step_s=[
                {"plan": [24, "torch"], "s": 2.0},
                {"plan": [64, "torch"], "s": 1.0},
            ]
        ),  # not the best one
        None,
        [],
    ],
    ids=str,
)
def test_an_answer_that_fits_no_shape_is_ignored_and_told(entry: object) -> None:
    cache_file().parent.mkdir(parents=True, exist_ok=True)
    other = kept_with(case={"m": 9})
    cache_file().write_text(json.dumps({"algorithm": ALGORITHM, "tuned": [entry, other]}))
    with pytest.warns(UserWarning, match=r"tuned.json has 1 of 2 entries that are invalid"):
        assert plan_for(CASE) == formula(CASE)
    assert plan_for(CASE._replace(m=9)) == Plan(24)


def remember_many(first: int) -> None:
    for m in range(first, first + 25):
        case = Case(8, 8, m, "float32", "cuda X", 0)
        remember(Tuned(case, Plan(4), {Plan(4): 1.0}))


def test_processes_that_remember_at_once_lose_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = multiprocessing.get_context("fork")  # this process has imported everything
    at_once = [forked.Process(target=remember_many, args=(25 * i + 1,)) for i in range(4)]
    for process in at_once:
        process.start()
    for process in at_once:
        process.join()
    assert [process.exitcode for process in at_once] == [0] * 4
    monkeypatch.setattr(tuned_plans, "_known", None)
    assert sorted(t.case.m for t in tuned()) == list(range(1, 101))
    assert [path.name for path in cache_file().parent.iterdir()] == ["tuned.json"]


def test_a_full_disk_leaves_the_old_answers_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remember(answer())

    def full(content: object, file: TextIO, **options: object) -> None:
        file.write("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.warns(UserWarning, match="could not be kept: .*No space left"):
        remember(answer(CASE._replace(m=9), 48))
    assert [path.name for path in cache_file().parent.iterdir()] == ["tuned.json"]
    monkeypatch.setattr(tuned_plans, "_known", None)
    assert [t.case for t in tuned()] == [CASE]


def test_what_is_not_kept_holds_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(answer(), keep=False)
    assert plan_for(CASE) == Plan(24)
    remember(answer(CASE._replace(m=9)))
    monkeypatch.setattr(tuned_plans, "_known", None)
    assert [t.case.m for t in tuned()] == [9]


@pytest.mark.parametrize("place", ["~no_such_user/x", "file", "file/below", "loop"])
def test_any_cache_leaves_the_layer_at_work(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("loop").symlink_to("loop")
    monkeypatch.setenv("SVDBENCH_CACHE", place)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        V, X = torch.randn(8, 8), torch.randn(8, 2)
        assert apply_reflectors(V, X).shape == (8, 2)
        assert plan_for(CASE) == formula(CASE)
        remember(answer())
    assert told
    assert all("SVDBENCH_CACHE" in str(w.message) or place in str(w.message) for w in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_read_only_cache_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SVDBENCH_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="could not be kept"):
        remember(answer())
    assert plan_for(CASE) == Plan(24)


def test_on_a_cpu_nothing_is_kept_and_the_formula_stands() -> None:
    V, X = torch.randn(40, 32), torch.randn(32, 4)
    found = tune(V, X, budget_s=0.01)
    assert found.plan in found.step_s
    remember(found)
    assert tuned() == []
    assert choose_block_size(40, 32, 4) == formula(found.case).block_size
    assert tune(V, X, again=False).step_s == {}


def test_forgets() -> None:
    remember(answer())
    clear_tuned()
    assert tuned() == []


@pytest.mark.parametrize("n", [1, 2, 17, 100, 4096])
def test_formula_and_candidates_fit_the_shape(n: int) -> None:
    for d, device in ((n, "cpu"), (3 * n, "cuda X"), (n + 1, "cpu")):
        case = Case(n, d, 32, "float32", device, 1)
        for plan in (formula(case), *candidates(case)):
            assert plan.sweep != "torch" or 1 <= plan.block_size <= n


def test_an_own_block_size_wins() -> None:
    remember(answer())
    assert plan_for(CASE, 9).block_size == 8  # divides n
    assert plan_for(CASE, 1000).block_size == 256


def test_a_plan_is_looked_up_once_until_another_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_gpu_name", lambda device: CASE.device)
    asked = CASE.n, CASE.d, CASE.m, torch.float32, torch.device("cuda", 0)
    monkeypatch.setattr(tuned_plans.fused, "triton_runs_on", lambda device: True)
    assert plan_on_gpu(*asked) == formula(CASE)
    remember(answer())
    assert plan_on_gpu(*asked) == Plan(24)
    with monkeypatch.context() as patch:
        patch.setattr(tuned_plans, "best_known", None)  # it is not asked again
        assert plan_on_gpu(*asked) == Plan(24)
    clear_tuned()
    assert plan_on_gpu(*asked) == formula(CASE)


def test_a_gpu_that_triton_is_not_for_takes_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_gpu_name", lambda device: CASE.device)
    monkeypatch.setattr(tuned_plans.fused, "triton_runs_on", lambda device: False)
    asked = CASE.n, CASE.d, CASE.m, torch.float32, torch.device("cuda", 0)
    assert plan_on_gpu(*asked).sweep == "torch"
