"""Jobs handed to submitit: SLURM's queue, or processes of this machine.

The launcher of hydra-submitit-launcher starts all local processes at once, and leaves the
other jobs alone at the first that dies. Here they are waited for, each.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from getpass import getuser
from io import StringIO
from typing import Any

from svdbench.errors import UserError, one_line

POLL_S = 0.5
# How often SLURM is asked which jobs it has. A job that it has not, and whose result is not
# there when it is asked again, was killed.
ASK_S = 10.0


def launch(launcher: Any, jobs: Sequence[Sequence[str]], at_once: int | None) -> None:
    """Submit jobs, and wait until all have ended, well or not.

    Args:
        launcher: one of hydra-submitit-launcher, set up.
        jobs: the overrides of each.
        at_once: processes at a time; None: the queue decides.

    Raises:
        UserError: they can't be submitted.
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
    """As the launcher makes it from its parameters."""
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
