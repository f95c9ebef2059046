"""A table on disk: a CSV file of whole lines, each written at once and read with care."""

import csv
import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from svdbench.errors import UserError, os_remedy
from svdbench.files import existing_regular_file
from svdbench.record.schema import SCHEMA_VERSION

MOST_DIGITS = 9  # of a version
LARGEST_TABLE = 1 << 30  # bytes; a table of a million rows has a third of that


class RecordError(UserError):
    """Results can't be written or read."""


@contextmanager
def as_record_error(path: Path) -> Iterator[None]:
    """Turn an OSError from writing ``path`` into a RecordError."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"can't write {path}: {error.strerror or error}: {os_remedy(error)}"
        ) from error


def refuse_special_files(folder: Path) -> None:
    """Refuse to write into a folder with a link, which leads elsewhere, or a pipe, which may hang.

    Raises:
        RecordError: there is one, or anything else but regular files and folders.
    """
    for path in folder.iterdir():
        mode = stat.S_IFREG
        with suppress(FileNotFoundError):  # gone in the meantime
            mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise RecordError(
                f"{path} is a link, and svdbench does not write through links: choose a different "
                "--name, or replace it by its target"
            )
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise RecordError(
                f"{path} is not a regular file: choose a different --name, or delete it"
            )


def append_lines(file: int, lines: Iterable[Iterable[Any]]) -> None:
    """Write rows of values to the end of a file that was opened with O_APPEND."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_text(v) for v in line] for line in lines)
    append(file, buffer.getvalue().encode(errors="replace"))


def append(file: int, data: bytes) -> None:
    """Write to the end of a file that was opened with O_APPEND.

    All at once, so that a kill tears nothing or the end; what doesn't fit on the
    disk is taken back, and OSError raised.
    """
    size = os.fstat(file).st_size
    try:
        while data:  # a second turn only when the disk is full, which raises
            data = data[os.write(file, data) :]
    except OSError:
        os.ftruncate(file, size)
        raise


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a table, every value as text; the columns are those of the file.

    A last line that a crash tore is left out with a warning.

    Raises:
        RecordError: the file can't be read, is no table, or is of a later schema.
    """
    path = Path(path)
    try:
        if existing_regular_file(path).stat().st_size > LARGEST_TABLE:
            raise RecordError(f"{path} is larger than {LARGEST_TABLE >> 30} GiB: that is no table")
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        lines = list(csv.reader(whole.decode().split("\n"), strict=True))
    except OSError as error:
        raise RecordError(f"can't read {path}: {error.strerror}: check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path} is not a table of svdbench: {error}") from error
    if torn:
        warnings.warn(f"{path}: the last line is incomplete and was left out", stacklevel=2)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(lines[0]):
            raise RecordError(
                f"{path}, line {number}: {len(line)} values for {len(lines[0])} columns: "
                "repair or delete the line"
            )
        rows.append(dict(zip(lines[0], line, strict=True)))
        _check_version(path, rows[-1].get("schema_version", ""))
    return rows


def _check_version(path: Path, version: str) -> None:
    if not (version.isdecimal() and version.isascii()):
        raise RecordError(f"{path} is not a table of svdbench: schema_version is {version!r}")
    if len(version) > MOST_DIGITS or int(version) > SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema version {version[:MOST_DIGITS]}, this svdbench reads up to "
            f"{SCHEMA_VERSION}: upgrade svdbench"
        )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))  # the shortest that reads back the same; NumPy's are floats too
    # A row is one line; NUL is what csv can't read back before Python 3.11.
    return " ".join(str(value).replace("\0", " ").split())
