"""Runs ``svdbench`` on input that may be wrong, and judges how it ends.

A mistake ends with one line on standard error and exit code 2, changes no file, and ends at
all. Jobs stop where their measuring or training would begin (see conftest.py).
"""

import os
import re
import resource
import signal
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from command import Answer, run
from hypothesis import HealthCheck, example, given, settings
from hypothesis.strategies import SearchStrategy

from svdbench.errors import UserError

LIMIT_S = 10  # of the processor, which a busy machine doesn't change
WAIT_S = 120  # by the clock, but while the process is stopped
SPARE_BYTES = 6 << 30
PAGES = ("report.html", "index.html")

# What no user should have to read: Python's and other libraries' own words.
FOREIGN = re.compile(
    r"Traceback|internal error|ListConfig|DictConfig|OmegaConf|NoneType|<class|<enum|object has no|"
    r"not subscriptable|enforce fail|LexerNoViable|could not be converted|Input should be|"
    r"unexpected keyword|positional argument|not Optional|raised while composing|RecursionError|"
    r"recursion depth|Config group|defaults list|cannot access local|dereferenc|0x7f|"
    r"missing \d+ required|null byte|Supports one of"
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Hangs(BaseException):
    """No exception that a command could take for one of the system's."""


# How many inputs ended how, over all tests of a session, and which did as none should.
ENDS: Counter[str] = Counter()
FINDINGS: dict[str, set[str]] = {"tracebacks": set(), "hangs": set(), "files outside": set()}

# Paths that the command of the moment writes, makes, moves or deletes.
_touched: list[str] | None = None


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if _touched is None:
        return
    if event == "open":
        path, _, flags = given
        if isinstance(flags, int) and flags & WRITING:
            _touched.append(os.fsdecode(path) if not isinstance(path, int) else "")
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
        _touched.append(os.fsdecode(given[0]) if not isinstance(given[0], int) else "")
    elif event in ("os.rename", "os.symlink", "os.link"):
        _touched.append(os.fsdecode(given[1]))


sys.addaudithook(_audit)


@contextmanager
def written_inside(*roots: Path | str) -> Iterator[None]:
    """Notes what is written elsewhere than in some folders, or in a device."""
    global _touched
    here, _touched = os.getcwd(), []
    try:
        yield
    finally:
        paths, _touched = _touched, None
    inside = [*map(str, roots), "/dev"]
    for path in filter(None, paths):
        whole = os.path.abspath(os.path.join(here, path))
        if "__pycache__" not in path and not any(
            whole == root or whole.startswith(f"{root}/") for root in inside
        ):
            FINDINGS["files outside"].add(whole)
            raise AssertionError(f"{whole} was written")


class Accepted(UserError):
    """Everything was found to be in order, and work would begin now."""

    exit_code = 0


@contextmanager
def limited() -> Iterator[None]:
    """Raises Hangs in what hangs, and MemoryError in what reads without end."""

    waited = count(1)

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGPROF:
            raise Hangs(f"not done after {LIMIT_S} s of computing")
        if next(waited) >= WAIT_S:
            raise Hangs(f"not done after {WAIT_S} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


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
    try:
        cache = os.path.abspath(os.environ["SVDBENCH_CACHE"])
        with written_inside(watched, cache, tempfile.gettempdir()), limited():
            answer = run(arguments)
        check_answer(answer, codes)
    except Hangs:
        FINDINGS["hangs"].add(str(arguments))
        raise
    except Exception:  # which no command lets out
        FINDINGS["tracebacks"].add(str(arguments))
        raise
    if answer.code in (2, 3):
        assert contents(watched) == before
    # Where results or a table go may be any place that is named.
    named = any("results" in one or "--output" in one or one[:2] == "-o" for one in arguments)
    _clear(watched, set(before), free=named)
    ENDS["refused" if answer.code in (2, 3) else "accepted"] += 1
    return answer


# What Python itself says of PYTHONWARNINGS, before a line of ours runs.
BEFORE_US = re.compile(r"\A(Invalid -W option ignored: .*\n)+")


def check_answer(answer: Answer, codes: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """Check the exit code, and that a mistake is one line in plain words."""
    if answer.code not in codes or FOREIGN.search(answer.err + answer.out):
        FINDINGS["tracebacks"].add(answer.err)
    assert answer.code in codes, f"exit code {answer.code}: {answer.err}"
    assert not any(value in answer.err + answer.out for value in secrets()), "a secret is told"
    assert not FOREIGN.search(answer.err + answer.out), answer.err
    if answer.code in (2, 3):
        err = BEFORE_US.sub("", answer.err)
        assert err.startswith("svdbench: "), answer.err
        assert err.count("\n") == 1, answer.err
        assert err.removesuffix("\n").isprintable(), answer.err
        assert len(err) < 2000, answer.err
        assert answer.out == "", answer.out


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
