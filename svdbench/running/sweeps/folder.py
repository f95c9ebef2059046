"""A sweep's folder: sweep.yaml, whose folder it is, and the state of each job."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

from svdbench.errors import UserError, one_line, os_remedy
from svdbench.files import NAME, read_environment, read_json, read_yaml, write_whole
from svdbench.record import resumption
from svdbench.record.environment import environment
from svdbench.record.lines import RecordError, as_record_error, refuse_special_files
from svdbench.record.resumption import ENVIRONMENT, read_versions
from svdbench.running.sweeps.plan import Sweep, SweepJob, SweepSource

FOLDER = "jobs"
RUNNING, OK, FAILED, INTERRUPTED = "running", "ok", "failed", "interrupted"
DIED = "its process ended without an error: killed, out of memory, or its machine was lost"


@dataclass(frozen=True)
class State:
    """One job: its status, why, and where and when it ran.

    Attributes:
        status: of those above; empty before it begins.
        where: node and process.
        began, ended: in UTC, as ISO 8601.
    """

    status: str = ""
    reason: str = ""
    where: str = ""
    began: str = ""
    ended: str = ""

    @property
    def over(self) -> bool:
        return self.status in (OK, FAILED, INTERRUPTED)

    @property
    def seconds(self) -> float:
        """How long it took; 0 where that isn't known."""
        if not (self.began and self.ended):
            return 0.0
        try:
            spent = datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.began)
        except (ValueError, TypeError):  # not ours, or only one of them with a time zone
            return 0.0
        return spent.total_seconds()


class States:
    """The states of all jobs of a sweep, by the names of the jobs' folders."""

    def __init__(self, sweep: Path) -> None:
        self.folder = sweep / FOLDER

    def log(self, job: str, node: int = 0) -> Path:
        """The log of a job that runs in another process, for each of its nodes."""
        return self.folder / (f"{job}.node{node}.log" if node else f"{job}.log")

    def read(self, job: str) -> State:
        """The state of a job; the empty one where there is none that can be read."""
        try:
            found = read_json(self._path(job))
            return State(**{key: str(value) for key, value in found.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            return State()

    def write(self, job: str, state: State) -> None:
        """Raises RecordError where it can't be written."""
        path = self._path(job)
        with as_record_error(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(asdict(state)) + "\n")

    def forget(self, job: str) -> None:
        self._path(job).unlink(missing_ok=True)

    @contextmanager
    def begun(self, job: str) -> Iterator["JobEnding"]:
        """A job that runs in here: where it doesn't say how it ended, it ended well."""
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        begun = JobEnding(State(RUNNING, where=f"{node}:{os.getpid()}", began=_now()))
        self.write(job, begun.state)
        yield begun
        began = begun.state
        self.write(job, State(begun.status, begun.reason, began.where, began.began, _now()))

    def _path(self, job: str) -> Path:
        return self.folder / f"{job}.json"


@dataclass
class JobEnding:
    """How a job ends: well, unless :meth:`end` is called."""

    state: State
    status: str = OK
    reason: str = ""

    def end(self, status: str, reason: str) -> None:
        self.status, self.reason = status, reason


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


FILE = "sweep.yaml"
VERSION = 1


def is_sweep(folder: Path) -> bool:
    return (folder / FILE).is_file()


class NothingBegun(UserError):
    """The jobs of a sweep could not be launched, none of them."""


@contextmanager
def own_folder(folder: Path, sweep: Sweep, jobs: Sequence[SweepJob]) -> Iterator[None]:
    """The folder of a sweep, made or found to be this sweep's already; held by this process.

    A folder that was made here is gone again where the block raises :class:`NothingBegun`.

    Raises:
        RecordError: it holds something else, another process runs the sweep, or it can't be
            written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_held(folder))
            for place in (folder, folder / FOLDER):
                if place.is_dir():
                    refuse_special_files(place)
            if is_sweep(folder):
                _check_same(folder, jobs)
            elif any(path.suffix != ".partial" for path in folder.iterdir()):
                raise RecordError(
                    f"{folder} already holds results: choose a different --name, or delete it"
                )
            # First of all, as from then on the folder is this sweep's.
            write_whole(folder / FILE, _text(sweep, jobs))
            if not (folder / ENVIRONMENT).exists():
                text = json.dumps(environment(), indent=2, ensure_ascii=False)
                write_whole(folder / ENVIRONMENT, text + "\n")
        except OSError as error:
            raise RecordError(
                f"can't write {folder}: {error.strerror or error}: {os_remedy(error)}"
            ) from error
        try:
            yield
        except NothingBegun:
            if missing:
                rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process has something there by now
                for path in missing[1:]:
                    path.rmdir()
            raise


def refuse_other_version(folder: Path) -> None:
    """Refuse to resume a sweep of timings that another version of svdbench started."""
    try:
        began = read_environment(folder / ENVIRONMENT)
    except (OSError, ValueError) as error:
        raise RecordError(
            f"can't resume {folder}: {ENVIRONMENT} {one_line(error)}: choose a different --name"
        ) from error
    resumption.refuse_other_version(
        folder, began, read_versions(folder), environment(), "choose a different --name"
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes, where the file system can."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise RecordError(
            f"{folder} is being run by another process: wait for it, or choose a different --name"
        ) from error
    except OSError:  # as on NFS; each job still holds its own folder
        pass
    try:
        yield
    finally:
        os.close(file)


def read_sweep(folder: Path) -> Sweep:
    kept = _read_file(folder)
    bases = tuple(
        SweepSource(tuple(base["overrides"]), base["name"], base["swept"]) for base in kept["bases"]
    )
    return Sweep(kept["job"], bases, tuple(kept["words"]))


def read_overrides(folder: Path) -> dict[str, tuple[str, ...]]:
    """The overrides of each job of a sweep, by the jobs' folders."""
    return {name: tuple(overrides) for name, overrides in _read_file(folder)["jobs"].items()}


def _check_same(folder: Path, jobs: Sequence[SweepJob]) -> None:
    theirs = {
        name: SweepJob(name, texts).identity for name, texts in read_overrides(folder).items()
    }
    if theirs != {job.folder: job.identity for job in jobs}:
        raise RecordError(f"{folder} holds another sweep: choose a different --name, or delete it")


def _text(sweep: Sweep, jobs: Sequence[SweepJob]) -> str:
    import yaml  # type: ignore[import-untyped]

    from svdbench._version import __version__

    kept: dict[str, Any] = {
        "version": VERSION,
        "svdbench": __version__,
        "words": list(sweep.words),
        "job": sweep.job,
        "bases": [
            {"name": base.name, "swept": base.swept, "overrides": list(base.overrides)}
            for base in sweep.bases
        ],
        "jobs": {job.folder: list(job.overrides) for job in jobs},
    }
    return str(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100))


def _read_file(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        kept = read_yaml(path)
    except OSError as error:
        raise UserError(
            f"can't read {path}: {error.strerror}: give the folder of a sweep"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} {error}: delete the folder") from error
    if not _fits(kept):
        raise UserError(f"{path} was not written by a sweep of svdbench: delete the folder")
    if kept["version"] > VERSION:
        raise UserError(f"{path} was written by a later svdbench: upgrade svdbench")
    return dict(kept)


def _fits(kept: Any) -> bool:
    """Whether the content has the form that :func:`_text` writes."""
    if not (isinstance(kept, dict) and isinstance(kept.get("version"), int)):
        return False
    if kept["version"] > VERSION:
        return True
    bases, jobs = kept.get("bases"), kept.get("jobs")
    return (
        isinstance(kept.get("job"), str)
        and kept["job"].isidentifier()
        and _texts(kept.get("words"))
        and isinstance(bases, list)
        and len(bases) > 0
        and all(
            isinstance(base, dict)
            and isinstance(base.get("name"), str)
            and (not base["name"] or NAME.fullmatch(base["name"]))
            and isinstance(base.get("swept"), bool)
            and _texts(base.get("overrides"))
            for base in bases
        )
        and isinstance(jobs, dict)
        and all(isinstance(name, str) and _texts(value) for name, value in jobs.items())
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
