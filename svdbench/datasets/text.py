"""Text as bytes, in windows: that of a file, of a folder, or of Python's standard library."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from svdbench.errors import one_line
from svdbench.files import existing_regular_file

from .base import DatasetError

if TYPE_CHECKING:  # a configuration is checked before torch is imported
    from torch import Tensor

# Bytes that are read at most, to train on and to test; the first is 32 MiB as int64.
MOST_TRAIN, MOST_TEST = 4 << 20, 1 << 15
# The test split is the first files of a tenth of the bytes; of a single file, two of 20 blocks.
TEST_SHARE, BLOCKS = 0.1, 20
LEAST_WINDOWS = 8
# Of the standard library: folders of installed packages, and tests, which are data in part.
NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
REMEDY = "give a text file, or a folder of them"


@dataclass(frozen=True)
class TextWindows:
    """Windows of bytes with the byte that follows each, in two splits.

    Attributes:
        name: of the text, as the column ``dataset`` has it.
        train, test: bytes (N, T) and the bytes one place further (N, T), int64; both are views
            of one tensor, and windows do not overlap.
    """

    name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def text_windows(path: str | Path | None, context: int) -> TextWindows:
    """A text in windows of ``context`` bytes, split by file, or of a single file by blocks.

    The splits are the same always: files stand in the order of the hashes of their names, the
    first of them with a tenth of the bytes are the test split, and the rest is trained on. Of a
    single file, the 10th and the 20th of 20 blocks are tested. At most 4 MiB are trained on and
    32 KiB tested; no more is read.

    Args:
        path: a file, or a folder, whose text files are taken, also those further down; None for
            the sources of the running Python's standard library.
        context: bytes of a window, T.

    Raises:
        DatasetError: there is no such file; or no text in it; or not enough.

    Example:
        >>> text = text_windows(None, context=128)
        >>> text.train[0].shape[1]
        128
    """
    where = None if path is None else Path(path).expanduser()
    files = _library() if where is None else _files(where)
    name = library_name() if where is None else where.resolve().name or str(where)
    what = str(name if where is None else where)
    texts = _read(_by_hash(files), where)
    if not texts:
        raise DatasetError(f"{what} has no text: {REMEDY}")
    train, test = _split(texts)
    if len(train) <= LEAST_WINDOWS * context or len(test) <= context:
        raise DatasetError(
            f"{what} has {len(train):,} bytes to train on and {len(test):,} to test, too few for "
            f"windows of {context}: give at least {12 * context + 20:,} bytes, or a smaller "
            "--context"
        )
    return TextWindows(name, _windows(train, context), _windows(test, context))


def library_name() -> str:
    """What the sources of the standard library are called in a report, with their version."""
    return f"Python {platform.python_version()} library"


def _library() -> list[tuple[str, Path]]:
    """The sources of the standard library of this interpreter, by name."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = [(name, path) for name, path in _below(folder) if path.suffix == ".py"]
    if not found:
        raise DatasetError(
            "this Python has no sources of its standard library: name a text with --text"
        )
    return found


def _files(path: Path) -> list[tuple[str, Path]]:
    """A file, or the visible ones of a folder, by name."""
    if not path.is_dir():
        return [(path.name, path)]
    return [*_below(path, leave_out=())]


def _below(folder: Path, leave_out: Collection[str] = NOT_LIBRARY) -> Iterator[tuple[str, Path]]:
    """The visible files of a folder and of those below it, by their names in it.

    Args:
        leave_out: folders not to look into.
    """
    for at, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if name not in leave_out and _is_visible(name)]
        for path in (Path(at) / name for name in names if _is_visible(name)):
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__pycache__"))


def _by_hash(files: Sequence[tuple[str, Path]]) -> list[Path]:
    """In the order of the hashes of their names: as good as random, and the same always."""
    return [
        path
        for name, path in sorted(
            files,
            key=lambda file: (hashlib.sha256(os.fsencode(file[0])).digest(), file[0]),
        )
    ]


def _text(path: Path, asked: Path | None) -> bytes:
    """The bytes of a text file, of a large one the first; none of a binary file in a folder."""
    try:
        with open(existing_regular_file(path), "rb") as file:
            head = file.read(4096)
            if b"\0" not in head:
                return head + file.read(MOST_TRAIN + MOST_TEST - len(head))
    except OSError as error:
        if path != asked:
            return b""
        reason = error.strerror or one_line(error)
        raise DatasetError(f"can't read {path}: {reason}: check the path") from error
    if path == asked:
        raise DatasetError(f"{path} is not text, as it has NUL bytes: {REMEDY}")
    return b""


def _read(paths: Sequence[Path], asked: Path | None) -> list[bytes]:
    """The texts that are not blank, until there is enough to train on and to test."""
    texts: list[bytes] = []
    enough = MOST_TRAIN + MOST_TEST
    for path in paths:
        text = _text(path, asked)
        if text.strip():
            texts.append(text)
            enough -= len(text)
        if enough <= 0:
            break
    return texts


def _split(texts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """What is trained on and what is tested, by file; by block where one file has nearly all."""
    wanted = min(TEST_SHARE * sum(map(len, texts)), MOST_TEST)
    count = 1
    while count < len(texts) and sum(map(len, texts[:count])) < wanted:
        count += 1
    train, test = b"\n".join(texts[count:]), b"\n".join(texts[:count])
    if len(train) < 2 * len(test[:MOST_TEST]):
        return _by_block(b"\n".join(texts))
    return train[:MOST_TRAIN], test[:MOST_TEST]


def _by_block(text: bytes) -> tuple[bytes, bytes]:
    """Of twenty blocks the tenth and the last to test, and the others to train on."""
    ends = [len(text) * i // BLOCKS for i in range(BLOCKS + 1)]
    blocks = [text[start:end] for start, end in pairwise(ends)]
    tested = {BLOCKS // 2 - 1, BLOCKS - 1}
    train = b"".join(block for i, block in enumerate(blocks) if i not in tested)
    test = b"".join(block for i, block in enumerate(blocks) if i in tested)
    return train[:MOST_TRAIN], test[:MOST_TEST]


def _windows(text: bytes, context: int) -> tuple[Tensor, Tensor]:
    import torch

    count = (len(text) - 1) // context
    numbers = torch.frombuffer(bytearray(text), dtype=torch.uint8)[: count * context + 1].long()
    return numbers[:-1].view(count, context), numbers[1:].view(count, context)
