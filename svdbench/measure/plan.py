"""Who is measured when: warm-up, interleaving, and the rule that says enough.

Machines drift (heat, neighbours, other users), so contenders measured one after
the other are measured on different machines. Here the time is cut into *rounds*,
and every contender has one *turn* in each round, in an order drawn anew:

* A contender's share is ``budget_s / contenders``, and a turn lasts one slice,
  ``share / rounds``: as many repetitions as start within it, at least one, at
  most ``max_reps / rounds``. The many repetitions of a fast contender and the
  few of a slow one are thus spread over the same stretch of time.
* Everybody stays for the first ``min_reps`` rounds, which are half of them.
* From then on a contender leaves after a round in which it became precise
  enough, reached ``max_reps``, or used up its share.

A slow contender may overrun its share for the sake of ``min_reps`` repetitions;
as the shares are separate, that costs the others nothing. Only where all the time
there is has run out (``left``) does everybody stop at once, and whoever has not got
``min_reps`` repetitions by then has no result.
"""

import gc
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from svdbench.errors import Failed, device_lost, one_line, out_of_memory
from svdbench.measure.clock import Clock
from svdbench.statistics.summaries import relative_halfwidth


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
class TimingOutcome:
    """The outcome of a contender: ``ok``, ``oom``, ``timeout`` or ``failed``, and why."""

    status: str = "ok"
    reason: str = ""
    samples: list[Sample] = field(default_factory=list)

    def steps_s(self) -> list[float]:
        """The time of each step so far, in seconds."""
        return [sample.step_s for sample in self.samples]


def repeat(
    contender: Contender, outcome: TimingOutcome, clock: Clock, timeout_s: float
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
        refuse_lost(contender.name, error)
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


def refuse_lost(name: str, error: Exception) -> None:
    """Raise Failed where a contender left the GPU unusable: the others would seem to fail."""
    if device_lost(error):
        raise Failed(
            f"{name} failed, and the GPU can't be used in this process any more "
            f"({one_line(error)}): leave {name} out, and start or resume the run again"
        ) from error


def failure(error: Exception) -> tuple[str, str]:
    """The status (``oom`` or ``failed``) and the one-line reason that an exception stands for."""
    reason = one_line(error)
    if out_of_memory(error):
        return "oom", reason
    kind = type(error).__name__
    return "failed", kind if reason == kind else f"{kind}: {reason}"


@dataclass(frozen=True)
class TimingPlan:
    """How long and how exactly to measure one cell.

    Attributes:
        budget_s: measuring time for all contenders together, warm-up not counted.
        min_reps: minimum number of repetitions, however long they take.
        max_reps: maximum number of repetitions.
        precision: good enough is a 95 % confidence interval of the step's
            median of ± this fraction.
        warmup_reps: untimed repetitions of each contender before the first round.
        timeout_s: a contender whose step takes longer is given up. A running
            step is not interrupted. What is slow only once belongs in ``prepare``.
        seed: of the order within the rounds.
    """

    budget_s: float = 10.0
    min_reps: int = 5
    max_reps: int = 200
    precision: float = 0.02
    warmup_reps: int = 2
    timeout_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("min_reps", 1), ("max_reps", self.min_reps), ("warmup_reps", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, too few: set it to {least} or more"
                )
        for name in ("budget_s", "precision", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, which leaves nothing to measure: "
                    "set it above 0"
                )

    @property
    def rounds(self) -> int:
        """Number of rounds over which the budget is spread; the first half is shared equally."""
        return 2 * self.min_reps


def forever() -> float:
    """The seconds left where there is no limit."""
    return math.inf


def measure(
    contenders: Sequence[Contender],
    plan: TimingPlan,
    clock: Clock,
    *,
    left: Callable[[], float] = forever,
    on_sample: Callable[[str, Sample], None] = lambda name, sample: None,
    on_progress: Callable[[float, str], None] = lambda fraction, doing: None,
) -> dict[str, TimingOutcome]:
    """Time all contenders side by side, as the module's docstring describes.

    Args:
        contenders: the steps to compare; their names must differ.
        plan: how long and how exactly.
        clock: read around every forward and backward.
        left: the seconds that remain for all there is to do; asked before each warm-up
            and each turn, none of which begins without any.
        on_sample: called with each repetition as soon as it is known (untimed), so that
            an interruption loses none.
        on_progress: called before each turn with the fraction done, at most 1, and what is next.

    Returns:
        An outcome for every contender, by name. A contender that raises ends its
        own part only and keeps its samples; KeyboardInterrupt propagates, and so
        does an exception of a callback.

    Raises:
        Failed: a contender left the GPU in a state from which this process does not recover.
    """
    outcomes = {contender.name: TimingOutcome() for contender in contenders}
    if len(outcomes) < len(contenders):
        raise ValueError("two contenders have the same name: rename one of them")

    for contender in contenders:
        if left() > 0:
            on_progress(0.0, f"warm-up: {contender.name}")
            _warm_up(contender, outcomes[contender.name], plan, clock)

    running = [c for c in contenders if outcomes[c.name].status == "ok"]
    share_s = plan.budget_s / max(len(running), 1)
    order, number = random.Random(plan.seed), 0
    while running and left() > 0:
        order.shuffle(running)
        for contender in running:
            if left() <= 0:
                break
            on_progress(min(number / plan.rounds, 1.0), f"round {number + 1}: {contender.name}")
            outcome = outcomes[contender.name]
            for sample in _turn(contender, outcome, plan, clock, number, share_s):
                on_sample(contender.name, sample)
        number += 1
        running = [c for c in running if _wants_more(outcomes[c.name], plan, number, share_s)]
    for outcome in outcomes.values():
        if outcome.status == "ok" and len(outcome.samples) < plan.min_reps:
            outcome.status = "skipped"
            outcome.reason = (
                f"the time budget ran out after {len(outcome.samples)} of at least "
                f"{plan.min_reps} repetitions"
            )
    return outcomes


def _warm_up(contender: Contender, outcome: TimingOutcome, plan: TimingPlan, clock: Clock) -> None:
    if contender.prepare is not None:
        try:
            contender.prepare()
        except Exception as error:
            refuse_lost(contender.name, error)
            outcome.status, outcome.reason = failure(error)
            return
    for _ in range(plan.warmup_reps):
        if repeat(contender, outcome, clock, plan.timeout_s) is None:
            return


def _turn(
    contender: Contender,
    outcome: TimingOutcome,
    plan: TimingPlan,
    clock: Clock,
    number: int,
    share_s: float,
) -> Iterator[Sample]:
    """One contender's repetitions in round ``number``, each yielded as soon as it is known."""
    burst = min(math.ceil(plan.max_reps / plan.rounds), plan.max_reps - len(outcome.samples))
    used_s = 0.0
    for _ in range(burst):
        times = repeat(contender, outcome, clock, plan.timeout_s)
        if times is None:
            return
        sample = Sample(number, *times)
        outcome.samples.append(sample)
        yield sample
        used_s += sample.step_s
        if used_s >= share_s / plan.rounds:
            return


def _wants_more(outcome: TimingOutcome, plan: TimingPlan, rounds_done: int, share_s: float) -> bool:
    if outcome.status != "ok":
        return False
    if rounds_done < plan.min_reps:
        return True
    steps_s = outcome.steps_s()
    return (
        len(steps_s) < plan.max_reps
        and sum(steps_s) < share_s
        and relative_halfwidth(steps_s) > plan.precision
    )
