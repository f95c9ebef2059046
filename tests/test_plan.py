"""The plan of a measurement, on a clock of our own: turns, budgets, failures, callbacks."""

import gc
import itertools
import math
import random
import statistics as stdlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fake_clock import FakeClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svdbench.measure.plan import Contender, TimingPlan, failure, measure

# Timings of a shared machine are no failures.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def contender(
    clock: FakeClock,
    name: str,
    steps: float | Iterable[float],
    log: list[str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Contender:
    """A quarter of each step is forward; binary fractions keep every sum exact."""
    seconds = itertools.repeat(steps) if isinstance(steps, (int, float)) else iter(steps)

    def forward() -> float:
        if log is not None:
            log.append(name)
        step = next(seconds)
        clock.work(step / 4)
        return step

    return Contender(name, forward, lambda step: clock.work(step * 3 / 4), prepare)


def alternating(low: float, high: float) -> Iterable[float]:
    """Steps that are never precise."""
    return itertools.cycle((low, high))


def raising(error: BaseException, after: int) -> Callable[[], Any]:
    calls = itertools.count()

    def run() -> None:
        if next(calls) >= after:
            raise error

    return run


# ------------------------------------------------------------------ the plan


def test_forward_and_backward_are_read_apart_and_after_a_sync() -> None:
    clock = FakeClock()
    outcome = measure([contender(clock, "a", 1.0)], TimingPlan(budget_s=10), clock)["a"]
    assert {(s.fwd_s, s.bwd_s, s.step_s) for s in outcome.samples} == {(0.25, 0.75, 1.0)}


def test_everything_is_warm_before_anything_is_timed() -> None:
    clock, log = FakeClock(), []
    names = ["a", "b", "c"]
    first: list[int] = []
    measure(
        [contender(clock, name, 1.0, log) for name in names],
        TimingPlan(warmup_reps=3),
        clock,
        on_sample=lambda name, sample: first.append(len(log)),
    )
    assert log[:9] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert first[0] == 10


def test_prepare_runs_once_before_the_warm_up_and_is_not_timed() -> None:
    clock, log = FakeClock(), []

    def prepare() -> None:
        log.append("prepare")
        clock.work(1000.0)

    outcome = measure([contender(clock, "a", 1.0, log, prepare)], TimingPlan(), clock)["a"]
    assert log.count("prepare") == 1
    assert log[0] == "prepare"
    assert outcome.status == "ok"
    assert {s.step_s for s in outcome.samples} == {1.0}


def test_before_runs_ahead_of_every_repetition_and_is_not_timed() -> None:
    clock, log = FakeClock(), []

    def before() -> None:
        log.append("before")
        clock.work(1000.0)

    bare = contender(clock, "a", 1.0, log)
    outcome = measure([replace(bare, before=before)], TimingPlan(), clock)["a"]
    assert log[::2] == ["before"] * (len(log) // 2)
    assert log[1::2] == ["a"] * (2 + len(outcome.samples))
    assert {s.step_s for s in outcome.samples} == {1.0}


def test_when_all_time_is_up_everybody_stops_and_too_few_repetitions_are_no_result() -> None:
    clock = FakeClock()
    plan = TimingPlan(budget_s=2.0, min_reps=3, max_reps=6, warmup_reps=1)
    names = ["a", "b", "c"]
    contenders = [contender(clock, name, 1.0) for name in names]
    outcomes = measure(contenders, plan, clock, left=lambda: 9.5 - clock.time)
    # Three seconds of warm-up, then rounds of three seconds each: the third is cut.
    assert sorted(len(outcomes[name].samples) for name in names) == [2, 2, 3]
    for outcome in outcomes.values():
        if len(outcome.samples) == 3:
            assert outcome.status == "ok"
        else:
            assert outcome.status == "skipped"
            assert outcome.reason == ("the time budget ran out after 2 of at least 3 repetitions")


def test_nothing_begins_without_time() -> None:
    clock, log = FakeClock(), []
    outcomes = measure([contender(clock, "a", 1.0, log)], TimingPlan(), clock, left=lambda: 0.0)
    assert outcomes["a"].status == "skipped"
    assert log == []


def test_everyone_has_a_turn_in_each_of_the_first_rounds_in_changing_order() -> None:
    clock, log = FakeClock(), []
    plan = TimingPlan(budget_s=4.0, warmup_reps=1)  # a slice of .1 s: one repetition a turn
    outcomes = measure([contender(clock, name, 1.0, log) for name in "abcd"], plan, clock)
    turns = [tuple(log[i : i + 4]) for i in range(4, len(log), 4)]
    assert len(turns) == 5
    assert all(sorted(turn) == list("abcd") for turn in turns)
    assert len(set(turns)) > 1
    for outcome in outcomes.values():
        assert [s.round for s in outcome.samples] == [0, 1, 2, 3, 4]


def test_the_order_is_drawn_from_the_seed() -> None:
    def order(seed: int) -> list[str]:
        clock, log = FakeClock(), []
        measure([contender(clock, n, 1.0, log) for n in "abcd"], TimingPlan(seed=seed), clock)
        return log

    assert order(1) == order(1) != order(2)


def test_a_slow_contender_takes_nothing_from_a_fast_one() -> None:
    plan = TimingPlan(budget_s=4.0)  # shares of 2 s, slices of .2 s
    for company in (8.0, 0.25):
        clock = FakeClock()
        fast = contender(clock, "fast", alternating(1 / 64, 3 / 64))
        outcomes = measure([contender(clock, "slow", company), fast], plan, clock)
        # Turns of 7 steps take 13/64 and 15/64 s in turn: ten of them pass 2 s, nine don't.
        assert [s.round for s in outcomes["fast"].samples] == [
            r for r in range(10) for _ in "7777777"
        ]
        # Min_reps, though they overrun the share; or else six, the least that is precise.
        assert len(outcomes["slow"].samples) == (5 if company == 8.0 else 6)


def test_a_burst_leaves_repetitions_for_every_round() -> None:
    clock = FakeClock()
    steps = alternating(2**-20, 3 * 2**-20)
    samples = measure([contender(clock, "a", steps)], TimingPlan(max_reps=200), clock)["a"].samples
    assert [s.round for s in samples] == [r for r in range(10) for _ in range(20)]


def test_the_precise_leave_and_the_others_go_on() -> None:
    clock = FakeClock()
    outcomes = measure(
        [contender(clock, "steady", 1.0), contender(clock, "noisy", alternating(0.5, 1.5))],
        TimingPlan(budget_s=20.0),
        clock,
    )
    # Slices of 1 s. Below six repetitions nothing is known of the median.
    assert len(outcomes["steady"].samples) == 6
    # Turns of .5 + 1.5 s: five rounds for everyone, and by then the share is gone.
    assert sum(outcomes["noisy"].steps_s()) == 10.0


def test_drift_hits_everyone_alike() -> None:
    clock = FakeClock()

    def drifting(cost: float) -> Iterable[float]:
        while True:  # a machine that becomes ten times slower within the budget
            yield cost * (1 + 9 * clock.time / 20)

    outcomes = measure(
        [contender(clock, "one", drifting(0.01)), contender(clock, "two", drifting(0.02))],
        TimingPlan(budget_s=20.0, precision=1e-9, max_reps=10_000),
        clock,
    )
    one, two = (stdlib.median(outcomes[name].steps_s()) for name in ("one", "two"))
    assert two / one == pytest.approx(2, rel=0.1)


@relaxed
@given(
    st.integers(1, 8),
    st.integers(0, 40),
    st.floats(0.01, 50),
    st.lists(st.floats(0.001, 20), min_size=1, max_size=5),
)
def test_repetitions_stay_within_the_plan(
    min_reps: int, more: int, budget_s: float, costs: list[float]
) -> None:
    clock = FakeClock()
    plan = TimingPlan(budget_s, min_reps, min_reps + more)
    noise = random.Random(0)
    entries = [
        contender(clock, str(i), (cost * noise.uniform(0.5, 1.5) for _ in itertools.count()))
        for i, cost in enumerate(costs)
    ]
    for outcome in measure(entries, plan, clock).values():
        steps_s = outcome.steps_s()
        assert outcome.status == "ok"
        assert min_reps <= len(steps_s) <= min_reps + more
        rounds = [s.round for s in outcome.samples]
        assert rounds == sorted(rounds)
        # After the rounds that are for everyone, nobody begins one with the share used up.
        last = sum(t for t, r in zip(steps_s, rounds, strict=True) if r < rounds[-1])
        assert rounds[-1] < min_reps or last < budget_s / len(costs)


def test_a_step_over_the_limit_is_a_timeout_and_the_last_one() -> None:
    clock, log = FakeClock(), []
    outcomes = measure(
        [contender(clock, "slow", 41.0, log), contender(clock, "fast", 1.0)], TimingPlan(), clock
    )
    assert outcomes["slow"].status == "timeout"
    assert outcomes["slow"].reason == (
        "one step took 41 s, the limit is 30 s (raise it with measure.timeout_s=…)"
    )
    assert log == ["slow"]
    assert outcomes["fast"].status == "ok"


def test_a_timeout_in_a_later_round_keeps_the_samples() -> None:
    clock = FakeClock()
    steps = itertools.chain([1.0] * 5, itertools.repeat(41.0))
    outcome = measure([contender(clock, "a", steps)], TimingPlan(budget_s=1), clock)["a"]
    assert (outcome.status, len(outcome.samples)) == ("timeout", 3)


@pytest.mark.parametrize("where", ["prepare", "warm-up", "round"])
def test_what_a_contender_raises_ends_its_own_part_only(where: str) -> None:
    clock = FakeClock()
    after = {"prepare": 0, "warm-up": 1, "round": 4}[where]
    error = ValueError("first line\nsecond line")
    run = raising(error, after)
    bad = Contender("bad", run, lambda _: None)
    if where == "prepare":
        bad = Contender("bad", lambda: None, lambda _: None, run)
    outcomes = measure([bad, contender(clock, "good", 1.0)], TimingPlan(budget_s=1), clock)
    assert outcomes["bad"].status == "failed"
    assert outcomes["bad"].reason == "ValueError: first line"
    assert len(outcomes["bad"].samples) == (2 if where == "round" else 0)
    assert len(outcomes["good"].samples) == 5


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MemoryError(), "oom", "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom", "not enough GPU memory"),
        (
            RuntimeError("x: can't allocate memory: you tried to allocate 8 bytes"),
            "oom",
            "not enough memory for 8 bytes",
        ),
        (RuntimeError("shapes differ\nat line 3"), "failed", "RuntimeError: shapes differ"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
    ],
)
def test_failures_by_kind(error: Exception, status: str, reason: str | None) -> None:
    got = failure(error)
    assert got[0] == status
    assert "\n" not in got[1]
    assert reason is None or got[1] == reason


def test_the_cpu_allocator_refusing_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert failure(refused.value)[0] == "oom"


def test_an_interruption_loses_no_sample() -> None:
    clock, seen = FakeClock(), []
    ctrl_c = Contender("a", raising(KeyboardInterrupt(), after=5), lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        measure([ctrl_c], TimingPlan(), clock, on_sample=lambda name, sample: seen.append(name))
    assert seen == ["a"] * 3
    assert gc.isenabled()


def test_what_a_callback_raises_is_not_the_contenders_fault() -> None:
    clock = FakeClock()

    def disk_full(*_: Any) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        measure([contender(clock, "a", 1.0)], TimingPlan(), clock, on_sample=disk_full)


@pytest.mark.parametrize("before", [True, False])
def test_garbage_collection_rests_during_a_repetition_only(before: bool) -> None:
    inside: set[bool] = set()
    between: set[bool] = set()
    bare = Contender("a", lambda: inside.add(gc.isenabled()), lambda _: inside.add(gc.isenabled()))
    try:
        (gc.enable if before else gc.disable)()
        measure([bare], TimingPlan(), FakeClock(), on_sample=lambda *_: between.add(gc.isenabled()))
        between.add(gc.isenabled())
    finally:
        gc.enable()
    assert inside == {False}
    assert between == {before}


def test_results_are_given_back_only_after_the_clock_is_read() -> None:
    clock = FakeClock()

    class Costly:
        def __del__(self) -> None:
            clock.time += 100.0

    costly = Contender("a", Costly, lambda _: Costly())
    outcome = measure([costly], TimingPlan(), clock)["a"]
    assert outcome.status == "ok"
    assert set(outcome.steps_s()) == {0.0}


def test_progress_goes_from_warm_up_to_the_last_round() -> None:
    clock, told = FakeClock(), []
    measure(
        [contender(clock, "a", 1.0)],
        TimingPlan(budget_s=1),
        clock,
        on_progress=lambda fraction, doing: told.append((fraction, doing)),
    )
    assert told[0] == (0.0, "warm-up: a")
    assert told[-1] == (0.4, "round 5: a")


def test_nobody_and_namesakes() -> None:
    clock = FakeClock()
    assert measure([], TimingPlan(), clock) == {}
    with pytest.raises(ValueError, match="same name: rename"):
        measure([contender(clock, "a", 1.0)] * 2, TimingPlan(), clock)


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget_s": 0.0},
        {"budget_s": math.nan},
        {"min_reps": 0},
        {"min_reps": 9, "max_reps": 8},
        {"precision": -0.1},
        {"warmup_reps": 0},
        {"timeout_s": 0},
    ],
)
def test_plans_that_make_no_sense_say_so_in_a_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        TimingPlan(**wrong)
    assert "set it" in str(refused.value)
    assert "\n" not in str(refused.value)
