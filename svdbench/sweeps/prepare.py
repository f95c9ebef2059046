"""Before a sweep begins: every job is composed and checked, and nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from svdbench.errors import UserError
from svdbench.launch import checked, composed, composing, in_one_line
from svdbench.overrides import override
from svdbench.sweeps.engines import (
    Engine,
    check_installed,
    check_nodes,
    check_slurm,
    engine_of,
    is_timed,
    nodes_of,
    refuse_timing,
)
from svdbench.sweeps.plan import Job, Sweep, engine_overrides, jobs_of


@dataclass(frozen=True)
class Prepared:
    """A sweep that may be launched.

    Attributes:
        job: the module in ``svdbench.jobs``.
        name: of the command, as rows have it.
        folder: where it writes.
        timed: whether the point of its jobs is seconds.
        master: a configuration with Hydra's own part: the launcher and its options.
        loader: makes the configurations of the jobs.
    """

    job: str
    name: str
    folder: Path
    timed: bool
    jobs: list[Job]
    engine: Engine
    master: Any
    loader: Any


def prepare(sweep: Sweep, folder: Path | None = None) -> Prepared:
    """Check all jobs and the launcher, and choose the folder.

    Args:
        folder: by default ``results/<job>/<name>``.

    Raises:
        UserError: the first job that doesn't fit, named by what tells it from the others;
            a launcher that isn't there, or that may not run these jobs.
    """
    for_hydra = engine_overrides(sweep)
    module = import_module(f"svdbench.jobs.{sweep.job}")
    check = import_module("svdbench.jobs.checks").check
    with composing() as hydra:
        check_installed(for_hydra, hydra.config_loader.get_group_options("hydra/launcher"))
        with in_one_line():
            jobs = jobs_of(sweep, hydra)
        config: Any = None
        nodes = set()
        for number, job in enumerate(jobs, 1):
            with _naming(job, number, len(jobs)):
                config = checked(
                    composed(hydra, sweep.job, job.overrides), sweep.job, job.overrides
                )[0]
                check(config)
                nodes.add(nodes_of(config))
        if folder is None:
            name = config.name or datetime.now().strftime("%Y%m%d-%H%M%S")
            folder = Path(config.results) / module.JOB / name
        own = [
            override("hydra.sweep.dir", str(folder.absolute())),
            override("hydra.job.name", f"svdbench-{module.JOB}"),
        ]
        master = composed(hydra, sweep.job, [*jobs[0].overrides, *for_hydra, *own])
        launcher = master.hydra.runtime.choices["hydra/launcher"]
        engine = engine_of(master.hydra.launcher, launcher, len(jobs))
        check_nodes(engine, master.hydra.launcher, nodes)
        refuse_timing(engine, config)
        check_slurm(engine)
        timed = is_timed(config)
        return Prepared(
            sweep.job, module.JOB, folder, timed, jobs, engine, master, hydra.config_loader
        )


@contextmanager
def _naming(job: Job, number: int, count: int) -> Iterator[None]:
    """Say whose configuration doesn't fit, where there are several."""
    try:
        yield
    except UserError as error:
        if count == 1:
            raise
        raise UserError(f"job {number} of {count} ({job.label}): {error}") from error
