"""Files that are the old one or the new one, never half of either; and files that end."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to be written, which takes the place of ``path`` once it is on the disk as a whole.

    Raises:
        OSError: it can't be written; what was at ``path`` is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
