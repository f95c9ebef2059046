"""Hydra's launchers: what they need, how many jobs run at once, and submitit's queue."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from getpass import getuser
from importlib.util import find_spec
from io import StringIO
from shutil import which
from typing import Any

from svdbench.config.grammar import parsed
from svdbench.errors import UserError, as_user_error, one_line
from svdbench.members import refuse_unknown

# The extra with which a launcher is installed, and a module that is then there.
NEEDS = {
    "submitit_local": ("slurm", "hydra_plugins.hydra_submitit_launcher"),
    "submitit_slurm": ("slurm", "hydra_plugins.hydra_submitit_launcher"),
    "ray": ("ray", "ray"),
}
BASIC, JOBLIB, LOCAL, SLURM = "basic", "joblib", "submitit_local", "submitit_slurm"


@dataclass(frozen=True)
class Engine:
    """A launcher and its options.

    Attributes:
        at_once: jobs of this machine's that run at a time; None: the launcher decides.
        alone: whether a job has its machine to itself.
    """

    name: str
    at_once: int | None
    alone: bool

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run in other processes than this."""
        return self.name != BASIC and (self.name, self.at_once) != (JOBLIB, 1)

    @property
    def ours(self) -> bool:
        """Whether jobs run in processes of this machine that would outlive this one.

        Ray ends its own, and queued jobs are meant to continue.
        """
        return self.elsewhere and self.name in (JOBLIB, LOCAL)

    @property
    def threads(self) -> int | None:
        """A job's share of this machine's cores, where the number of threads was not chosen."""
        if self.at_once is None or not self.elsewhere or "OMP_NUM_THREADS" in os.environ:
            return None
        return max(1, cores() // self.at_once)


def check_installed(overrides: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a launcher that does not exist, or whose packages are not installed."""
    for given in parsed(overrides):
        if given.key_or_group != "hydra/launcher":
            continue
        name = str(given.value())
        extra, module = NEEDS.get(name, ("", ""))
        if extra and not _is_there(module):
            raise UserError(f"{given.input_line} needs a package: pip install 'svdbench[{extra}]'")
        with as_user_error():
            refuse_unknown("launcher", [name], known)


def check_slurm(engine: Engine) -> None:
    """Refuse to submit jobs to SLURM where it is not installed."""
    if engine.name == SLURM and which("srun") is None:
        raise UserError(
            f"hydra/launcher={SLURM} needs SLURM, but there is no srun here: start the sweep on a "
            f"machine of the cluster, or give hydra/launcher={LOCAL} for processes of this machine"
        )


def engine_of(options: Any, name: str, jobs: int) -> Engine:
    """The engine for so many jobs.

    Args:
        options: ``hydra.launcher``; of joblib, the number of processes is filled in.
        name: the choice of ``hydra/launcher``.
    """
    if name == BASIC:
        return Engine(name, 1, True)
    if name == JOBLIB:
        options.n_jobs = processes(options.n_jobs, jobs)
        return Engine(name, options.n_jobs, options.n_jobs == 1)
    if name == LOCAL:
        at_once = processes(max(1, cores() // (options.cpus_per_task or 1)), jobs)
        return Engine(name, at_once, at_once == 1)
    # --exclusive=user would let in the other jobs of this sweep.
    given = (options.additional_parameters or {}) if name == SLURM else {}
    alone = given.get("exclusive") is True
    return Engine(name, None, alone)


def processes(asked: int, jobs: int) -> int:
    """As joblib counts them, -1 being one a core, but no more than there are jobs."""
    if asked == 0:
        raise UserError("hydra.launcher.n_jobs is 0: give a number of processes, or -1")
    return max(1, min(jobs, asked if asked > 0 else cores() + 1 + asked))


def nodes_of(config: Any) -> int:
    """How many machines a job takes: one, but where it trains over several."""
    trainer = getattr(config, "trainer", None)
    return 1 if trainer is None else int(trainer.nodes)


def check_nodes(engine: Engine, options: Any, asked: set[int]) -> None:
    """Refuse jobs that get fewer nodes than they train on, or more.

    Args:
        asked: by the jobs of the sweep, :func:`nodes_of` each.
    """
    if (tasks := options.get("tasks_per_node") or 1) > 1:
        raise UserError(
            f"hydra.launcher.tasks_per_node is {tasks}, but a job is one task on each node: leave "
            "it out; trainer.processes=N is for several processes that train together"
        )
    given = int(options.get("nodes") or 1)
    if asked == {given} and (given == 1 or engine.name == SLURM):
        return
    if len(asked) > 1:
        raise UserError("trainer.nodes can't be swept: hydra.launcher.nodes is for all jobs")
    nodes = max(asked)
    raise UserError(
        f"trainer.nodes is {nodes}, but a job of this sweep gets {given}: several nodes need "
        f"hydra/launcher={SLURM} hydra.launcher.nodes=N trainer.nodes=N"
    )


def is_timed(config: Any) -> bool:
    """Whether the point of a job is seconds: such have the key ``parallel``."""
    return hasattr(config, "parallel")


def refuse_timing(engine: Engine, config: Any) -> None:
    """Refuse to measure seconds where the jobs of a sweep would disturb each other."""
    if engine.alone or not is_timed(config) or config.parallel:
        return
    exclusive = "+hydra.launcher.additional_parameters.exclusive=true, or "
    raise UserError(
        f"this job measures seconds, and hydra/launcher={engine.name} may run several at "
        f"once on one machine: leave it out, or give {exclusive * (engine.name == SLURM)}"
        "parallel=true to allow it"
    )


def cores() -> int:
    """Those that this process may use."""
    import joblib

    return int(joblib.cpu_count())


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


POLL_S = 0.5

# How often SLURM is asked which jobs it has. A job that it has not, and whose result is not
# there when it is asked again, was killed.
ASK_S = 10.0


def launch_by_submitit(launcher: Any, jobs: Sequence[Sequence[str]], at_once: int | None) -> None:
    """Submit jobs, and wait until all have ended, well or not.

    The launcher of hydra-submitit-launcher starts all local processes at once, and leaves the
    other jobs alone at the first that dies. Here each is waited for.

    Args:
        at_once: processes at a time; None: the queue decides.
    """
    from hydra.core.singleton import Singleton

    executor = _executor(launcher)
    calls = [
        (list(overrides), "hydra.sweep.dir", number, str(number), Singleton.get_state())
        for number, overrides in enumerate(jobs)
    ]
    size = at_once or len(calls)
    running: list[Any] = []
    over = _over if at_once else SlurmWatch().over
    try:
        while calls or running:
            running = [job for job in running if not over(job)]
            if free := min(size - len(running), len(calls)):
                running += _submitted(executor, launcher, calls[:free])
                del calls[:free]
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        for job in running:
            job.cancel(check=False)
        raise


def _over(job: Any) -> bool:
    return bool(job.done())


class SlurmWatch:
    """Which jobs are over, from their results and squeue.

    submitit asks sacct, which says nothing on clusters without accounting.

    Args:
        queued: names the jobs that wait or run; by default squeue is asked.
    """

    def __init__(
        self,
        queued: Callable[[], set[str] | None] | None = None,
        time_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queued, self.time_s = queued or squeue, time_s
        self._known: set[str] | None = None
        self._asked = time_s()
        self._missing: dict[str, float] = {}

    def over(self, job: Any) -> bool:
        """Whether there is a result, or none to be waited for."""
        tasks = (job.task(number) for number in range(job.num_tasks))
        if all(task.paths.result_pickle.exists() for task in tasks):
            return True
        if self.time_s() - self._asked >= ASK_S:
            self._known, self._asked = self.queued(), self.time_s()
        if self._known is None or job.job_id in self._known:
            self._missing.pop(job.job_id, None)
            return False
        return self._asked > self._missing.setdefault(job.job_id, self._asked)


def squeue() -> set[str] | None:
    """The user's jobs that wait or run, as 12 or 12_3; None where SLURM doesn't answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getuser()}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(answer.stdout.split())


def _executor(launcher: Any) -> Any:
    """The submitit executor, as the launcher makes it from its parameters."""
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from omegaconf import OmegaConf

    cluster, parameters = launcher._EXECUTOR, dict(launcher.params)
    folder = parameters.pop("submitit_folder")
    retries = parameters.pop("max_num_timeout", None)
    own = {} if retries is None else {f"{cluster}_max_num_timeout": retries}
    common = set(OmegaConf.structured(BaseQueueConf).keys())
    named = {
        key if key in common else f"{cluster}_{key}": value for key, value in parameters.items()
    }
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **own)
        executor.update_parameters(**named)
    except (RuntimeError, TypeError, NameError, ValueError) as error:
        raise UserError(f"hydra.launcher: {one_line(error)}") from error
    return executor


def _submitted(executor: Any, launcher: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    from submitit.core.utils import FailedJobError

    silence = StringIO()  # what sbatch complains of is in the exception
    try:
        with redirect_stdout(silence), redirect_stderr(silence):
            return list(executor.map_array(launcher, *zip(*calls, strict=True)))
    except (FailedJobError, OSError) as error:
        raise UserError(f"can't submit jobs: {one_line(error)}") from error
