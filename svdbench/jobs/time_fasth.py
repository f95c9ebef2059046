"""Times a gradient-descent step of every orthogonal parametrisation, side by side."""

from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from svdbench.jobs.cell import Entry, line, time_cell
from svdbench.jobs.display import display, reported
from svdbench.jobs.timing import (
    device_of,
    load,
    machine_line,
    plan_of,
    problem_of,
    settle_allocator,
)
from svdbench.orthogonal.base import Method, Problem
from svdbench.orthogonal.registry import GROUP
from svdbench.record.store import Run
from svdbench.report.timing import show_run
from svdbench.schemas import TimeFastH

JOB = "time-fasth"


def run(config: TimeFastH, text: str, folder: str | None = None) -> Path:
    """Run the job; returns the folder with its results.

    Args:
        config: checked by its ``__post_init__``.
        text: the same as YAML, kept beside the results.
        folder: where to write instead of ``results/time-fasth/<name>``.
    """
    device_of(config)
    plan = plan_of(config, cells=len(config.sizes.d))
    console = Console()
    names = config.methods or sorted(config.orthogonal)
    methods = {name: load(GROUP, name, config.orthogonal[name]) for name in names}
    settle_allocator()
    record = Run.create(config.results, JOB, config.name, config=text, folder=folder)
    console.print(f"{machine_line(record.environment, config)}\n{record.folder}", highlight=False)
    too_slow: dict[str, str] = {}
    with (
        reported(record.folder, partial(show_run, record.folder, console)),
        record,
        display(console, len(config.sizes.d)) as shown,
    ):
        for d in config.sizes.d:
            problem = problem_of(config, d)
            shown.begin(f"d = {d}")
            entries = _entries(problem, methods, config.seed)
            time_cell(problem, entries, plan, record, shown, too_slow)
            shown.finish(line(problem, entries))
    return record.folder


def _entries(problem: Problem, methods: dict[str, Method], seed: int) -> list[Entry]:
    """The same V, X and G for everyone, each in the form its method takes."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        made = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return made.to(problem.device, problem.dtype)

    V, X = random(problem.n, problem.d), random(problem.d, problem.m)
    G = random(problem.d, problem.m)
    return [
        Entry(name, method, (V,), X.clone().requires_grad_(), G) for name, method in methods.items()
    ]
