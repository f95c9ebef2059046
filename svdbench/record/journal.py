"""The journal of a run: its finished units, so that it can be resumed where it stopped.

A unit is a group of rows that a job finishes together: a size, a seed or a case. Its line in
``progress.jsonl`` comes after its rows and gives the length of the tables; rows
beyond the last line belong to an interrupted unit, and a line about rows
that never reached the disk counts for nothing.
"""

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svdbench.files import existing_regular_file, json_value
from svdbench.record.lines import RecordError, append, as_record_error
from svdbench.record.schema import SCHEMA_VERSION

NAME = "progress.jsonl"
LONGEST, LARGEST = 4096, 1 << 28  # bytes of the first line, and of all

# The bytes of each table, by the name of its file.
Mark = dict[str, int]


def job_of(folder: Path) -> str:
    """The job of a run that can be resumed.

    Raises:
        RecordError: there is no journal that says so.
    """
    try:
        with open(existing_regular_file(folder / NAME), "rb") as file:
            job = json_value(file.readline(LONGEST))["job"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(
            f"{folder} is not a run that can be resumed: give a folder with a {NAME}, such as "
            "results/train/20260301-120000"
        ) from error
    return str(job)


def read_resumed(folder: Path) -> list[dict[str, Any]]:
    """:attr:`Journal.resumed` of a run that another process may hold."""
    return [dict(found["resumed"]) for found in _lines(folder) if "resumed" in found]


def read_finished(folder: Path) -> tuple[set[str], Mark]:
    """The finished units of a run that another process may hold, and the tables' sizes then."""
    finished = [found for found in _lines(folder) if "unit" in found]
    return {found["unit"] for found in finished}, finished[-1]["tables"] if finished else {}


def _lines(folder: Path) -> list[Any]:
    """The lines of a journal, without a torn last one."""
    if not (folder / NAME).exists():
        return []
    with open(existing_regular_file(folder / NAME), "rb") as file:
        return [json_value(line) for line in file.read(LARGEST).split(b"\n")[:-1]]


def fits(folder: Path, mark: Mark) -> bool:
    """Whether all rows up to a mark are there."""
    try:
        return all((folder / name).stat().st_size >= size for name, size in mark.items())
    except OSError:
        return False


class Journal:
    """The journal of a run's folder, held by this process alone until it is closed.

    Attributes:
        begun: whether the run's configuration and environment are there.
        units: those that are finished.
        memo: what the job wrote down for its units to come.
        mark: the tables' sizes after the last of them.
        resumed: each time that the run was taken up again, what of its environment was new.
    """

    def __init__(self, folder: Path) -> None:
        """Open the journal of ``folder``, or make it.

        Raises:
            RecordError: another process holds it, or it can't be read or written.
        """
        self.path = folder / NAME
        self.begun = False
        self.units: set[str] = set()
        self.memo: dict[str, Any] = {}
        self.mark: Mark = {}
        self.resumed: list[dict[str, Any]] = []
        with as_record_error(self.path):
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            self._hold()
            self._read()
        except BaseException:
            self.close()
            raise

    def begin(self, job: str) -> None:
        """Note that the run has all that it needs to be repeated."""
        self._write({"job": job, "schema_version": SCHEMA_VERSION})
        self.sync()
        self.begun = True

    def finish(self, unit: str, mark: Mark, memo: Mapping[str, Any]) -> None:
        """Note a unit, once its rows are on the disk."""
        self._write({"unit": unit, "tables": mark, **({"memo": dict(memo)} if memo else {})})
        self.units.add(unit)
        self.memo |= memo
        self.mark = dict(mark)

    def note_resumption(self, differences: Mapping[str, Any]) -> None:
        """Record that the run was resumed, and what has changed in its environment."""
        self._write({"resumed": dict(differences)})
        self.resumed.append(dict(differences))

    def close(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordError(
                f"{self.path.parent} is being written by another process: wait for it, or "
                "choose a different --name"
            ) from error
        except OSError as error:
            # Some network file systems have no locks; whole lines are still written at once.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise RecordError(f"can't lock {self.path}: {error.strerror}") from error

    def _read(self) -> None:
        """Read the lines, up to one that is torn or counts rows that are not there."""
        with as_record_error(self.path):
            size = os.fstat(self._file).st_size
            if size > LARGEST:
                raise RecordError(f"{self.path} is too large for a journal: delete the folder")
            text = os.pread(self._file, size, 0)
        good = 0
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            try:
                if not line.endswith(b"\n") or not self._take(json_value(line)):
                    break
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
                raise RecordError(
                    f"{self.path}, line {number} is not a journal line: choose a different "
                    "--name, or delete the folder"
                ) from error
            good += len(line)
        if good < size:
            with as_record_error(self.path):
                os.ftruncate(self._file, good)

    def _take(self, line: dict[str, Any]) -> bool:
        """Read a line, unless its rows are missing: only a crashed machine loses them."""
        kind = line.keys()
        if "schema_version" in kind:
            if line["schema_version"] != SCHEMA_VERSION:
                raise RecordError(
                    f"{self.path.parent} has schema version {line['schema_version']}, this "
                    f"svdbench writes {SCHEMA_VERSION}: choose a different --name"
                )
            self.begun = True
        elif not self.begun:  # its rows would get the environment of now
            raise ValueError("the first line, of the job, is missing")
        elif "unit" in kind:
            mark = {str(name): int(size) for name, size in line["tables"].items()}
            if not fits(self.path.parent, mark):
                return False
            self.units.add(str(line["unit"]))
            self.mark = mark
            self.memo |= line.get("memo", {})
        elif "resumed" in kind:
            self.resumed.append(dict(line["resumed"]))
        return True

    def sync(self) -> None:
        """Have it on the disk itself."""
        with as_record_error(self.path):
            os.fsync(self._file)

    def _write(self, line: Mapping[str, Any]) -> None:
        with as_record_error(self.path):
            append(self._file, json.dumps(line, ensure_ascii=False).encode() + b"\n")
