"""``svdbench train trainer.processes=N``: one training in several processes, or on several GPUs.

One process composes and checks the configuration, and starts the others by torch's elastic
launcher; the first of those does what a single process would, and the rest follow it. Worth it
where a step is long and the devices are several: GPUs, a wide network, a large batch. Two
processes on the cores of one CPU rarely beat one with twice the threads.

When a process dies, the others are ended and the run is over, with one line that says which
and why. What it has written can be gone on with (``--resume RUN``), or, from a checkpoint, in
another number of processes (``--resume RUN/seed-0/last.pt --processes N``).
"""

import json
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from svdbench.errors import Interrupted, UserError, one_line
from svdbench.jobs import train
from svdbench.jobs.commands import interrupted, kept
from svdbench.jobs.timing import device_of
from svdbench.measure.clock import WallClock
from svdbench.schemas import Train
from svdbench.training.parallel import Broken, Ranks, unpacked

# In the folder of notes: where the run is; and ``<rank>.json``, a process's last words.
FOLDER = "folder"

LOOPBACK = {"linux": "lo", "darwin": "lo0"}


def launch(config: Train, text: str, folder: str | None) -> train.Result:
    """Run the job of :mod:`svdbench.jobs.train` in ``trainer.processes`` processes.

    Raises:
        UserError: as there; with exit code 1, if a process died.
        Interrupted: ^C; all have stopped, the rows and checkpoints so far are kept.
    """
    config = replace(config, trainer=replace(config.trainer, threads=_threads(config)))
    train.loop_of(_on_cpu(config), config.seed, WallClock())  # a mistake is told once, and now
    with TemporaryDirectory(prefix="svdbench-") as place, _quietly():
        notes = Path(place)
        plan = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=config.trainer.processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=place),
        )
        try:
            results = elastic_launch(plan, work)(config, text, folder, place)
        except SignalException as error:
            raise _ended(error, notes) from error
        except ChildFailedError as error:
            raise _died(error, notes) from error
    written, endings = results[0]
    return train.Result(Path(written), endings)


def work(config: Train, text: str, folder: str | None, notes: str) -> tuple[str, list[str]] | None:
    """What each process does, started by the launcher: the first trains, the others follow.

    Args:
        notes: the folder in which to leave word for the one that started them.
    """
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    signal.signal(signal.SIGINT, lambda *_: ranks.interrupt())
    try:
        _meet(config)
        result = _lead(config, text, folder, ranks, Path(notes)) if ranks.first else None
        if not ranks.first:
            _follow(config, ranks)
        dist.destroy_process_group()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if ranks.asked:  # too late to stop anything, but whoever asked waits for the end
            raise Interrupted("interrupted")
    except UserError as error:
        words = {"line": str(error), "exit_code": error.exit_code}
        (Path(notes) / f"{ranks.rank}.json").write_text(json.dumps(words))
        raise
    return result


def _meet(config: Train) -> None:
    """Join the others: gloo on CPUs, and also NCCL on GPUs, of which each takes its own."""
    backend = "gloo"
    if config.trainer.device != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    if loopback := LOOPBACK.get(sys.platform):  # all are on this machine, whatever its network
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    dist.init_process_group(backend)


def _lead(
    config: Train, text: str, folder: str | None, ranks: Ranks, notes: Path
) -> tuple[str, list[str]]:
    """Do what a single process does, and release the others at the end."""

    def on_folder(place: Path) -> None:
        (notes / FOLDER).write_text(str(place))

    try:
        result = train.run(config, text, folder, ranks=ranks, on_folder=on_folder)
    except Interrupted:
        ranks.tell(None)
        raise
    ranks.tell(None)
    return str(result.folder), result.endings


def _follow(config: Train, ranks: Ranks) -> None:
    """Train what the first process does, beginning where it does; without a word."""
    config = replace(config, trainer=replace(config.trainer, resume=None))
    device = device_of(config.trainer.place())
    while (told := ranks.tell()) is not None:
        seed, state = told
        loop = train.loop_of(config, seed, WallClock(device), ranks)
        loop.load_state_dict(unpacked(state, device))
        loop.run()


def _threads(config: Train) -> int | None:
    """Of each process.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    trainer = config.trainer
    device = device_of(trainer.place())
    if device.type == "cuda":
        if trainer.processes > (gpus := torch.cuda.device_count()):
            raise UserError(
                f"trainer.processes is {trainer.processes}, a GPU each, and torch sees {gpus} "
                f"here: give {gpus} at most"
            )
        return trainer.threads
    return trainer.threads or max(1, torch.get_num_threads() // trainer.processes)


def _on_cpu(config: Train) -> Train:
    return replace(config, trainer=replace(config.trainer, device="cpu"))


def _ended(error: SignalException, notes: Path) -> UserError:
    """What to say where this process was told to end."""
    if error.sigval == signal.SIGINT:
        return interrupted(train.JOB, _written(notes))
    return Broken(f"ended by {error.sigval.name}; {kept(train.JOB, _written(notes))}")


def _died(error: ChildFailedError, notes: Path) -> UserError:
    """What to say where one of the others was the first to die: which, and of what."""
    rank, failure = error.get_first_failure()
    note = notes / f"{rank}.json"
    if note.is_file():
        words = json.loads(note.read_text())
        if words["exit_code"] == Interrupted.exit_code:
            return interrupted(train.JOB, _written(notes))
        told = UserError(words["line"])
        told.exit_code = words["exit_code"]
        return told
    return Broken(f"process {rank} {_cause(failure)}; {kept(train.JOB, _written(notes))}")


def _cause(failure: ProcessFailure) -> str:
    if failure.exitcode == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does where memory runs out"
    if failure.exitcode < 0:
        return f"was ended by {failure.signal_name()}"
    message: Any = failure.message
    text = message.get("message", "") if isinstance(message, dict) else str(message)
    return f"failed: {one_line(Exception(text))}"


def _written(notes: Path) -> Path:
    """The run's folder; one that isn't there before there is any."""
    note = notes / FOLDER
    return Path(note.read_text()) if note.is_file() else note


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the launcher from logging what is told in one line, and from keeping our signals."""
    logger = logging.getLogger("torch.distributed.elastic")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
