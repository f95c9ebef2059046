"""The folder of a result on disk: numbers, curves, their provenance, and pages."""

from dataclasses import dataclass
from pathlib import Path

from svdbench.errors import UserError, one_line
from svdbench.files import replace_atomically
from svdbench.jobs.reproduce import numbers
from svdbench.jobs.reproduce.numbers import Evidence
from svdbench.jobs.reproduce.result import PublishedResult, ResultVerdict, answers, reason, verdict
from svdbench.jobs.reproduce.runs import Provenance, made_json, read_made
from svdbench.reporting.claims import Answer

MADE = "made.json"


@dataclass(frozen=True)
class JudgedResult:
    """A result with its numbers and the verdict by them."""

    result: PublishedResult
    measured: Evidence
    made: list[Provenance]

    @property
    def answers(self) -> list[Answer]:
        return answers(self.result.claims, self.measured.numbers)

    @property
    def verdict(self) -> ResultVerdict:
        return verdict(self.answers)

    @property
    def reason(self) -> str:
        return reason(self.answers)


def write_evidence(judged: JudgedResult, root: Path) -> None:
    """Write numbers, curves and provenance into the result's folder below ``root``."""
    folder = root / judged.result.name
    folder.mkdir(parents=True, exist_ok=True)
    numbers.write(judged.measured, folder)
    with replace_atomically(folder / MADE) as partial:
        partial.write_text(made_json(judged.made), encoding="utf-8")


def read_evidence(result: PublishedResult, root: Path) -> JudgedResult | None:
    """The evidence of a result below ``root``; None where there is none.

    Raises:
        UserError: the files can't be read.
    """
    folder = root / result.name
    if not (folder / MADE).exists():
        return None
    try:
        return JudgedResult(result, numbers.read(folder), read_made(folder / MADE))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder} can't be read: {one_line(error)}: delete it, and judge it anew"
        ) from error
