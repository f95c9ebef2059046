"""Runs on disk: results that survive a crash.

``results/<job>/<run>/`` holds ``config.yaml`` and ``env.json`` from the start, and
tables that grow by whole lines: each is one write to the end of its file. A journal
says which units of the work are finished, so that a process that dies loses the one
it was at, at most.
"""

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from svdbench.errors import one_line
from svdbench.files import existing_regular_file, write_whole
from svdbench.record.environment import environment, version_of
from svdbench.record.events import TensorBoardEvents
from svdbench.record.journal import NAME as JOURNAL
from svdbench.record.journal import Journal, Mark, fits
from svdbench.record.lines import RecordError, append_lines, as_record_error
from svdbench.record.resumption import (
    CONFIG,
    ENVIRONMENT,
    refuse_foreign_folder,
    refuse_other_run,
    refuse_other_version,
    run_folder,
    versions_of,
)
from svdbench.record.schema import COMMON, SCHEMA_VERSION, TableSchema

SYNC_S = 1.0
_TABLE = ",".join(COMMON[:6]).encode()  # what every table begins with, those of earlier runs too


class RunWriter:
    """One run, open for appending: made by :meth:`create`, a context manager.

    Attributes:
        folder: where it writes.
        job: the command.
        run_id: the folder's name.
        environment: what ``env.json`` says.
        resumed: whether the folder already had rows.
        version: of the svdbench that writes its rows now.
    """

    def __init__(
        self, folder: Path, job: str, environment: Mapping[str, Any], journal: Journal
    ) -> None:
        self.folder = folder
        self.job = job
        self.run_id = folder.name
        self.environment = environment
        self.resumed = journal.begun
        self.version = version_of(environment)
        self._journal = journal
        self._news: dict[str, Any] | None = None
        self._mark: Mark = {}
        self._to_rewind = journal.begun
        self._files: dict[str, int] = {}
        self._events: TensorBoardEvents | None = None
        self._synced = time.monotonic()

    @classmethod
    def create(
        cls,
        root: str | Path,
        job: str,
        name: str | None = None,
        config: str = "",
        *,
        folder: str | Path | None = None,
        env: Mapping[str, Any] | None = None,
        same: Collection[str] = (),
    ) -> "RunWriter":
        """Make ``root/job/name`` and write down the configuration and the environment.

        A folder that already has a run of the same configuration is gone on with: the rows of
        its finished units stay; those of a unit that was cut short are taken back before the
        first row is written, unless the job resumes within the unit and rewinds itself. A
        run that is finished is left as it is, to the byte.

        Args:
            root: the results folder.
            job: the command, a folder of its own.
            name: of the run; by default the local time, made unique.
            config: the text of ``config.yaml``.
            folder: to be used instead of ``root/job/name``.
            env: of ``env.json``; by default what ``environment()`` finds.
            same: fields of the environment that must not change while a run lasts; with any,
                neither may the version of svdbench, unless :func:`mixing_versions` allows it.

        Raises:
            RecordError: a name that is no plain folder name; a folder that holds something
                else, that another process writes, or that can't be written.
        """
        where = Path(folder) if folder is not None else run_folder(Path(root), job, name)
        remedy = "choose a different --name" if folder is None else "give another folder"
        refuse_foreign_folder(where, remedy)
        env = environment() if env is None else env
        with ExitStack() as undo:
            journal = undo.enter_context(closing(Journal(where)))
            if journal.begun:
                began = refuse_other_run(where, config, env, same, remedy)
                if same and version_of(env) is not None:
                    versions = versions_of(began, journal.resumed)
                    refuse_other_version(where, began, versions, env, remedy)
                run = cls(where, job, began, journal)
                run.version = version_of(env)
                run._news = {key: value for key, value in env.items() if began.get(key) != value}
            else:
                run = cls(where, job, env, journal)
                text = json.dumps(env, indent=2, ensure_ascii=False) + "\n"
                _write_text(where / ENVIRONMENT, text)
                _write_text(where / CONFIG, config)
                journal.begin(job)
            undo.pop_all()
        return run

    @property
    def units(self) -> Collection[str]:
        """The finished units."""
        return self._journal.units

    @property
    def memo(self) -> Mapping[str, Any]:
        """The memo of :meth:`finish` for later units."""
        return self._journal.memo

    @contextmanager
    def recalling(self) -> Iterator[Mapping[str, Any]]:
        """Read the memo; a memo that the job did not write raises RecordError."""
        try:
            yield self.memo
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise RecordError(
                f"{self.folder / JOURNAL} is not what {self.job} writes: {one_line(error)}: choose "
                "a different --name, or delete the folder"
            ) from error

    def finish(self, unit: str, **memo: Any) -> None:
        """Note that a unit need not be done again.

        A process that dies from then on loses nothing of it. For a machine that dies, all is
        written through to the disk once a second at most, as that takes milliseconds.

        Args:
            unit: a size, a seed, a case: its name within the run.
            memo: what later units need to know of it, such as JSON can hold.
        """
        self._journal.finish(unit, self.mark(), memo)
        if time.monotonic() - self._synced > SYNC_S:
            self.commit()

    def mark(self) -> Mark:
        """How long the tables are."""
        self._drop_unfinished_rows()
        sizes = {f"{name}.csv": os.fstat(file).st_size for name, file in self._files.items()}
        return self._mark | sizes

    def rewind(self, mark: Mark) -> None:
        """Take back all rows since ``mark`` was taken.

        Raises:
            RecordError: the tables have lost rows since, it would take rows of finished units or
                part of a row, or the tables can't be written.
        """
        self._close_files()
        if not fits(self.folder, mark):
            raise RecordError(
                f"the tables of {self.folder} have lost rows since they were written: choose a "
                "different --name"
            )
        finished = self._journal.mark
        for name in {**finished, **mark}:
            size = mark.get(name, 0)
            if size < finished.get(name, 0) or not _ends_row(self.folder / name, size):
                raise RecordError(
                    f"{self.folder / name} can't be cut to {size:,} bytes, as finished rows would "
                    "be lost or torn: choose a different --name"
                )
        self._to_rewind = False
        self._mark = dict(mark)
        if self._news is not None:
            self._journal.note_resumption(self._news)
            self._news = None
        for path in self.folder.glob("*.csv"):
            with as_record_error(path):
                if kept := mark.get(path.name):
                    os.truncate(path, kept)
                elif _is_table(path):  # of a unit that was cut short
                    path.unlink()

    def discard_unfinished(self) -> None:
        """Take back the rows that belong to no finished unit."""
        self.rewind(self._journal.mark)

    def _drop_unfinished_rows(self) -> None:
        """Drop the rows of unfinished units, before the first new row of a resumed run."""
        if self._to_rewind:
            self.discard_unfinished()

    def append(self, table: TableSchema, row: Mapping[str, Any]) -> None:
        """Write a row; ``schema_version``, ``job``, ``run_id`` and ``version`` are filled in.

        Missing columns and None stay empty. Raises ValueError where the row does not
        fit the table, RecordError where it can't be written.
        """
        row = {**row, "schema_version": SCHEMA_VERSION, "job": self.job, "run_id": self.run_id}
        row["version"] = self.version
        table.check(row)
        path = self.folder / f"{table.name}.csv"
        with as_record_error(path):
            if table.name not in self._files:
                _refuse_other_columns(path, table)
                self._drop_unfinished_rows()
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                self._files[table.name] = os.open(path, flags, 0o666)
            file = self._files[table.name]
            header = [] if os.fstat(file).st_size else [table.columns]
            append_lines(file, [*header, [row.get(column) for column in table.columns]])
        if self._events is not None:
            self._events.append(table, row)

    def write_events(self, wanted: bool = True) -> None:
        """Also write TensorBoard event files from now on, if wanted."""
        self._events = TensorBoardEvents(self.folder) if wanted else None

    def commit(self) -> None:
        """Have everything on the disk itself."""
        for name, file in self._files.items():
            with as_record_error(self.folder / f"{name}.csv"):
                os.fsync(file)
        self._journal.sync()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Commit, and close the files."""
        try:
            self.commit()
        finally:
            self._close_files()
            self._journal.close()
            if self._events is not None:
                self._events.close()

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ends_row(path: Path, size: int) -> bool:
    """Whether a row, or the table, ends after so many bytes."""
    if not size:
        return True
    with as_record_error(path), open(existing_regular_file(path), "rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _is_table(path: Path) -> bool:
    """Whether a file is one of our tables, or empty."""
    with open(path, "rb") as file:
        start = file.read(len(_TABLE))
    return _TABLE.startswith(start)


def _refuse_other_columns(path: Path, table: TableSchema) -> None:
    if not path.exists():
        return
    with open(path, "rb") as file:
        header = file.readline().decode(errors="replace").rstrip("\n")
    if header and header != ",".join(table.columns):
        raise RecordError(
            f"{path} has the columns of another version of svdbench: choose a different --name"
        )


def _write_text(path: Path, text: str) -> None:
    with as_record_error(path):
        write_whole(path, text)
