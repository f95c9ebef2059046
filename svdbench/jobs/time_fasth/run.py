"""Times a gradient-descent step of every orthogonal parametrisation, side by side."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from svdbench.jobs.time_fasth import JOB, TimeFastH
from svdbench.jobs.time_fasth.methods.base import Method
from svdbench.measure.algorithm import Problem
from svdbench.measure.machine import Rates
from svdbench.measure.plan import forever
from svdbench.members import METHODS
from svdbench.running.session import device_of, running
from svdbench.timings.session import (
    CellConditions,
    TimedMethod,
    TooSlow,
    check_methods,
    chosen,
    plan_of,
    problem_of,
    time_cells,
)


def run(
    config: TimeFastH,
    text: str,
    folder: str | None = None,
    *,
    too_slow: TooSlow | None = None,
    left: Callable[[], float] = forever,
    rates: Rates | None = None,
) -> Path:
    """Run the job; returns the folder with its results.

    Args:
        too_slow: methods known to be, from earlier runs of the same dtype and m.
        left: the seconds that remain; what doesn't fit is skipped.
        rates: what the machine can do, where it was measured already.
    """
    device_of(config)
    plan = plan_of(config, cells=len(config.sizes.d))
    conditions = CellConditions(plan, config.measure.l2, {} if too_slow is None else too_slow, left)
    methods: dict[str, Method] = chosen(METHODS, config)
    with running(JOB, config, text, folder, len(config.sizes.d)) as (record, shown):
        problems = [problem_of(config, d) for d in config.sizes.d]
        entries = partial(_entries, methods=methods, seed=config.seed)
        time_cells(problems, entries, conditions, record, shown, rates=rates)
    return record.folder


def check(config: TimeFastH) -> None:
    check_methods(METHODS, config)


def _entries(problem: Problem, methods: dict[str, Method], seed: int) -> list[TimedMethod]:
    """The same V, X and G for every method, in the form that it takes."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        made = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return made.to(problem.device, problem.dtype)

    V, X = random(problem.n, problem.d), random(problem.d, problem.m)
    G = random(problem.d, problem.m)
    return [
        TimedMethod(name, method, (V,), X.clone().requires_grad_(), G)
        for name, method in methods.items()
    ]
