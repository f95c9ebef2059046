"""``svdbench train trainer.processes=N``: one training in several processes, or on several GPUs.

One process composes and checks the configuration, and starts the others by torch's elastic
launcher; the first of those does what a single process would, and the rest follow it. Worth it
where a step is long and the devices are several: GPUs, a wide network, a large batch. Two
processes on the cores of one CPU rarely beat one with twice the threads.

With ``trainer.nodes=M`` the same is done on each of M machines, as many processes on each. The
first process of the first node leads: it alone writes, and reads checkpoints.

When a process dies, the others are ended and the run is over, with one line that says which
and why. What it has written can be gone on with (``--resume RUN``), or, from a checkpoint, in
another number of processes (``--resume RUN/seed-0/last.pt --processes N``).
"""

import atexit
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
from svdbench.jobs.train import JOB
from svdbench.jobs.train import run as train
from svdbench.measure.clock import WallClock
from svdbench.running.nodes import Node, this_node
from svdbench.running.processes import end_with
from svdbench.running.session import device_of, kept
from svdbench.training.config import Train
from svdbench.training.parallel import Broken, Ranks, join_group, join_on_gpu, unpacked

# In the folder of notes: where the run is; and ``<rank>.json``, a process's last words.
FOLDER = "folder"

LOOPBACK = {"linux": "lo", "darwin": "lo0"}
# How long a node waits for the others.
MEETING_S = 600
# How long a process has to end in order whose launcher was killed.
END_S = 60.0


def launch(config: Train, text: str, folder: str | None) -> train.TrainResult:
    node = this_node(config.trainer.nodes, os.environ)
    config = replace(config, trainer=replace(config.trainer, threads=_threads(config)))
    on_cpu = replace(config, trainer=replace(config.trainer, device="cpu"))
    train.loop_of(on_cpu, config.seed, WallClock())  # reports errors once, before any start
    with TemporaryDirectory(prefix="svdbench-") as place, _quietly():
        notes = Path(place)
        if node.count > 1:
            print(f"node {node.rank} of {node.count}; all connect to {node.meeting}", flush=True)
        try:
            plan = _plan(node, config.trainer.processes, place)
            results = elastic_launch(plan, work)(config, text, folder, place, os.getpid())
        except SignalException as error:
            raise _ended(error, notes) from error
        except ChildFailedError as error:
            raise _died(error, notes) from error
        except dist.DistError as error:
            raise _alone(error, node) from error
        if None in results.values():
            raise Interrupted(f"interrupted; {_rest(notes)}")
    written, endings = next(iter(results.values()))
    return train.TrainResult(Path(written), endings, ours=node.rank == 0)


def _plan(node: Node, processes: int, place: str) -> LaunchConfig:
    one = {
        "run_id": uuid.uuid4().hex,
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "local_addr": "localhost",
    }
    several = {
        "run_id": "svdbench",
        "rdzv_backend": "static",
        "rdzv_endpoint": node.meeting,
        "rdzv_configs": {"rank": node.rank, "timeout": MEETING_S},
    }
    return LaunchConfig(
        min_nodes=node.count,
        max_nodes=node.count,
        nproc_per_node=processes,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=place),
        **(one if node.count == 1 else several),
    )


def work(
    config: Train, text: str, folder: str | None, notes: str, launcher: int
) -> tuple[str, list[str]] | None:
    """What each process does, started by the launcher: the first trains, the others follow.

    Args:
        notes: the folder in which to leave word for the one that started them.
        launcher: the process that started them; they don't outlive it.

    Returns:
        The run's folder, and how its seeds ended; None, if it was interrupted.
    """
    end_with(launcher, END_S)
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    signal.signal(signal.SIGINT, lambda *_: ranks.interrupt())
    try:
        _meet(config, text, ranks)
        result = (
            _lead(config, text, folder, ranks, Path(notes))
            if ranks.first
            else _follow(config, ranks)
        )
        dist.destroy_process_group()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if ranks.asked:  # maybe as the launcher is gone: a process that returns waits for it
            raise Interrupted("interrupted")
    except Exception as error:
        # Of a group that is not taken down, threads may abort the process as the interpreter ends.
        atexit.register(os._exit, 1)
        if isinstance(error, UserError):
            words = {"line": str(error), "exit_code": error.exit_code}
            (Path(notes) / f"{ranks.rank}.json").write_text(json.dumps(words), encoding="utf-8")
        raise
    return result


def _meet(config: Train, text: str, ranks: Ranks) -> None:
    """Join the others: gloo on CPUs, and also NCCL on GPUs, of which each takes its own."""
    if config.trainer.nodes == 1 and (loopback := LOOPBACK.get(sys.platform)):
        for library in ("GLOO", "NCCL"):  # independent of the network
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    if config.trainer.device == "cpu":
        join_group("gloo")
    else:
        join_on_gpu(int(os.environ["LOCAL_RANK"]))
    if ranks.any(ranks.broadcast(text) != text):
        raise UserError(
            "the nodes were given different configurations: start the same command on each"
        )


def _lead(
    config: Train, text: str, folder: str | None, ranks: Ranks, notes: Path
) -> tuple[str, list[str]]:
    """Do what a single process does, and release the others at the end."""

    def on_folder(place: Path) -> None:
        (notes / FOLDER).write_bytes(os.fsencode(place))

    try:
        found = train.run(config, text, folder, ranks=ranks, on_folder=on_folder)
    except Interrupted:
        ranks.broadcast((None, None))
        raise  # the launcher would wait for nodes that have left already
    result = str(found.folder), found.endings
    ranks.broadcast((None, result))
    return result


def _follow(config: Train, ranks: Ranks) -> tuple[str, list[str]] | None:
    """Train the seeds of the first process from its state, without output."""
    config = replace(config, trainer=replace(config.trainer, resume=None))
    device = device_of(config.trainer.where())
    while True:
        seed, payload = ranks.broadcast()
        if seed is None:
            result: tuple[str, list[str]] | None = payload
            return result
        loop = train.loop_of(config, seed, WallClock(device), ranks)
        loop.load_state_dict(unpacked(payload, device))
        loop.run()


def _threads(config: Train) -> int | None:
    trainer = config.trainer
    device = device_of(trainer.where())
    if device.type == "cuda":
        if trainer.processes > (gpus := torch.cuda.device_count()):
            raise UserError(
                f"trainer.processes is {trainer.processes}, one per GPU, but torch "
                f"sees only {gpus} here: give at most {gpus}"
            )
        return trainer.threads
    return trainer.threads or max(1, torch.get_num_threads() // trainer.processes)


def _ended(error: SignalException, notes: Path) -> UserError:
    """What to say where this process was ended by a signal."""
    if error.sigval == signal.SIGINT:
        return Interrupted(f"interrupted; {_rest(notes)}")
    return Broken(f"ended by {error.sigval.name}; {_rest(notes)}")


def _died(error: ChildFailedError, notes: Path) -> UserError:
    """What to say where one of the others was the first to die: which, and of what."""
    rank, failure = error.get_first_failure()
    note = notes / f"{rank}.json"
    if not note.is_file():
        return Broken(f"process {rank} {_cause(failure)}; {_rest(notes)}")
    words = json.loads(note.read_text(encoding="utf-8"))
    if words["exit_code"] == Interrupted.exit_code:
        return Interrupted(f"interrupted; {_rest(notes)}")
    if words["exit_code"] == Broken.exit_code:
        return Broken(f"{words['line']}; {_rest(notes)}")
    return UserError(words["line"])


def _alone(error: dist.DistError, node: Node) -> UserError:
    """What to say where the nodes don't find each other."""
    return Broken(
        f"node {node.rank} of {node.count} can't reach the others at {node.meeting} "
        f"({one_line(error)}): start the same command on all within {MEETING_S // 60} minutes, "
        "or name a machine and a port that they can reach, MASTER_ADDR and MASTER_PORT"
    )


def _cause(failure: ProcessFailure) -> str:
    if failure.exitcode == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when memory runs out"
    if failure.exitcode < 0:
        return f"was ended by {failure.signal_name()}"
    message: Any = failure.message
    text = message.get("message", "") if isinstance(message, dict) else str(message)
    return f"failed: {one_line(Exception(text))}"


def _rest(notes: Path) -> str:
    """What is left of the run, as far as this node knows."""
    note = notes / FOLDER
    return (
        kept(JOB, Path(os.fsdecode(note.read_bytes())))
        if note.is_file()
        else "nothing was written here"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the launcher from logging what one line says already, and from keeping our signals."""
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
