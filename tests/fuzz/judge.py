"""Runs ``svdbench`` on input that may be wrong, and judges how it ends.

A mistake ends with one line on standard error and exit code 2, changes no file, and ends at
all. Jobs stop where their measuring or training would begin (see conftest.py).
"""

import os
import resource
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from command import Answer, run
from hypothesis import HealthCheck, example, given, settings
from hypothesis.strategies import SearchStrategy

from svdbench.errors import UserError

LIMIT_S = 60
SPARE_BYTES = 6 << 30
PAGES = ("report.html", "index.html")


class Hangs(BaseException):
    """No exception that a command could take for one of the system's."""


# How many inputs ended how, over all tests of a session.
ENDS: Counter[str] = Counter()


class Accepted(UserError):
    """Everything was found to be in order, and work would begin now."""

    exit_code = 0


@contextmanager
def limited() -> Iterator[None]:
    """Raises Hangs in what hangs, and MemoryError in what reads without end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"not done after {LIMIT_S} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def contents(root: Path) -> dict[str, Any]:
    """What a folder holds, by path: the bytes of files, where links lead, the kind of the rest."""
    found: dict[str, Any] = {}
    for path in root.rglob("*"):
        if "__pycache__" in path.parts:  # Python's own, of a model that was imported
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[str(path)] = path.readlink()
        else:
            found[str(path)] = path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
    return found


def secrets() -> list[str]:
    """What only the environment has, and nobody may read from there."""
    return [value for name, value in os.environ.items() if name.startswith("SVDBENCH_SECRET")]


def judged(arguments: list[str], codes: tuple[int, ...] = (0, 1, 2, 3)) -> Answer:
    """What a command says, if it ends as it should.

    Args:
        codes: those with which it may end.
    """
    # What surrounds the current folder is watched, too.
    watched = Path.cwd().parent
    before = contents(watched)
    with limited():
        answer = run(arguments)
    assert answer.code in codes, f"exit code {answer.code}: {answer.err}"
    assert not any(value in answer.err + answer.out for value in secrets()), "a secret is told"
    assert "Traceback" not in answer.err + answer.out
    if answer.code in (2, 3):
        assert answer.err.startswith("svdbench: "), answer.err
        assert answer.err.count("\n") == 1, answer.err
        assert answer.err.removesuffix("\n").isprintable(), answer.err
        assert len(answer.err) < 2000, answer.err
        assert answer.out == "", answer.out
        assert contents(watched) == before
    _clear(watched, set(before), free=any("results" in one for one in arguments))
    ENDS["refused" if answer.code in (2, 3) else "accepted"] += 1
    return answer


def _clear(watched: Path, before: set[str], free: bool) -> None:
    """Remove what was written: pages, and results inside of ``results`` where none said other."""
    own = Path("results").absolute()
    for path in map(Path, sorted(set(contents(watched)) - before, reverse=True)):
        assert free or own in (path, *path.parents) or path.name in PAGES, f"{path} was written"
        path.rmdir() if path.is_dir() else path.unlink()


def hunt(
    check: Callable[[Any], None],
    cases: SearchStrategy[Any],
    examples: int,
    random: bool,
    known: list[Any] | None = None,
) -> None:
    """Try ``check`` on so many cases, and before on those that were mistakes once."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=not random,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def trial(case: Any) -> None:
        check(case)

    for case in known or ():
        trial = example(case)(trial)
    trial()
