"""Reads a run's folder: what can be read, and a note about what cannot."""

import csv
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdbench.errors import one_line
from svdbench.files import LARGEST_YAML, belongs, configuration, read_environment
from svdbench.record.lines import LARGEST_TABLE, RecordError, read_rows
from svdbench.record.schema import ended_well

if TYPE_CHECKING:
    import pandas as pd

CONFIG, ENVIRONMENT, SWEEP = "config.yaml", "env.json", "sweep.yaml"
# Rows of a table that a page holds; the rest stays in the file.
MOST_ROWS = 200_000
# The reason of a cell that has samples and no row in the summary.
STOPPED = "the run was stopped before it was finished"
# The method of samples of the uncompressed model: they have no row in the summary.
UNCOMPRESSED = "dense"
# Columns that may distinguish cells, in this order; settings are the same in all.
NAMES = ("operation", "method", "arm", "model", "task", "layer")
SIZES = ("length", "d", "n", "m", "k", "rank", "alpha", "phi", "block_size", "spectrum", "seed")
MOST_NAMED = 8


@dataclass(frozen=True)
class Sheet:
    """A table of a run as text: ``rows`` are as long as ``columns``; ``total`` is that of the file.

    ``total`` counts lines, of which those that don't fit were left out.
    """

    name: str
    columns: list[str]
    rows: list[list[str]]
    total: int

    def column(self, name: str) -> list[str]:
        """The values of a column; empty where there is no such column."""
        if name not in self.columns:
            return []
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def records(self) -> Iterator[dict[str, str]]:
        """Each row as a mapping from column to text, without its empty cells."""
        for row in self.rows:
            yield {name: text for name, text in zip(self.columns, row, strict=True) if text}


@dataclass
class RecordedRun:
    """A run's folder, read back as far as it can be: each part when it is asked for.

    Attributes:
        rows: the summary, where its file does not exist yet or is incomplete.
        notes: a line for each thing that could not be read.
    """

    folder: Path
    rows: Sequence[Mapping[str, str]] | None = None
    notes: list[str] = field(default_factory=list)

    def frame(self, name: str) -> "pd.DataFrame":
        """The rows of ``name``.csv, numbers as numbers; only empty cells are missing.

        Raises:
            OSError, ValueError: there is no such table.
        """
        import pandas as pd

        path = self.folder / f"{name}.csv"
        if not self.has(name):
            raise FileNotFoundError(errno.ENOENT, "there is no such table", str(path))
        return pd.read_csv(path, keep_default_na=False, na_values=[""])

    def has(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return belongs(self.folder / f"{name}.csv", self.folder)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration, flat: ``{"model.m1": 16, …}``.

        Raises:
            RecordError: it can't be read.
        """
        return self._read(CONFIG, configuration)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The content of ``env.json``; raises as ``settings``."""
        return self._read(ENVIRONMENT, read_environment)

    def _read(self, name: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / name
        try:
            if path.is_file() and not belongs(path, self.folder):
                raise OSError(errno.EINVAL, "it is a link to somewhere else")
            return read(path)
        except OSError as error:
            raise RecordError(f"can't read {path}: {one_line(error)}: check the path") from error
        except ValueError as error:
            raise RecordError(f"{path} {error}: repair or delete it") from error

    def lines(self, name: str) -> list[dict[str, str]]:
        """The rows of ``name``.csv as text; empty if there is no file. Warns of a torn last line.

        Raises:
            RecordError: it can't be read.
        """
        path = self.folder / f"{name}.csv"
        return list(read_rows(path)) if path.exists() else []

    @property
    def parts(self) -> list["RecordedRun"]:
        """The runs in this folder, in the order of their numbers or names; else the run itself."""
        runs = [path.parent for path in self.folder.glob("*/summary.csv")]
        runs.sort(key=lambda run: (len(run.name) if run.name.isdecimal() else 0, run.name))
        return [RecordedRun(run) for run in runs] or [self]

    @cached_property
    def sheets(self) -> list[Sheet]:
        """The tables as text, the summary first."""
        paths = sorted(self.folder.glob("*.csv"), key=lambda path: (_rank(path.stem), path.name))
        found = [sheet for path in paths if (sheet := _sheet(path, self.notes)) is not None]
        if self.rows:
            found = [_sheet_of("summary", self.rows), *(s for s in found if s.name != "summary")]
        return found

    def sheet(self, name: str) -> Sheet | None:
        """The table of a name; None if there is none."""
        return next((sheet for sheet in self.sheets if sheet.name == name), None)

    @cached_property
    def config(self) -> str | None:
        """The text of ``config.yaml``, for a sweep of ``sweep.yaml``; None if there is no file."""
        return _settings(self.folder / (SWEEP if self.swept else CONFIG), self.notes)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The content of ``env.json``; empty, with a note, if it can't be read."""
        return _environment(self.folder / ENVIRONMENT, self.notes)

    @property
    def job(self) -> str:
        """The name of the job, from the rows of its tables or else from its folder."""
        return self._first.get("job", self.folder.resolve().parent.name)

    @property
    def name(self) -> str:
        """The name of the run."""
        name = self.folder.resolve().name
        return name if self.swept else self._first.get("run_id", name)

    @cached_property
    def _first(self) -> dict[str, str]:
        return next(self.summary.records(), {}) if self.summary is not None else {}

    @property
    def swept(self) -> bool:
        """Whether this is a sweep: a folder with a run for each of its jobs."""
        return (self.folder / SWEEP).is_file()

    @property
    def summary(self) -> Sheet | None:
        """The table with a row for each cell; the samples if there is none yet."""
        return self.sheet("summary") or self.sheet("samples")

    @cached_property
    def outcomes(self) -> list[dict[str, str]]:
        """The rows of the summary, and the first sample of each cell that was not finished.

        A cell of the uncompressed model, with which others are compared, has samples alone.
        """
        summary, samples = self.sheet("summary"), self.sheet("samples")
        rows = list(summary.records()) if summary else []
        if samples is None:
            return rows
        known = {row.get("cell") for row in rows}
        first = dict(zip(reversed(samples.column("cell")), reversed(samples.rows), strict=False))
        for cell, row in reversed(first.items()):
            begun = dict(zip(samples.columns, row, strict=True))
            if cell not in known and not (rows and begun.get("method") == UNCOMPRESSED):
                rows.append(begun | {"status": "unfinished", "reason": STOPPED})
        return rows

    @property
    def statuses(self) -> Counter[str]:
        """The number of cells by status."""
        return Counter(row["status"] for row in self._ended.values())

    @property
    def unwell(self) -> Counter[str]:
        """The number of cells without a result, by status."""
        return Counter(row["status"] for row in self._ended.values() if not ended_well(row))

    @cached_property
    def _ended(self) -> dict[object, dict[str, str]]:
        """The last row of each cell; a row without a result takes precedence."""
        ended: dict[object, dict[str, str]] = {}
        for i, row in enumerate(self.outcomes):
            cell = row.get("cell", i)
            if "status" in row and (cell not in ended or ended_well(ended[cell])):
                ended[cell] = row
        return ended

    @property
    def date(self) -> str:
        """When the run started, in UTC; empty if unknown."""
        stamp = str(self.environment.get("timestamp_utc") or "")
        return stamp.replace("T", " ").removesuffix("+00:00")


@dataclass(frozen=True)
class Ending:
    """Cells with the same status and reason: how many, and which."""

    status: str
    count: int
    which: str
    reason: str


def endings(run: RecordedRun) -> list[Ending]:
    """The cells without a result, the most frequent ending first."""
    rows = run.outcomes
    telling = [
        [name for name in names if len({row.get(name) for row in rows}) > 1]
        for names in (NAMES, SIZES)
    ]
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        status = row.get("status", "")
        if status and not ended_well(row):
            groups.setdefault((status, row.get("reason", "")), []).append(row)
    found = [
        Ending(
            status=status,
            count=len({row.get("cell") or i for i, row in enumerate(members)}),
            which=_which(members, *telling),
            reason=reason,
        )
        for (status, reason), members in groups.items()
    ]
    return sorted(found, key=lambda ending: -ending.count)


def _which(rows: list[dict[str, str]], names: list[str], sizes: list[str]) -> str:
    """``matrix_exp, cayley at d = 512, 1024``: all values that occur, of what tells cells apart."""
    words = [_listed(rows, name) for name in names]
    numbers = [f"{name} = {_listed(rows, name)}" for name in sizes if _listed(rows, name)]
    return " at ".join(filter(None, (", ".join(filter(None, words)), "; ".join(numbers))))


def _listed(rows: list[dict[str, str]], name: str) -> str:
    values = list(dict.fromkeys(row[name] for row in rows if name in row))
    more = f" and {len(values) - MOST_NAMED} more" if len(values) > MOST_NAMED else ""
    return ", ".join(values[:MOST_NAMED]) + more


def progress(run: RecordedRun) -> str:
    """The numbers of cells by status, in a few words; empty if the tables have no cells."""
    counts = run.statuses
    if not counts:
        return "" if run.sheets else "no cell was finished"
    rest = ", ".join(f"{n} {status or '?'}" for status, n in run.unwell.items())
    return f"{counts.total() - run.unwell.total()} ok" + (f", {rest}" if rest else "")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run: a configuration, an environment or a table of ours."""
    if any((folder / name).is_file() for name in (CONFIG, ENVIRONMENT)):
        return True
    return any(_begins_as_table(path) for path in folder.glob("*.csv"))


def find_runs(root: Path) -> Iterator[Path]:
    """The runs below a folder, by path; hidden folders and links to folders are skipped.

    A sweep is one, as its table has the rows of all its jobs.
    """
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if is_run(Path(place)):
            yield Path(place)
            if SWEEP in files:
                folders.clear()


def read_run(folder: Path, rows: Sequence[Mapping[str, str]] | None = None) -> RecordedRun:
    """Read all that can be read of a run. Raises OSError if the folder itself can't be read.

    Args:
        rows: the summary, where its file does not exist yet or is incomplete.
    """
    run = RecordedRun(folder, rows)
    _ = run.sheets, run.config, run.environment
    return run


def _rank(name: str) -> int:
    """The summary comes first, the samples last."""
    return {"summary": 0, "samples": 2}.get(name, 1)


def _begins_as_table(path: Path) -> bool:
    if not belongs(path, path.parent):  # as a pipe, which never ends
        return False
    try:
        with open(path, "rb") as file:
            return file.read(24).startswith(b"schema_version,job,")
    except OSError:
        return False


def _sheet(path: Path, notes: list[str]) -> Sheet | None:
    text = _text(path, notes)
    if text is None:
        return None
    lines = csv.reader(StringIO(text.replace("\0", " "), newline=""))
    try:
        columns = next(lines, [])
        rows = [row for row in islice(lines, MOST_ROWS) if row]
        total = len(rows) + sum(1 for row in lines if row)
    except csv.Error as error:
        notes.append(f"{path.name} can't be read as a table: {error}")
        return None
    fitting = [row for row in rows if len(row) == len(columns)]
    if torn := len(rows) - len(fitting):
        notes.append(f"{path.name}: left out {torn} of {total:,} lines that don't fit its columns")
    if not fitting:
        notes.append(f"{path.name} has no rows")
        return None
    return Sheet(path.stem, columns, fitting, total)


def _sheet_of(name: str, rows: Sequence[Mapping[str, str]]) -> Sheet:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return Sheet(name, columns, [[row.get(c, "") for c in columns] for row in rows], len(rows))


def _environment(path: Path, notes: list[str]) -> dict[str, Any]:
    if not _is_there(path, notes):
        return {}
    try:
        return read_environment(path)
    except OSError as error:
        notes.append(f"{path.name} can't be read: {error.strerror}")
    except ValueError as error:
        notes.append(f"{path.name} is not the JSON of an environment: it {error}")
    return {}


def _settings(path: Path, notes: list[str]) -> str | None:
    """The text of a configuration, valid or not."""
    if path.is_file() and path.stat().st_size > LARGEST_YAML:
        notes.append(f"{path.name} is larger than {LARGEST_YAML >> 20} MiB")
        return None
    return _text(path, notes)


def _is_there(path: Path, notes: list[str]) -> bool:
    if belongs(path, path.parent):
        return True
    what = "a link to somewhere else" if path.is_file() else "no file"
    notes.append(f"{path.name} is {what if path.exists() else 'missing'}")
    return False


def _text(path: Path, notes: list[str]) -> str | None:
    if not _is_there(path, notes):
        return None
    if path.stat().st_size > LARGEST_TABLE:
        notes.append(f"{path.name} is larger than {LARGEST_TABLE >> 20:,} MiB")
        return None
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        notes.append(f"{path.name} can't be read: {error.strerror}")
        return None
