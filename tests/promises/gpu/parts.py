"""A part of ``make gpu``: a process with its own time limit, a log and an outcome."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svdbench.reporting.report import Table, TableCell

ROOT = Path(__file__).resolve().parents[3]
# How long a process that was told to end has to do so, and one that was killed to be gone.
END_S = 3.0


@dataclass(frozen=True)
class Part:
    """What to run, and for how long at most.

    Attributes:
        name: of its log, and for ``--only``.
        what: it answers, for the table.
        arguments: of Python.
        ending_s: what it needs of its limit to end, if it can be told when to (``--seconds``).
    """

    name: str
    what: str
    arguments: tuple[str, ...]
    limit_s: float
    ending_s: float | None = None

    def command(self, limit_s: float) -> tuple[str, ...]:
        """The arguments where there are so many seconds."""
        if self.ending_s is None:
            return self.arguments
        return (*self.arguments, "--seconds", f"{max(limit_s - self.ending_s, 1.0):.0f}")


@dataclass(frozen=True)
class PartOutcome:
    """How a part ended: ``ok``, ``failed``, ``stopped`` at its limit, or ``skipped``."""

    part: Part
    status: str
    seconds: float = 0.0
    words: str = ""


def run_part(
    part: Part, folder: Path, limit_s: float, environment: Mapping[str, str], quiet: bool = False
) -> PartOutcome:
    """Run a part; its output goes to the screen, unless ``quiet``, and to ``<name>.log``.

    At the limit it and all processes that it started are ended, so that a hang costs this part
    alone.
    """
    begin = time.monotonic()
    process = start(part.command(limit_s), environment)
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        with open(folder / f"{part.name}.log", "w", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                lines.append(line.strip())
                if not quiet:
                    print(line, end="", flush=True)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        code: int | None = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        end(process)
    reader.join(END_S)
    seconds = time.monotonic() - begin
    if code is None:
        return PartOutcome(part, "stopped", seconds, f"not done within {limit_s:.0f} s")
    if code:
        said = [line for line in lines if line.startswith("FAILED")]
        last = next((line for line in reversed(lines) if line.strip("=- ")), "")
        words = said[0] if said else last or f"exit code {code}"
        more = f" and {len(said) - 1} more" if len(said) > 1 else ""
        return PartOutcome(part, "failed", seconds, words + more)
    return PartOutcome(part, "ok", seconds)


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A Python process in a group of its own, in the root of the checkout."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """End a process and whatever it left running; one that can't be killed is left alone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(END_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def outcomes_table(outcomes: Sequence[PartOutcome]) -> Table:
    """How each part ended."""
    table = Table.of("parts", ["part", "answers"], ["seconds"], more_words=["", "why"])
    cells = {
        "ok": TableCell("done", "good"),
        "failed": TableCell("failed", "bad"),
        "stopped": TableCell("stopped", "bad"),
        "skipped": TableCell("skipped"),
    }
    for outcome in outcomes:
        part = outcome.part
        table.add(
            part.name, part.what, f"{outcome.seconds:.0f}", cells[outcome.status], outcome.words
        )
    return table
