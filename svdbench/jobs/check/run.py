"""Asks one member the questions of its group; other people's code may hang, print or exit."""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from svdbench.contract import Fault, Make, NotAsked, Question
from svdbench.errors import Failed, UserError, as_user_error, nearest, one_line
from svdbench.files import documents
from svdbench.members import Registry, groups, imported, is_reference, plain
from svdbench.reporting.render import screen
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


# A time limit for importing a module of the user's own, which may download or train something.
IMPORT_S = 120.0
STYLES = {"pass": "green", "fail": "bold red", "skip": "dim"}


def run(name: str, typed: Sequence[str], group_name: str | None, limit: float) -> None:
    """Check a member.

    Raises:
        UserError: There is no such member, or no such option.
        Failed: An answer is wrong.
    """
    group = group_of(name, group_name)
    options = {key: value for each in typed for key, value in [_option(each)]}
    console = screen()
    console.print(
        Text.assemble((plain(name), "bold"), f": {group.what} (svdbench.extend.{group.kind})")
    )
    with as_user_error():
        quiet = {"tune": False} if "tune" in group.options_of(plain(name)) else {}
    make = partial(_made, group, plain(name), {**quiet, **options})
    answers = []
    for question in group.contract().questions:
        found = answer(question, make, plain(name), limit)
        answers.append(found)
        _show(console, found)
        if found.ends:
            break
    counted = Counter(each.status for each in answers)
    wrong, skipped = counted["fail"], counted["skip"]
    asked = len(answers) - skipped
    summary = f"{asked - wrong} of {asked} passed"
    if skipped:
        summary += f", {skipped} not asked"
    if not wrong:
        console.print(Text(summary))
        return
    raise Failed(f"{name}: {summary}: change what is marked fail and check again")


def group_of(name: str, group_name: str | None = None) -> Registry:
    """The group that a member belongs to, by its base class or its name.

    Raises:
        UserError: There is none, or a name is in several.
    """
    known = {group.plural: group for group in groups()}
    if group_name is not None and plain(group_name) not in known:
        raise UserError(f"no group is called {group_name!r}: choose from {', '.join(known)}")
    chosen = [known[plain(group_name)]] if group_name else list(known.values())
    if is_reference(name):
        found = within(IMPORT_S, f"importing {name}", lambda: imported(name, "a class"))
        if not isinstance(found, type):
            kind = type(found).__name__
            raise UserError(f"{name} is a {kind}, not a class: name the class")
        fitting = [group for group in chosen if issubclass(found, group.base_class())]
        if not fitting:
            kinds = ", ".join(sorted(group.kind for group in chosen))
            raise UserError(
                f"{name} derives from no base class of svdbench.extend: derive it "
                f"from one of {kinds}"
            )
        return fitting[0]
    fitting = [g for g in chosen if plain(name) in g.known()]
    if len(fitting) > 1:
        choices = " or ".join(f"--group {group.plural}" for group in fitting)
        raise UserError(f"{name!r} is in several groups: add {choices}")
    if not fitting:
        names = [n for group in chosen for n in group.known()]
        close = nearest(plain(name), names)
        hint = f"did you mean {close!r}?" if close else "write MODULE:CLASS for one of your own"
        raise UserError(f"no member is called {name!r}: {hint}")
    return fitting[0]


def _made(group: Registry, name: str, options: dict[str, Any], **more: Any) -> Any:
    return group.load(name, **{**options, **more})


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        raise UserError(f"{text!r} is not KEY=VALUE: write it like block_size=64")
    return key, next(iter(documents(value)), None)


def _show(console: Console, found: Asked) -> None:
    line = Text.assemble(f"  {found.status}  ", found.question.text)
    line.stylize(STYLES[found.status], 2, 6)
    if found.words:
        line.append(f": {found.words}", "" if found.status == "fail" else "dim")
    console.print(line, soft_wrap=True)
    if found.advice:
        console.print(Text(f"        → {found.advice}"), soft_wrap=True)
