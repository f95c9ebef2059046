"""Measuring: the plan on a clock of our own, statistics, the gate, and the probes."""

import gc
import itertools
import math
import os
import random
import statistics as stdlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from svdbench.measure.clock import EventClock, WallClock, clock_of, timed
from svdbench.measure.gate import allowance, check, reference_of
from svdbench.measure.l2 import emptier
from svdbench.measure.plan import Plan, measure
from svdbench.measure.probe import (
    Neighbours,
    copy_rate,
    least_bytes,
    matmul_rate,
    peak_bytes,
    rates_of,
)
from svdbench.measure.statistics import (
    median_interval,
    quartiles,
    relative_halfwidth,
    summarise,
)
from svdbench.measure.step import Contender, failure
from svdbench.orthogonal.base import Flops, Method, Problem
from svdbench.orthogonal.registry import load_method, method_names

# Timings of a shared machine are no failures.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# ------------------------------------------------------------------ a clock and contenders


class FakeClock:
    """Time that passes only by work, and can be read only after a sync, as on a GPU."""

    def __init__(self) -> None:
        self.time = 0.0
        self.queued = 0.0

    def stamp(self) -> float:
        return self.time + self.queued

    def sync(self) -> None:
        self.time, self.queued = self.time + self.queued, 0.0

    def seconds(self, start: float, end: float) -> float:
        assert start <= end <= self.time, "read before the device was there"
        return end - start

    def work(self, seconds: float) -> None:
        self.queued += seconds


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
    outcome = measure([contender(clock, "a", 1.0)], Plan(budget_s=10), clock)["a"]
    assert {(s.fwd_s, s.bwd_s, s.step_s) for s in outcome.samples} == {(0.25, 0.75, 1.0)}


def test_everything_is_warm_before_anything_is_timed() -> None:
    clock, log = FakeClock(), []
    names = ["a", "b", "c"]
    first: list[int] = []
    measure(
        [contender(clock, name, 1.0, log) for name in names],
        Plan(warmup_reps=3),
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

    outcome = measure([contender(clock, "a", 1.0, log, prepare)], Plan(), clock)["a"]
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
    outcome = measure([replace(bare, before=before)], Plan(), clock)["a"]
    assert log[::2] == ["before"] * (len(log) // 2)
    assert log[1::2] == ["a"] * (2 + len(outcome.samples))
    assert {s.step_s for s in outcome.samples} == {1.0}


def test_when_all_time_is_up_everybody_stops_and_too_few_repetitions_are_no_result() -> None:
    clock = FakeClock()
    plan = Plan(budget_s=2.0, min_reps=3, max_reps=6, warmup_reps=1)
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
            assert outcome.reason == (
                "the time for everything was up after 2 of at least 3 repetitions"
            )


def test_nothing_begins_without_time() -> None:
    clock, log = FakeClock(), []
    outcomes = measure([contender(clock, "a", 1.0, log)], Plan(), clock, left=lambda: 0.0)
    assert outcomes["a"].status == "skipped"
    assert log == []


def test_everyone_has_a_turn_in_each_of_the_first_rounds_in_changing_order() -> None:
    clock, log = FakeClock(), []
    plan = Plan(budget_s=4.0, warmup_reps=1)  # a slice of .1 s: one repetition a turn
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
        measure([contender(clock, n, 1.0, log) for n in "abcd"], Plan(seed=seed), clock)
        return log

    assert order(1) == order(1) != order(2)


def test_a_slow_contender_takes_nothing_from_a_fast_one() -> None:
    plan = Plan(budget_s=4.0)  # shares of 2 s, slices of .2 s
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
    samples = measure([contender(clock, "a", steps)], Plan(max_reps=200), clock)["a"].samples
    assert [s.round for s in samples] == [r for r in range(10) for _ in range(20)]


def test_the_precise_leave_and_the_others_go_on() -> None:
    clock = FakeClock()
    outcomes = measure(
        [contender(clock, "steady", 1.0), contender(clock, "noisy", alternating(0.5, 1.5))],
        Plan(budget_s=20.0),
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
        Plan(budget_s=20.0, precision=1e-9, max_reps=10_000),
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
    plan = Plan(budget_s, min_reps, min_reps + more)
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
        [contender(clock, "slow", 41.0, log), contender(clock, "fast", 1.0)], Plan(), clock
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
    outcome = measure([contender(clock, "a", steps)], Plan(budget_s=1), clock)["a"]
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
    outcomes = measure([bad, contender(clock, "good", 1.0)], Plan(budget_s=1), clock)
    assert outcomes["bad"].status == "failed"
    assert outcomes["bad"].reason == "ValueError: first line"
    assert len(outcomes["bad"].samples) == (2 if where == "round" else 0)
    assert len(outcomes["good"].samples) == 5


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MemoryError(), "oom", "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom", None),
        (RuntimeError("x: can't allocate memory: you tried to allocate 8 bytes"), "oom", None),
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
        measure([ctrl_c], Plan(), clock, on_sample=lambda name, sample: seen.append(name))
    assert seen == ["a"] * 3
    assert gc.isenabled()


def test_what_a_callback_raises_is_not_the_contenders_fault() -> None:
    clock = FakeClock()

    def disk_full(*_: Any) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        measure([contender(clock, "a", 1.0)], Plan(), clock, on_sample=disk_full)


@pytest.mark.parametrize("before", [True, False])
def test_garbage_collection_rests_during_a_repetition_only(before: bool) -> None:
    inside: set[bool] = set()
    between: set[bool] = set()
    bare = Contender("a", lambda: inside.add(gc.isenabled()), lambda _: inside.add(gc.isenabled()))
    try:
        (gc.enable if before else gc.disable)()
        measure([bare], Plan(), FakeClock(), on_sample=lambda *_: between.add(gc.isenabled()))
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
    outcome = measure([costly], Plan(), clock)["a"]
    assert outcome.status == "ok"
    assert set(outcome.steps_s()) == {0.0}


def test_progress_goes_from_warm_up_to_the_last_round() -> None:
    clock, told = FakeClock(), []
    measure(
        [contender(clock, "a", 1.0)],
        Plan(budget_s=1),
        clock,
        on_progress=lambda fraction, doing: told.append((fraction, doing)),
    )
    assert told[0] == (0.0, "warm-up: a")
    assert told[-1] == (0.4, "round 5: a")


def test_nobody_and_namesakes() -> None:
    clock = FakeClock()
    assert measure([], Plan(), clock) == {}
    with pytest.raises(ValueError, match="same name: rename"):
        measure([contender(clock, "a", 1.0)] * 2, Plan(), clock)


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
        Plan(**wrong)
    assert "set it" in str(refused.value)
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------ statistics

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


@relaxed
@given(TIMES)
def test_quartiles_and_median_are_numpys(values: list[float]) -> None:
    summary = summarise(values)
    expected = np.quantile(values, [0.25, 0.5, 0.75])
    assert [summary.q25, summary.median, summary.q75] == pytest.approx(expected, rel=1e-12)
    assert summary.reps == len(values)


@relaxed
@given(TIMES, st.randoms(use_true_random=False))
def test_the_interval_holds_the_median_and_knows_no_order(
    values: list[float], shuffler: random.Random
) -> None:
    low, high = median_interval(values)
    assert low <= stdlib.median(values) <= high
    mixed = values[:]
    shuffler.shuffle(mixed)
    assert median_interval(mixed) == (low, high)
    assert (low == -math.inf) == (len(values) < 6)


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (100, 40), (2000, 956)])
def test_the_interval_against_published_ranks(n: int, rank: int) -> None:
    # For small n the usual tables of the sign test, for n = 2000 the normal approximation.
    assert median_interval(range(1, n + 1)) == (rank, n + 1 - rank)


@pytest.mark.parametrize("n", [6, 7, 25, 101])
def test_the_interval_covers_as_promised_and_no_narrower_one_does(n: int) -> None:
    k = int(median_interval(range(1, n + 1))[0])

    def coverage(rank: int) -> float:
        return 1 - 2 * sum(math.comb(n, i) for i in range(rank)) / 2**n

    assert coverage(k) >= 0.95 > coverage(k + 1)


def test_relative_halfwidth() -> None:
    assert relative_halfwidth([1.0] * 5) == math.inf  # too few to know
    assert relative_halfwidth([1.0] * 6) == 0.0
    assert relative_halfwidth([0.0] * 6) == 0.0
    assert relative_halfwidth([0.0] * 5 + [1.0]) == math.inf
    assert relative_halfwidth([9.0, 10.0, 10.0, 10.0, 10.0, 11.0]) == pytest.approx(0.1)


def test_no_values_have_no_summary() -> None:
    with pytest.raises(ValueError, match="measure at least one"):
        quartiles([])


# ------------------------------------------------------------------ the gate


class Scale(torch.autograd.Function):
    """The identity, but for the factors put on the value and on the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float, gradient: float) -> Tensor:
        ctx.gradient = gradient
        return x * value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return g * ctx.gradient, None, None


class Cayley(Method):
    """A small real method that can be given faults."""

    kind, builds, gradients, source = "cayley", "QX", "torch's", "this test"
    output = grad_V = grad_X = 1.0

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        V, X = Scale.apply(V, 1.0, self.grad_V), Scale.apply(X, 1.0, self.grad_X)
        S = V - V.mT
        QX = torch.linalg.solve(torch.eye(len(S), dtype=S.dtype) + S, X - S @ X)
        return Scale.apply(QX, self.output, 1.0)

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        S, one = V - V.mT, torch.eye(len(V), dtype=V.dtype)
        return torch.linalg.inv(one + S) @ (one - S) @ X

    def flops(self, problem: Problem) -> Flops:
        return Flops(0.0, 0.0)


def inputs(d: int, n: int, m: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    random_numbers = torch.Generator().manual_seed(d * n * m)
    shapes = (n, d), (d, m), (d, m)
    V, X, G = (torch.randn(shape, generator=random_numbers).to(dtype) for shape in shapes)
    return V, X, G


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", method_names())
def test_healthy_methods_pass_with_room_to_spare(name: str, dtype: torch.dtype) -> None:
    for d, n, m in [(64, 64, 32), (8, 40, 16), (16, 3, 1)]:
        method, (V, X, G) = load_method(name), inputs(d, n, m, dtype)
        if reason := method.skip(Problem(d, n, m, dtype)):
            assert reason
            continue
        if hasattr(method, "tune"):
            method.tune = False  # which takes seconds, and is not the matter here
        V = method.parameter(V)
        method.prepare(V, X)
        verdict = check(method, V, X, G, factor=1 / 4)
        assert verdict.ok, verdict.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("d", [1, 2, 16, 64, 512])
@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("output", ("error", "orthogonality")),
        ("grad_V", ("grad_V_error",)),
        ("grad_X", ("grad_X_error",)),
    ],
)
def test_one_per_cent_wrong_is_red(
    fault: str, names: tuple[str, ...], d: int, dtype: torch.dtype
) -> None:
    method, (V, X, G) = Cayley(), inputs(d, d, 32, dtype)
    reference = reference_of(method, V, X, G)
    assert check(method, V, X, G, reference=reference).ok
    if d == 1 and fault == "grad_V":
        pytest.skip("φ is constant in one dimension")
    setattr(method, fault, 1.01)
    verdict = check(method, V, X, G, reference=reference)
    assert not verdict.ok
    assert verdict.reason.startswith(names)
    assert "\n" not in verdict.reason


def test_the_largest_allowance_still_shows_one_per_cent() -> None:
    assert allowance(torch.float32, 10**6) == 0.005
    assert allowance(torch.float32, 64) == pytest.approx(64 * 64 * 2**-23)
    assert allowance(torch.bfloat16, 10**6) == 0.25


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_passes_when_healthy_and_fails_when_a_term_is_lost(
    dtype: torch.dtype,
) -> None:
    class Half(Cayley):
        def apply(self, V: Tensor, X: Tensor) -> Tensor:
            return super().apply(V.float(), X.float()).to(dtype)

    method, (V, X, G) = Half(), inputs(64, 64, 32, dtype)
    assert check(method, V, X, G, factor=1 / 4).ok
    method.grad_V = 0.5
    assert not check(method, V, X, G).ok


def test_what_is_not_finite_is_red() -> None:
    method, (V, X, G) = Cayley(), inputs(8, 8, 4, torch.float32)
    method.output = math.nan
    verdict = check(method, V, X, G)
    assert not verdict.ok
    assert verdict.error == verdict.orthogonality == math.inf
    assert verdict.reason.startswith("error is not finite")
    method.output, method.grad_X = 1.0, math.inf
    assert check(method, V, X, G).reason.startswith("grad_X_error is not finite")


def test_a_gradient_that_never_arrives_is_red() -> None:
    class Detached(Cayley):
        def apply(self, V: Tensor, X: Tensor) -> Tensor:
            return super().apply(V.detach(), X)

    verdict = check(Detached(), *inputs(8, 8, 4, torch.float32))
    assert verdict.grad_V_error == 1.0
    assert not verdict.ok


def test_a_wrong_shape_is_red() -> None:
    class Wide(Cayley):
        def apply(self, V: Tensor, X: Tensor) -> Tensor:
            return super().apply(V, X).flatten()

    verdict = check(Wide(), *inputs(8, 8, 4, torch.float32))
    assert not verdict.ok
    assert verdict.reason == "the output has shape (32,) instead of (8, 4)"


def test_a_reference_is_computed_once_and_the_inputs_stay_as_they_are() -> None:
    class Counting(Cayley):
        calls = 0

        def reference(self, V: Tensor, X: Tensor) -> Tensor:
            self.calls += 1
            assert V.dtype == torch.float64
            return super().reference(V, X)

    method, tensors = Counting(), inputs(8, 8, 4, torch.float32)
    copies = [tensor.clone() for tensor in tensors]
    reference = reference_of(method, *tensors)
    first, second = (check(method, *tensors, reference=reference) for _ in range(2))
    assert first == second
    assert method.calls == 1
    assert not any(tensor.requires_grad for tensor in tensors)
    assert all(map(torch.equal, tensors, copies))


# ------------------------------------------------------------------ probes


class TickingClock(FakeClock):
    """Each reading is ``tick`` later than the one before."""

    def __init__(self, tick: float) -> None:
        super().__init__()
        self.tick = tick

    def stamp(self) -> float:
        self.time += self.tick
        return self.time


@pytest.mark.parametrize(("tick", "used"), [(1 / 8, 256), (1 / 1024, 512), (1 / 32, 256)])
def test_matmul_rate_takes_the_largest_size_that_the_budget_allows(tick: float, used: int) -> None:
    rate = matmul_rate(torch.float32, "cpu", TickingClock(tick), size=512)
    assert rate == 2 * used**3 / tick


def test_matmul_rate_on_this_machine_is_a_rate() -> None:
    rate = matmul_rate(torch.float32, "cpu", WallClock(), size=256, budget_s=0.02)
    assert 1e6 < rate < 1e16


def test_copy_rate_counts_what_is_read_and_what_is_written() -> None:
    rate = copy_rate("cpu", TickingClock(1 / 8), size_bytes=4096, budget_s=1.0)
    assert rate == 2 * 4096 * 8


def test_both_rates_of_this_machine() -> None:
    rates = rates_of(torch.float32, "cpu", WallClock())
    assert 1e6 < rates.matmul < 1e16
    assert 1e6 < rates.copy < 1e14


def test_the_floor_is_twelve_ndm() -> None:
    floor = load_method("fasth").floor(Problem(n=2, d=3, m=5))
    assert floor is not None
    assert (floor.forward, floor.backward, floor.step) == (120, 240, 360)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_least_bytes_are_every_tensor_once_a_pass(dtype: torch.dtype, size: int) -> None:
    n, d, m = 2, 3, 5
    V, X = torch.empty(n, d, dtype=dtype), torch.empty(d, m, dtype=dtype)
    forward, backward = (V, X, X), (V, X, X, V, X)  # out is like X; G, dV and dX
    moved = [sum(t.nbytes for t in tensors) for tensors in (forward, backward)]
    assert least_bytes(n, d, m, dtype) == {
        "fwd": moved[0],
        "bwd": moved[1],
        "step": sum(moved),
    }
    assert moved[0] == (6 + 2 * 15) * size


@pytest.mark.parametrize(("L2", "size"), [({"L2_cache_size": 1000}, 2000), ({}, 256 << 20)])
def test_the_cache_is_overwritten_twice(
    L2: dict[str, int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = torch.ones(8, dtype=torch.uint8)
    asked: list[int] = []

    def empty(numbers: int, **options: Any) -> Tensor:
        asked.append(numbers * options["dtype"].itemsize)
        return buffer

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(**L2))
    monkeypatch.setattr(torch, "empty", empty)
    overwrite = emptier("cuda")
    assert asked == [size]
    assert buffer.all()
    overwrite()
    assert not buffer.any()


def test_peak_of_a_product_is_its_result() -> None:
    a = torch.randn(200, 300)
    peak_bytes(lambda: a @ a.mT)  # the first call may set up a library
    assert peak_bytes(lambda: a @ a.mT) == 200 * 200 * 4


def test_peak_sees_temporaries_of_both_passes_but_not_their_sum() -> None:
    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            torch.empty(1 << 20, dtype=torch.uint8)
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            torch.empty(3 << 20, dtype=torch.uint8)
            torch.empty(2 << 20, dtype=torch.uint8)
            return g * 2

    x = torch.ones(1000, requires_grad=True)
    held = torch.empty(1 << 24, dtype=torch.uint8)  # there before: not counted
    peak = peak_bytes(lambda: torch.autograd.grad(Step.apply(x), x, torch.ones(1000)))
    del held
    assert peak is not None
    assert 3 << 20 <= peak <= (3 << 20) + 5 * 4000


def test_peak_is_quiet_and_admits_what_it_does_not_know(capfd: pytest.CaptureFixture[str]) -> None:
    assert peak_bytes(lambda: None) is None
    assert peak_bytes(lambda: None, "meta") is None
    assert capfd.readouterr() == ("", "")


def test_the_wall_clock_goes_forward() -> None:
    clock = clock_of("cpu")
    assert isinstance(clock, WallClock)
    before = clock.stamp()
    clock.sync()
    assert clock.seconds(before, clock.stamp()) >= 0
    assert timed(clock, lambda: None) >= 0


def test_the_event_clock_marks_the_stream_and_is_read_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            log.append(stream)
            self.number = len(log)

        def elapsed_time(self, later: "Event") -> float:
            assert log[-1] == "done"
            return 250.0 * (later.number - self.number)  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("done"))
    clock = clock_of("cuda:1")
    assert isinstance(clock, EventClock)
    assert timed(clock, lambda: log.append("work")) == 0.5
    assert log == ["done", "stream of cuda:1", "work", "stream of cuda:1", "done"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_waits_and_counts() -> None:
    a = torch.randn(4096, 4096, device="cuda")
    clock = WallClock("cuda")
    a @ a
    clock.sync()
    assert torch.cuda.current_stream().query()  # nothing is left to do
    assert peak_bytes(lambda: a + 1, "cuda") == 4096 * 4096 * 4
    assert timed(EventClock(), lambda: a @ a) > 0
    emptier("cuda")()


def test_neighbours_are_what_others_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat, tick = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    times = iter([(0.0, 0.0, 0.0), (1.0, 0.5, 10.0)])  # user, system, elapsed

    def own_times() -> SimpleNamespace:
        user, system, elapsed = next(times)
        return SimpleNamespace(user=user, system=system, elapsed=elapsed)

    monkeypatch.setattr("svdbench.measure.probe.os.times", own_times)
    stat.write_text(f"cpu {100 * tick} 0 0 5 5 0 0 0 0 0\n")
    neighbours = Neighbours(stat)
    stat.write_text(f"cpu {108 * tick} 0 {tick} 9 9 0 0 0 0 0\n")
    assert neighbours.cores() == pytest.approx((9 - 1.5) / 10)
    assert Neighbours(tmp_path / "none").cores() is None
