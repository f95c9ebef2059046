"""Asks one question of other people's code, which may hang, print, exit or change settings."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from types import FrameType
from typing import Any

import torch

from svdbench.contract import Fault, Make, NotAsked, Question
from svdbench.errors import Failed, UserError, one_line
from svdbench.user_code import user_code

# Once the limit has passed, code that catches the alarm, or never returns to Python, is given so
# many seconds more before the process is ended.
GRACE_S = 5.0


class TooLong(BaseException):
    """The time limit of a question has passed; no Exception, so that few handlers catch it."""


@dataclass(frozen=True)
class Asked:
    """What came of a question.

    Attributes:
        status: ``pass``, ``fail`` or ``skip``.
        words: what was found, in a few words.
        ends: whether asking more is of no use.
    """

    question: Question
    status: str
    words: str = ""
    advice: str = ""
    ends: bool = False


def answer(question: Question, make: Make, name: str, limit_s: float) -> Asked:
    """Ask a question within a time limit, with output captured and settings restored."""
    printed = StringIO()
    before = _settings()
    torch.manual_seed(0)
    failed: dict[str, Any] = {"question": question, "status": "fail"}
    try:
        with (
            limited(limit_s, f"  fail  {question.text}"),
            redirect_stdout(printed),
            redirect_stderr(StringIO()),
            user_code(name),
        ):
            question.ask(make)
    except TooLong:
        return Asked(
            **failed,
            words=f"it did not answer within {limit_s:g} s",
            advice="look for an endless loop or a wait; --limit SECONDS allows more time",
            ends=True,
        )
    except (UserError, Exception) as error:
        origin = _origin(error)
        if isinstance(origin, NotAsked):
            return Asked(question, "skip", one_line(origin))
        if isinstance(origin, Fault):
            return Asked(**failed, words=origin.found, advice=origin.advice or question.advice)
        return Asked(**failed, words=one_line(error), advice=_advice(error))
    finally:
        changed = _restore(before)
    if changed:
        advice = "leave PyTorch's global settings as they are, or restore them"
        words = f"it changed {changed} for the whole process"
        return Asked(**failed, words=words, advice=advice)
    if text := printed.getvalue().strip():
        first = text.splitlines()[0][:60]
        advice = "remove the print: it would appear between the lines of every run"
        return Asked(**failed, words=f"it printed {first!r}", advice=advice)
    return Asked(question, "pass")


def _origin(error: BaseException) -> BaseException:
    """The fault behind an error that ``user_code`` has reworded."""
    if not isinstance(error, Fault | NotAsked) and isinstance(error.__cause__, Fault | NotAsked):
        return error.__cause__
    return error


def _advice(error: BaseException) -> str:
    text = one_line(error)
    if "must define" in text or "abstract" in text:
        return "define every method that the base class leaves open: see help(svdbench.extend)"
    if "in-place" in text or "inplace" in text or "leaf" in text:
        return "work on a copy: no operation whose name ends in _ on an input or a saved tensor"
    if "does not require grad" in text:
        return "compute the result by differentiable operations, without no_grad, detach or .data"
    if "dtype" in text or "same type" in text or "Half" in text or "not implemented for" in text:
        return "make new tensors in the dtype of the input, or return a reason from skip"
    if "SystemExit" in text or "KeyboardInterrupt" in text:
        return "return a value or raise a ValueError; do not end the process"
    return ""


def _settings() -> dict[str, Any]:
    return {
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "whether gradients are recorded": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _restore(before: dict[str, Any]) -> str:
    """Put the settings back; those that differed, in words."""
    changed = [name for name, value in _settings().items() if value != before[name]]
    torch.set_default_dtype(before["the default dtype"])
    if "the number of threads" in changed:
        torch.set_num_threads(before["the number of threads"])
    torch.set_grad_enabled(before["whether gradients are recorded"])
    if "deterministic algorithms" in changed:
        torch.use_deterministic_algorithms(before["deterministic algorithms"])
    return " and ".join(changed)


def within(seconds: float, what: str, work: Callable[[], Any]) -> Any:
    """The result of a piece of work, within a time limit.

    Raises:
        Failed: The limit has passed.
    """
    try:
        with limited(seconds, f"svdbench: {what}"):
            return work()
    except TooLong:
        raise Failed(f"{what} took more than {seconds:g} s: look for an endless loop") from None


@contextmanager
def limited(seconds: float, line: str) -> Iterator[None]:
    """Raise :class:`TooLong` in the block after so many seconds, and once more each second.

    Any other exception that leaves the block after that becomes one. Where the block does not
    end, the process ends with exit code 1 after the grace.

    Args:
        line: what the last words begin with in that case.
    """
    passed = threading.Event()

    def ring(number: int, frame: FrameType | None) -> None:
        passed.set()
        raise TooLong

    out = sys.stdout

    def end() -> None:
        print(f"{line}: it did not answer within {seconds:g} s and cannot be interrupted", file=out)
        out.flush()
        os._exit(1)

    last = threading.Timer(seconds + GRACE_S, end)
    last.daemon = True
    alarm = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    old = signal.signal(signal.SIGALRM, ring) if alarm else None
    last.start()
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except BaseException:
        if passed.is_set():
            raise TooLong from None
        raise
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        last.cancel()
