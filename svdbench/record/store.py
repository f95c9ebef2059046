"""Runs on disk: results that survive a crash.

``results/<job>/<run>/`` holds ``config.yaml`` and ``env.json`` from the start, and
tables that grow by whole lines: each is one write to the end of its file, so
that a process that dies loses the row it was writing at most.
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from svdbench.record.environment import environment
from svdbench.record.lines import RecordError, append_lines, read_rows, writing
from svdbench.record.schema import SCHEMA_VERSION, Table

__all__ = ["RecordError", "Run", "read_rows"]

# No dot in front and no separator: the name stays inside its folder, and visible.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class Run:
    """One run, open for appending: made by :meth:`create`, a context manager.

    Attributes:
        folder: where it writes.
        job: the command.
        run_id: the folder's name.
        environment: what ``env.json`` says.
    """

    def __init__(self, folder: Path, job: str, environment: Mapping[str, Any]) -> None:
        self.folder = folder
        self.job = job
        self.run_id = folder.name
        self.environment = environment
        self._files: dict[str, int] = {}

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
    ) -> "Run":
        """Make ``root/job/name`` and write down the configuration and the environment.

        Args:
            root: the results folder.
            job: the command, a folder of its own.
            name: of the run; by default the local time, made unique.
            config: the text of ``config.yaml``.
            folder: to be used instead of ``root/job/name``.
            env: of ``env.json``; by default what ``environment()`` finds.

        Raises:
            RecordError: a name that is no plain folder name, a folder that already
                holds something or can't be written.
        """
        if folder is None:
            place = _place(Path(root), job, name)
        else:
            place = _claim(Path(folder), "give another folder")
        env = environment() if env is None else env
        with writing(place):
            _write_text(place / "config.yaml", config)
            _write_text(place / "env.json", json.dumps(env, indent=2, ensure_ascii=False) + "\n")
        return cls(place, job, env)

    def append(self, table: Table, row: Mapping[str, Any]) -> None:
        """Write a row; ``schema_version``, ``job`` and ``run_id`` are filled in.

        Missing columns and None stay empty. Raises ValueError where the row does not
        fit the table, RecordError where it can't be written.
        """
        row = {**row, "schema_version": SCHEMA_VERSION, "job": self.job, "run_id": self.run_id}
        table.check(row)
        path = self.folder / f"{table.name}.csv"
        with writing(path):
            if table.name not in self._files:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                self._files[table.name] = os.open(path, flags, 0o666)
            file = self._files[table.name]
            header = [] if os.fstat(file).st_size else [table.columns]
            append_lines(file, [*header, [row.get(column) for column in table.columns]])

    def commit(self) -> None:
        """Have everything on the disk itself; for the end of a cell."""
        for name, file in self._files.items():
            with writing(self.folder / f"{name}.csv"):
                os.fsync(file)

    def close(self) -> None:
        """Commit, and close the files."""
        try:
            self.commit()
        finally:
            while self._files:
                os.close(self._files.popitem()[1])

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _place(root: Path, job: str, name: str | None) -> Path:
    """The new folder ``root/job/name``."""
    for what, given in (("job", job), ("run", name)):
        if given is not None and not _NAME.fullmatch(given):
            raise RecordError(
                f"{given!r} can't name a {what}: use letters, digits, '.', '_' and '-', "
                "with no '.' in front"
            )
    if name is not None:
        return _claim(root / job / name, "choose a different --name")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    with writing(root / job):
        (root / job).mkdir(parents=True, exist_ok=True)
        for i in count(1):
            folder = root / job / (stamp if i == 1 else f"{stamp}-{i}")
            try:
                folder.mkdir()  # which decides between runs that start in the same second
                break
            except FileExistsError:
                continue
    return folder


def _claim(folder: Path, remedy: str) -> Path:
    """``folder``, made if need be, if it is empty."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RecordError(f"{folder} already holds results: {remedy}, or delete it")
    return folder


def _write_text(path: Path, text: str) -> None:
    # "x": of two runs that were given the same name at once, the second stops here.
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
