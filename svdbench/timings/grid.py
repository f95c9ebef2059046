"""Runs over two sizes, such as widths and batches: a cell for each pair."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from svdbench.job import Job
from svdbench.measure.algorithm import Problem
from svdbench.record.schema import TableSchema
from svdbench.running.session import running
from svdbench.timings.session import CellConditions, TimedMethod, plan_of, time_cells


def time_grid(
    job: Job,
    config: Any,
    text: str,
    folder: str | None,
    sizes: tuple[Sequence[int], Sequence[int]],
    problem_of: Callable[[int, int], Problem],
    entries_of: Callable[[Problem], Iterable[TimedMethod]],
    tables: tuple[TableSchema, TableSchema],
) -> Path:
    """Measure every first size with every second one, both ascending; returns the run's folder.

    What is too slow at a first size is not tried at larger ones, but anew at another second one.

    Args:
        problem_of: the problem of a first and a second size.
        entries_of: the contenders of a problem.
        tables: of the samples and of the summary.
    """
    firsts, seconds = map(sorted, sizes)
    cells = len(firsts) * len(seconds)
    plan, (samples, summary) = plan_of(config, cells), tables
    with running(job, config, text, folder, cells) as (record, shown):
        for second in seconds:
            conditions = CellConditions(plan, config.measure.l2, samples=samples, summary=summary)
            problems = [problem_of(first, second) for first in firsts]
            memo = f"too_slow at {second}"
            time_cells(problems, entries_of, conditions, record, shown, memo=memo)
    return record.folder
