"""Calls of the user's own code: errors become one line, and the process stays as it was."""

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from svdbench.errors import Failed, UserError, one_line, out_of_memory

# What is raised in these without code of the user's in between is a mistake in what was asked
# for, as data of another shape than the model's.
LIBRARIES = frozenset({"numpy", "safetensors", "scipy", "torch"}) | sys.stdlib_module_names


# What svdbench raises where something is not available.
MISTAKES = (LookupError, RuntimeError, TypeError, ValueError)


STREAMS = {"stdout": "the standard output", "stderr": "the standard error"}


@contextmanager
def user_code(what: str, misfit: str | None = None) -> Iterator[None]:
    """Run code of the user's own: a function, a module, or something that calls a model.

    The working directory is the same afterwards, and both output streams are open.

    Args:
        what: the function's name, which begins the message.
        misfit: what begins it in its place, where no code of the user's failed.

    Raises:
        Failed: the code raised, SystemExit and KeyboardInterrupt included, with the line
            that it comes from; or that it closed an output stream.
        UserError: an error of svdbench or PyTorch that no code of the user's has a part in.
        KeyboardInterrupt: ^C.
        MemoryError, RuntimeError: not enough memory.
    """
    with _streams_open(what), _same_directory(), _interrupts() as was_pressed:
        try:
            yield
        except UserError:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit) and was_pressed(error):
                raise KeyboardInterrupt from error
            if out_of_memory(error):
                raise
            origin = _origin(error)
            if not isinstance(error, Exception) or _is_users(origin):
                raise Failed(f"{what} failed: {described(error, origin)}") from error
            if isinstance(error, MISTAKES) or _package(_frames(error)[-1][0]) != "svdbench":
                raise UserError(f"{misfit or what}: {_reworded(error)}") from error
            raise


def call(function: Callable[..., Any], *arguments: Any, misfit: str) -> Any:
    """The result of a function of the user's own.

    Args:
        misfit: the message if it can't be called with these arguments.

    Raises:
        UserError: it can't; what the function itself raises is passed on.
    """
    try:
        return function(*arguments)
    except TypeError as error:
        if _frames(error):
            raise
        raise UserError(misfit) from error


# What Python says where a function isn't called as it must be, and what is said in its place.
_MISFITS = (
    (r"(\S+) missing \d+ required .*?arguments?: (.+)", "{} needs {}, which it is not given"),
    (r"(\S+) takes .*arguments? but .* given", "{} is given more arguments than it takes"),
    (r"(\S+) got an unexpected .*argument ('.+?')", "{} has no parameter {}, but is given one"),
    (r"Can't instantiate abstract class (\w+) .*abstract methods? (.+)", "{} must define {}"),
)


def _reworded(error: BaseException) -> str:
    """The text of an error, in plain words where a function or a class was misused."""
    text = one_line(error)
    for pattern, words in _MISFITS if isinstance(error, TypeError) else ():
        if match := re.match(pattern, text):
            return words.format(*match.groups())
    return text


def described(error: BaseException, origin: BaseException | None = None) -> str:
    """The type of an exception, what it says, and the last line of the user's that it passed.

    Args:
        origin: the exception that was raised there, if another.
    """
    if raised := _from_worker(error):
        return raised
    said, text = type(error).__name__, one_line(error)
    if text != said:
        said += f": {text}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{said} ({Path(error.filename).name}, line {error.lineno})"
    frames = _frames(origin or error)
    own = [each for each in frames if _package(each[0]) not in LIBRARIES | {"svdbench"}]
    if not (own or frames):
        return said
    frame, line = (own or frames)[-1]
    return f"{said} ({Path(frame.f_code.co_filename).name}, line {line})"


def _is_users(error: BaseException) -> bool:
    """Whether the user's code was called last, directly or through a library."""
    if _from_worker(error):
        return True
    for frame, _ in reversed(_frames(error)):
        package = _package(frame)
        if package not in LIBRARIES:
            return package != "svdbench"
    return False


def _origin(error: BaseException) -> BaseException:
    """The exception of the user's code that svdbench has reworded, or the error itself."""
    cause = error.__cause__
    reworded = cause is not None and not _is_users(error) and _is_users(cause)
    return cause if cause is not None and reworded else error


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    """Frames, outermost first, without those of this file and of imports."""
    return [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename != __file__ and "<frozen" not in frame.f_code.co_filename
    ]


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _from_worker(error: BaseException) -> str:
    """The exception of a ``DataLoader`` process, whose traceback torch keeps as text."""
    with suppress(Exception):
        lines = str(error).strip().splitlines()
        if lines and re.match(r"Caught \w+ in DataLoader worker process", lines[0]):
            places = re.findall(r'File "(.+?)", line (\d+)', str(error))
            own = [place for place in places if f"{os.sep}torch{os.sep}" not in place[0]]
            where = f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""
            return f"{lines[-1]}{where}"
    return ""


@contextmanager
def _interrupts() -> Iterator[Callable[[BaseException], bool]]:
    """Tells ^C from a KeyboardInterrupt that code raises, or turns ^C into.

    Where that is unknown, outside the main thread or under another signal handler, a
    KeyboardInterrupt is taken for ^C.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda error: isinstance(error, KeyboardInterrupt)
        return
    pressed: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda error: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _same_directory() -> Iterator[None]:
    before = None
    with suppress(OSError):  # it may have been deleted
        before = os.getcwd()
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                os.chdir(before)


@contextmanager
def _streams_open(what: str) -> Iterator[None]:
    """Reopens output streams that were closed, and raises Failed."""
    streams = {name: getattr(sys, name) for name in STREAMS}
    copies: dict[str, tuple[int, int]] = {}
    for name, stream in streams.items():
        with suppress(AttributeError, OSError, ValueError):  # no file, as in a notebook
            copies[name] = stream.fileno(), os.dup(stream.fileno())
    closed: list[str] = []
    try:
        yield
    finally:
        for name, stream in streams.items():
            number, copy = copies.get(name, (-1, -1))
            if stream is not None and (stream.closed or not _is_open(number)):
                closed.append(STREAMS[name])
            if copy >= 0:
                if not _is_open(number):
                    os.dup2(copy, number)
                if stream.closed:
                    options = {"encoding": stream.encoding, "errors": stream.errors}
                    stream = open(number, "w", buffering=1, closefd=False, **options)  # noqa: SIM115
                os.close(copy)
            setattr(sys, name, stream)
    if closed:
        raise Failed(f"{what} closed {' and '.join(closed)}: leave it open")


def _is_open(number: int) -> bool:
    """Whether a file descriptor is open; True for none."""
    if number < 0:
        return True
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
