"""``hydra/launcher=ray``: each job of a sweep is a task of Ray, on this machine or a cluster.

A worker must find the same files at the same paths, and the same packages, as the
process that launches: a shared file system and one environment. Nothing is copied.
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from svdbench.errors import UserError, one_line

# What Ray has to say of itself, and copies of what workers print.
QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}

# How long a cluster's head may take to answer.
ANSWER_S = 10.0


def imported() -> ModuleType:
    """Ray, imported. Raises UserError if it isn't installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "hydra/launcher=ray needs Ray: install it with pip install 'svdbench[ray]'"
        ) from error
    return ray


@contextmanager
def connected(ray: ModuleType, address: str | None, init: Mapping[str, Any]) -> Iterator[None]:
    """Connect to a cluster, and disconnect at the end, unless already connected."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(address, **(QUIET | dict(init)))
    except OSError as error:  # Ray's ConnectionError, too
        raise UserError(
            f"no Ray cluster at {address!r}: start one with ray start --head, "
            "or set hydra.launcher.address to where one is, or to local"
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"Ray doesn't start: {one_line(error)}: see hydra.launcher") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise OSError if HOST:PORT does not answer. Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), min(int(port), 65535)), ANSWER_S).close()


def check_room(ray: ModuleType, options: Mapping[str, Any], may_grow: bool) -> None:
    """See whether a node is large enough for a job, as Ray would wait for one forever."""
    needs: dict[str, float | None] = {
        "CPU": options["num_cpus"],
        "GPU": options["num_gpus"],
        "memory": options["memory"],
        **options["resources"],
    }
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(key, 0) >= (least or 0) for key, least in needs.items()) for node in nodes):
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount)
    cause = f"hydra.launcher: a job asks for {asked}, but no Ray node has that"
    if not may_grow:
        raise UserError(f"{cause}: ask for less, or give the address of a cluster")
    print(f"svdbench: {cause}: the jobs wait for a node that has", file=sys.stderr)


LOCAL = "local"

# How long jobs that were cancelled have to write down what they have.
GRACE_S = 30.0


@dataclass
class RayOptions:
    """The options of ``hydra.launcher``, named as Ray names them.

    Attributes:
        address: ``local`` starts Ray on this machine; HOST:PORT is a cluster, ``auto`` the
            one that this machine belongs to; null is ``auto`` if there is one, else ``local``.
        num_cpus: cores that a job has to itself, and threads that it computes with.
        num_gpus: GPUs of a job, the only ones that it sees.
        memory: bytes that a job must find free on a node; they are not enforced.
        resources: what else a job takes of a node, as ``ray start --resources`` named it.
        max_retries: how often a job is restarted whose process or node was lost.
        max_calls: jobs that a process runs before it is replaced; 0: any number.
        init: further arguments of ``ray.init``.
    """

    _target_: str = "svdbench.running.sweeps.ray.RayLauncher"
    address: str | None = LOCAL
    num_cpus: float = 1
    num_gpus: float = 0
    memory: float | None = None
    resources: dict[str, float] = field(default_factory=dict)
    max_retries: int = 0
    max_calls: int = 1
    init: dict[str, Any] = field(default_factory=dict)


class RayLauncher(Launcher):
    """Runs the jobs of a sweep as tasks of Ray, as :class:`RayOptions` says."""

    def __init__(self, **options: Any) -> None:
        task: Any = OmegaConf.to_container(OmegaConf.create(options))
        self.address, self.init = task.pop("address"), task.pop("init")
        self.task = task

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Run the jobs; returns their results in order.

        A job that fails, or whose process or node is lost, is a failed JobReturn,
        and the others continue.
        """
        setup_globals()
        jobs = [
            self._job(number, each) for number, each in enumerate(job_overrides, initial_job_idx)
        ]
        ray = imported()
        task = _task(ray, self.task)
        with connected(ray, self.address, self.init):
            check_room(ray, self.task, may_grow=self.address != LOCAL)
            surroundings = ray.put(WorkerEnvironment.of(self.hydra_context, self.task_function))
            running = [task.options(name=_name(job)).remote(job, surroundings) for job in jobs]
            try:
                return [_outcome(ray, ref, job) for ref, job in zip(running, jobs, strict=True)]
            except KeyboardInterrupt:
                _cancel(ray, running)
                raise

    def _job(self, number: int, overrides: Sequence[str]) -> DictConfig:
        job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
            # Once for all jobs, as the time of day may be part of it.
            job.hydra.sweep.dir = str(self.config.hydra.sweep.dir)
        return job


def _name(job: DictConfig) -> str:
    return f"run {job.hydra.sweep.subdir}"


@dataclass(frozen=True)
class WorkerEnvironment:
    """The environment of the launching process, which a worker should have too."""

    hydra_context: HydraContext
    task_function: TaskFunction
    hydra_state: Any
    folder: str
    variables: Mapping[str, str]

    @classmethod
    def of(cls, hydra_context: HydraContext, task_function: TaskFunction) -> "WorkerEnvironment":
        """The environment of this process; a cluster's workers have that of ``ray start``."""
        ours = {key: value for key, value in os.environ.items() if key.startswith("SVDBENCH_")}
        return cls(hydra_context, task_function, Singleton.get_state(), os.getcwd(), ours)

    def run(self, job: DictConfig) -> JobReturn:
        """Run a job as Hydra does, in a process that is another's."""
        os.chdir(self.folder)
        os.environ.update(self.variables)
        setup_globals()
        Singleton.set_state(self.hydra_state)
        return run_job(
            task_function=self.task_function,
            config=job,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
        )


def _work(job: DictConfig, surroundings: WorkerEnvironment) -> JobReturn:
    return surroundings.run(job)


def _task(ray: ModuleType, options: Mapping[str, Any]) -> Any:
    """:func:`_work` as a task with these options. Raises UserError if Ray refuses one."""
    try:
        return ray.remote(**options)(_work)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.launcher: {one_line(error)}") from error


def _outcome(ray: ModuleType, ref: Any, job: DictConfig) -> JobReturn:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        failed = JobReturn(
            overrides=list(job.hydra.overrides.task),
            task_name=job.hydra.job.name,
            status=JobStatus.FAILED,
        )
        failed.return_value = UserError(f"{_name(job)}: {_reason(ray, error)}")
        return failed


def _reason(ray: ModuleType, error: Exception) -> str:
    lost = ray.exceptions
    again = "run the same command again to resume it"
    if isinstance(error, lost.OutOfMemoryError):
        return f"Ray stopped it because its node ran out of memory: {again}, with a larger num_cpus"
    if isinstance(error, lost.NodeDiedError):
        return f"its node was lost: {again}"
    if isinstance(error, lost.WorkerCrashedError):
        return f"its process was killed: {again}"
    return f"Ray lost it ({type(error).__name__}: {one_line(error)}): {again}"


def _cancel(ray: ModuleType, running: Sequence[Any]) -> None:
    """Interrupt all jobs; kill those that have not ended in time."""
    for ref in running:
        ray.cancel(ref)
    _, late = ray.wait(list(running), num_returns=len(running), timeout=GRACE_S)
    for ref in late:
        ray.cancel(ref, force=True)


def register() -> None:
    """Make ``hydra/launcher=ray`` known to Hydra. Safe to repeat."""
    plugins, theirs = Plugins.instance(), Plugins.is_in_toplevel_plugins_module

    def known(clazz: str) -> bool:
        return clazz == RayOptions._target_ or theirs(clazz)

    plugins.register(RayLauncher)
    # Hydra takes plugins from its own namespace only, which would be a package of ours beside
    # svdbench: this instance of it takes ours, too.
    plugins.is_in_toplevel_plugins_module = known  # type: ignore[method-assign]
    ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayOptions)
