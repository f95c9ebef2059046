"""The folder of a result on disk: numbers, curves, what made them, and pages made of these."""

from dataclasses import dataclass
from pathlib import Path

from svdbench.errors import UserError, one_line
from svdbench.files import replacing
from svdbench.reproduce import numbers
from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.result import Result
from svdbench.reproduce.runs import Made, made_json, read_made
from svdbench.reproduce.verdict import Answer, Verdict, answers, reason, verdict

MADE = "made.json"


@dataclass(frozen=True)
class Judged:
    """A result with its numbers, and what they come to."""

    result: Result
    measured: Measured
    made: list[Made]

    @property
    def answers(self) -> list[Answer]:
        return answers(self.result.claims, self.measured.numbers)

    @property
    def verdict(self) -> Verdict:
        return verdict(self.answers)

    @property
    def reason(self) -> str:
        return reason(self.answers)


def keep(judged: Judged, root: Path) -> None:
    """Write numbers, curves and what made them into the result's folder below ``root``."""
    folder = root / judged.result.name
    folder.mkdir(parents=True, exist_ok=True)
    numbers.write(judged.measured, folder)
    with replacing(folder / MADE) as partial:
        partial.write_text(made_json(judged.made), encoding="utf-8")


def kept(result: Result, root: Path) -> Judged | None:
    """What was kept of a result below ``root``; None where nothing was.

    Raises:
        UserError: the files can't be read.
    """
    folder = root / result.name
    if not (folder / MADE).exists():
        return None
    try:
        return Judged(result, numbers.read(folder), read_made(folder / MADE))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder} can't be read: {one_line(error)}: delete it, and judge it anew"
        ) from error
