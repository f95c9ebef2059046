"""One step of gradient descent, timed once: what runs, what is read, what can go wrong."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from svdbench.errors import out_of_memory
from svdbench.measure.clock import Clock


@dataclass(frozen=True)
class Contender:
    """One step of gradient descent to be timed: ``backward(forward())``.

    ``backward`` gets what ``forward`` returned, and returns the gradients rather
    than adding them up. Untimed, ``prepare`` runs once, before the first warm-up, and
    ``before`` ahead of every repetition; the device need not be done with it in time.
    """

    name: str
    forward: Callable[[], Any]
    backward: Callable[[Any], Any]
    prepare: Callable[[], None] | None = None
    before: Callable[[], None] | None = None


@dataclass(frozen=True)
class Sample:
    """One timed repetition, in seconds; ``round`` counts from 0."""

    round: int
    fwd_s: float
    bwd_s: float

    @property
    def step_s(self) -> float:
        return self.fwd_s + self.bwd_s


@dataclass
class Outcome:
    """What became of a contender: ``ok``, ``oom``, ``timeout`` or ``failed``, and why."""

    status: str = "ok"
    reason: str = ""
    samples: list[Sample] = field(default_factory=list)

    def steps_s(self) -> list[float]:
        """The time of each step so far, in seconds."""
        return [sample.step_s for sample in self.samples]


def repeat(
    contender: Contender, outcome: Outcome, clock: Clock, timeout_s: float
) -> tuple[float, float] | None:
    """The seconds of one forward and one backward, or None and ``outcome`` no longer ok."""
    collecting = gc.isenabled()
    gc.disable()  # only meanwhile, so that a contender's cycles don't pile up
    try:
        clock.sync()
        if contender.before is not None:
            contender.before()
        start = clock.stamp()
        output = contender.forward()
        middle = clock.stamp()
        gradients = contender.backward(output)
        end = clock.stamp()
        clock.sync()
        fwd_s, bwd_s = clock.seconds(start, middle), clock.seconds(middle, end)
        del output, gradients  # held until here: giving memory back is not part of the step
    except Exception as error:
        outcome.status, outcome.reason = failure(error)
        return None
    finally:
        if collecting:
            gc.enable()
    if fwd_s + bwd_s > timeout_s:
        outcome.status = "timeout"
        outcome.reason = (
            f"one step took {fwd_s + bwd_s:.3g} s, the limit is {timeout_s:.3g} s "
            "(raise it with measure.timeout_s=…)"
        )
        return None
    return fwd_s, bwd_s


def failure(error: Exception) -> tuple[str, str]:
    """The status (``oom`` or ``failed``) and the one-line reason that an exception stands for."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return "oom" if out_of_memory(error) else "failed", reason
