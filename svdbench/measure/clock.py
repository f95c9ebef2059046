"""The clocks that everything timed reads.

One is passed in, never imported where it is used, so that the tests can hand over a
clock of their own and check the stopping rule exactly, without sleeping.

A clock hands out *stamps*, and says how far apart two of them are once the device has
reached both: a GPU's own time is not known any sooner. ``WallClock`` measures what a
user waits for, who calls and then looks at the result; ``EventClock`` what the device
is busy with, from the first operation to the last with the gaps between them, but
without the waiting for an answer. Jobs time a CPU by the first and CUDA by the second.
``ProcessClock`` is for trainings that get equal seconds on a machine that is not theirs alone.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """What a measurement asks of time."""

    def stamp(self) -> Any:
        """Mark this moment: after all the work given so far, before all that comes."""

    def sync(self) -> None:
        """Return once the device has finished all the work it was given."""

    def seconds(self, start: Any, end: Any) -> float:
        """The seconds between two stamps; a ``sync`` must have followed them."""


class WallClock:
    """Real time, as it passes for the user of ``device``."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def stamp(self) -> float:
        self.sync()
        return time.perf_counter()

    def sync(self) -> None:
        # A CUDA call returns when its kernel is queued, not when it is done.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, start: float, end: float) -> float:
        return end - start


class ProcessClock(WallClock):
    """Seconds that this process computes on a CPU, over its threads; real time on a GPU.

    Other work on the machine hardly adds to them, so trainings of equal seconds stay comparable.
    """

    def stamp(self) -> float:
        if self.device.type == "cuda":
            return super().stamp()
        return time.process_time() / torch.get_num_threads()


class EventClock:
    """The time of a CUDA device, by events in the current stream; resolves about a µs."""

    def __init__(self, device: str | torch.device = "cuda") -> None:
        self.device = torch.device(device)

    def stamp(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def sync(self) -> None:
        torch.cuda.synchronize(self.device)

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return start.elapsed_time(end) / 1e3  # which is in milliseconds


def clock_of(device: str | torch.device) -> Clock:
    """The clock by which jobs time ``device``."""
    device = torch.device(device)
    return EventClock(device) if device.type == "cuda" else WallClock(device)


def timed(clock: Clock, work: Callable[[], Any]) -> float:
    """The seconds that ``work`` takes, started on an idle device."""
    clock.sync()
    start = clock.stamp()
    work()
    end = clock.stamp()
    clock.sync()
    return clock.seconds(start, end)
