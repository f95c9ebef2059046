"""What a user can put right: told in one line with its cause and remedy, exit code 2."""

import errno


class UserError(Exception):
    """A mistake in what was asked for. The message is one line: the cause, then the remedy."""

    exit_code = 2


class Failed(UserError):
    """Work that was begun and did not go well."""

    exit_code = 1


class Interrupted(UserError):
    """Ctrl-C."""

    exit_code = 130


def one_line(error: BaseException) -> str:
    """An exception's first line that says something, without the library's decoration."""
    try:
        text = str(error)
    except (Exception, SystemExit):  # of somebody's own class
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def os_remedy(error: OSError) -> str:
    """What to do about a file that the system doesn't let us write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space on the disk, or choose another folder"
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
        return "choose another name"
    return "choose a writable folder"


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was too small, in whichever way libraries do.

    torch has an exception for it on a GPU, and on a CPU only words.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("allocate memory", "Storage size calculation overflowed")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)
