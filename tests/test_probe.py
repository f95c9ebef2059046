"""Clocks, and probes of the machine: rates, least traffic, peak memory, neighbours."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_clock import FakeClock
from torch import Tensor

from svdbench.measure.algorithm import Problem
from svdbench.measure.clock import EventClock, WallClock, clock_of, timed
from svdbench.measure.machine import (
    Neighbours,
    copy_rate,
    emptier,
    least_bytes,
    matmul_rate,
    peak_bytes,
    rates_of,
)
from svdbench.members import METHODS


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
    floor = METHODS.load("fasth").floor(Problem(n=2, d=3, m=5))
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

    monkeypatch.setattr("svdbench.measure.machine.os.times", own_times)
    stat.write_text(f"cpu {100 * tick} 0 0 5 5 0 0 0 0 0\n")
    neighbours = Neighbours(stat)
    stat.write_text(f"cpu {108 * tick} 0 {tick} 9 9 0 0 0 0 0\n")
    assert neighbours.cores() == pytest.approx((9 - 1.5) / 10)
    assert Neighbours(tmp_path / "none").cores() is None
