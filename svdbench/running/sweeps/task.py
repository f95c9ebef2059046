"""The picklable function that a launcher calls for each job, in any process."""

import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svdbench.config.compose import checked
from svdbench.errors import Interrupted, UserError, one_line
from svdbench.job import find_job
from svdbench.record.resumption import mixing_versions
from svdbench.running.nodes import SLURM_RANK
from svdbench.running.processes import end_with
from svdbench.running.sweeps.folder import FAILED, INTERRUPTED, JobEnding, State, States


@dataclass(frozen=True)
class LaunchedJob:
    """Runs one job; its state, and its log where it runs elsewhere, are in the sweep's folder.

    Attributes:
        sweep: the sweep's folder, as it was given.
        home: host and process that launch.
        threads: of a job that says nothing of threads; None: as its environment says.
        mixing: whether another version of svdbench may resume timings.
        titles: what to print before a job that runs at home, by its folder.
        directory: of the process that launches, where a relative folder begins.
        ends_with_home: whether a process elsewhere ends when the one that launches does.
    """

    job: str
    sweep: Path
    home: tuple[str, int]
    threads: int | None = None
    mixing: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)
    directory: Path = field(default_factory=Path.cwd)
    ends_with_home: bool = False

    def __call__(self, config: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        if self.ends_with_home and host_and_process() != self.home:
            end_with(self.home[1])
        # One form of path in all that a job prints and writes, wherever it runs.
        sweep = self.sweep if Path.cwd() == self.directory else self.directory / self.sweep
        folder = sweep / Path(HydraConfig.get().runtime.output_dir).name
        states, away, node = States(sweep), host_and_process() != self.home, _node(config)
        beginning = states.begun(folder.name) if node == 0 else _follower()
        with _printing(states.log(folder.name, node), away), beginning as begun:
            if folder.name in self.titles:
                print(self.titles[folder.name])
            try:
                if away:
                    self._set_threads()
                settings, text = checked(config)
                with mixing_versions(self.mixing):
                    find_job(self.job).module.run(settings, text, str(folder))
            except (Interrupted, KeyboardInterrupt) as error:
                begun.end(INTERRUPTED, str(error) or "by ^C")
            except UserError as error:
                begun.end(FAILED, str(error))
            except Exception as error:  # the other jobs don't depend on this one
                with open(states.log(folder.name, node), "a", encoding="utf-8") as log:
                    log.write(traceback.format_exc())
                begun.end(FAILED, f"{type(error).__name__}: {one_line(error)}")
        if begun.status == INTERRUPTED and not away:
            raise KeyboardInterrupt

    def _set_threads(self) -> None:
        threads = self.threads
        if threads is None and "OMP_NUM_THREADS" not in os.environ:
            threads = slurm_cores(os.environ)
        if threads is not None:
            import torch

            torch.set_num_threads(threads)


def _node(config: Any) -> int:
    """The rank of this node in its training; node 0 keeps the states."""
    nodes = (config.get("trainer") or {}).get("nodes", 1)
    rank = os.environ.get(SLURM_RANK, "")
    return int(rank) if nodes > 1 and rank.isdecimal() else 0


@contextmanager
def _follower() -> Iterator[JobEnding]:
    """A job whose state another node keeps: its ending here is printed."""
    begun = JobEnding(State())
    yield begun
    if begun.reason:
        print(begun.reason)


def host_and_process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def slurm_cores(environment: Mapping[str, str]) -> int | None:
    """The cores that SLURM gave to a job, which may see all of its node; None elsewhere."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if environment.get(name, "").isdecimal():
            return max(1, int(environment[name]))
    return None


@contextmanager
def _printing(log: Path, away: bool) -> Iterator[None]:
    """Away from the terminal of the launching process, print into a file.

    So does what this process starts, as the processes of one training.
    """
    if not away:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "a", buffering=1, encoding="utf-8") as file,
        redirect_stdout(file),
        redirect_stderr(file),
        _inherited(file.fileno()),
    ):
        yield


@contextmanager
def _inherited(target: int) -> Iterator[None]:
    """Redirect the streams that child processes inherit into an open file."""
    before = {stream: os.dup(stream) for stream in (1, 2)}
    try:
        for stream in before:
            os.dup2(target, stream)
        yield
    finally:
        for stream, saved in before.items():
            os.dup2(saved, stream)
            os.close(saved)
