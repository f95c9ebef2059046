"""How far each job of a sweep is: a small file for each, whichever process runs it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from svdbench.reading import read_json
from svdbench.record.lines import writing
from svdbench.whole import replacing

FOLDER = "jobs"

RUNNING, OK, FAILED, INTERRUPTED = "running", "ok", "failed", "interrupted"
DIED = "its process ended without a word: killed, out of memory, or its machine was lost"


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
    """Those of all jobs of a sweep, by the names of the jobs' folders."""

    def __init__(self, sweep: Path) -> None:
        self.folder = sweep / FOLDER

    def log(self, job: str, node: int = 0) -> Path:
        """Where a job writes what it would print, if it runs elsewhere; each of its nodes."""
        return self.folder / (f"{job}.node{node}.log" if node else f"{job}.log")

    def read(self, job: str) -> State:
        """The state of a job; the first where there is none, or none that can be read."""
        try:
            found = read_json(self._path(job))
            return State(**{key: str(value) for key, value in found.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            return State()

    def write(self, job: str, state: State) -> None:
        """Raises RecordError where it can't be written."""
        path = self._path(job)
        with writing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                partial.write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")

    def forget(self, job: str) -> None:
        """Let a job be one that has not begun."""
        self._path(job).unlink(missing_ok=True)

    @contextmanager
    def begun(self, job: str) -> Iterator["Begun"]:
        """A job that runs in here: where it doesn't say how it ended, it ended well."""
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        begun = Begun(State(RUNNING, where=f"{node}:{os.getpid()}", began=_now()))
        self.write(job, begun.state)
        yield begun
        began = begun.state
        self.write(job, State(begun.status, begun.reason, began.where, began.began, _now()))

    def _path(self, job: str) -> Path:
        return self.folder / f"{job}.json"


@dataclass
class Begun:
    """To be told how a job ends."""

    state: State
    status: str = OK
    reason: str = ""

    def end(self, status: str, reason: str) -> None:
        self.status, self.reason = status, reason


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
