"""Errors that the user can fix: one line with the cause and the remedy, exit code 2."""

import errno
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class UserError(Exception):
    """An error the user can fix. The message is one line: the cause, then the remedy.

    Example:
        >>> try:
        ...     svdbench.run("time-fast")
        ... except svdbench.UserError as error:
        ...     print(error.exit_code)
        2
    """

    exit_code = 2


class Failed(UserError):
    """Work that was started and failed."""

    exit_code = 1


class Interrupted(UserError):
    """Ctrl-C."""

    exit_code = 130


@contextmanager
def as_user_error(kind: type[Exception] = ValueError) -> Iterator[None]:
    """Raise UserError in place of such exceptions, with their message in one line."""
    try:
        yield
    except kind as error:
        raise UserError(one_line(error)) from error


def check_text(name: str, text: str) -> None:
    """Refuse what no name of a file can have.

    Raises:
        ValueError: a NUL character, or half of a surrogate pair.
    """
    if "\0" in text:
        raise ValueError(f"{name} has a NUL character: leave it out")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has half of a surrogate pair: leave it out") from error


def nearest(name: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The one of the known names that is spelt most like this one; None if none is alike."""
    from difflib import get_close_matches  # only mistakes need it

    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an exception is ^C, or was caused by it."""
    passed = set[int]()
    while error is not None and id(error) not in passed:
        if isinstance(error, KeyboardInterrupt):
            return True
        passed.add(id(error))  # under a debugger, OmegaConf's are their own cause
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """An exception's first line that says something, without the library's decoration."""
    if out_of_memory(error):
        return _too_little_memory(error)
    lines = [line.strip() for line in _text(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _text(error: BaseException) -> str:
    """The text of an exception; empty where its own ``__str__`` fails."""
    try:
        return str(error)
    except (Exception, SystemExit):
        return ""


def os_remedy(error: OSError) -> str:
    """The remedy for a file that the system does not let us write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space on the disk, or choose another folder"
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
        return "choose another name"
    return "choose a writable folder"


def name_too_long(error: BaseException) -> str | None:
    """An error message where an exception says that a path is longer than paths may be."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = max(str(error.filename).split("/"), key=len)
        return f"{name[:40]!r}… is too long for the name of a file: choose another name"
    return None


# What libraries say where memory is too small, if they have no exception for it.
_WORDS = (
    "allocate memory",
    "Storage size calculation overflowed",
    "Stride calculation overflowed",
    "STATUS_ALLOC_FAILED",
    "out of memory",  # CUDA's own words, where it is not torch's allocator that asks
    "array is too big",
)


# What CUDA says of a kernel that broke the context of its process.
_LOST = (
    *("illegal memory access", "misaligned address", "device-side assert", "illegal instruction"),
    *(
        "unspecified launch failure",
        "launch timed out",
        "uncorrectable ECC",
        "hardware stack error",
    ),
)


def device_lost(error: BaseException) -> bool:
    """Whether every later call of CUDA in this process will fail too, whoever makes it."""
    text = _text(error)
    return "CUDA" in text and any(words in text for words in _LOST)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was too small, in whichever way libraries do.

    torch has an exception for it on a GPU, and on a CPU only words.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | ValueError) and any(
        words in _text(error) for words in _WORDS
    )


def _too_little_memory(error: BaseException) -> str:
    """The message, with the amount that was asked for where the error has it."""
    text = _text(error)
    what = "GPU memory" if "CUDA" in text or "CUBLAS" in text else "memory"
    if match := re.search(r"allocate (\d{1,20}(?:\.\d+)?) ?([KMGTPE]iB|bytes)", text):
        amount, unit = float(match[1]), match[2]
        if unit == "bytes":
            power = min(max(0, int(math.log(max(amount, 1), 1024))), 6)
            amount, unit = amount / 1024**power, ("bytes", *(f"{c}iB" for c in "KMGTPE"))[power]
        return f"not enough {what} for {amount:.3g} {unit}"
    return f"not enough {what}"


def refuse_second_derivative(what: str) -> None:
    """Raise RuntimeError within a backward pass that is to be differentiated itself.

    ``torch.autograd.function.once_differentiable`` is not enough: where another path leads to a
    tensor, ``torch.autograd.grad`` leaves out what can't be differentiated, and says nothing.
    """
    import torch

    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            f"{what} has first derivatives only: leave create_graph out, or train a model without "
            "it"
        )
