"""Files that are the old one or the new one, never half of either; and files that end."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to be written, which takes the place of ``path`` once it is on the disk as a whole.

    Those that processes of this machine have left behind when they were killed are removed.

    Raises:
        OSError: it can't be written; what was at ``path`` is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    for left in path.parent.glob(f".{escape(path.name)}.*.partial"):
        if not _is_running(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    """Whether there is a process of this number; another machine's may be taken for one."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):  # another user's, or no number
        return True
    return True


def belongs(path: Path, folder: Path) -> bool:
    """Whether a file is a regular one of the folder, and no link to somewhere else."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a link to itself
        return False


def regular(path: str | Path) -> Path:
    """The path of a file to be read, which is no pipe and no device: those may never end.

    Raises:
        OSError: it is none, or is not there.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # NUL in its name
        raise OSError(errno.EINVAL, "there can be no such file", str(path)) from error
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return Path(path)
