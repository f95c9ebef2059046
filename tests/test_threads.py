"""How many threads a job takes: as many as a short product is fastest with."""

import pytest
import torch
from fake_clock import FakeClock

from svdbench.measure import machine
from svdbench.measure.machine import fastest_threads, seconds_by_threads


@pytest.fixture(autouse=True)
def four() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("took", "best"),
    [
        ({4: 1.0, 2: 1.8, 1: 3.5}, 4),
        ({4: 9.0, 2: 5.0, 1: 2.0}, 1),
        ({4: 9.0, 2: 1.0, 1: 2.0}, 2),
        ({4: 1.0, 2: 0.95, 1: 0.97}, 4),
    ],
)
def test_takes_as_many_as_are_fastest(
    took: dict[int, float], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "seconds_by_threads", lambda *args: took)
    with fastest_threads(None, "cpu") as said:
        assert torch.get_num_threads() == best
    assert said.startswith(f"threads: {best} of 4" if best != 4 else "")
    assert bool(said) == (best != 4)


def test_what_is_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "seconds_by_threads", None)
    for asked, device in ((4, "cpu"), (None, "cuda")):
        with fastest_threads(asked, device) as said:
            assert (said, torch.get_num_threads()) == ("", 4)


def test_means_count_what_is_rare() -> None:
    clock, waits = FakeClock(), iter([0.0, 0.0, 8.0, 0.0, 0.0, 0.0])

    def step() -> None:
        clock.work(1.0 if torch.get_num_threads() == 1 else 0.5 + next(waits))

    assert seconds_by_threads(step, [2, 1], clock, rounds=4) == {2: 2.5, 1: 1.0}
