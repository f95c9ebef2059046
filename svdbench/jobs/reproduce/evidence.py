"""The evidence of a result on disk: its runs, their provenance, and what was kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from svdbench.errors import UserError, one_line
from svdbench.files import LARGEST_YAML, read_environment, read_json, read_text, write_whole
from svdbench.job import find_job
from svdbench.jobs.reproduce import numbers
from svdbench.jobs.reproduce.numbers import Evidence
from svdbench.jobs.reproduce.result import (
    NeededRun,
    PublishedResult,
    ResultVerdict,
    answers,
    reason,
    verdict,
)
from svdbench.record.reader import RecordedRun
from svdbench.record.resumption import read_environments
from svdbench.reporting.claims import Answer
from svdbench.reporting.report import Report

COMMAND = "command.txt"
FOLDER = "runs"
MADE = "made.json"


class Missing(Exception):
    """A run, or a table of it, that a result is read from is not there."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of a run: its command, when and where."""

    run: str
    command: str
    cpu: str
    cores: int | None
    gpus: str
    torch: str
    commit: str
    date: str


class Runs:
    """The finished runs of a variant of a result, below ``root``."""

    def __init__(self, root: Path, result: PublishedResult, variant: str) -> None:
        self.root, self.result, self.variant = root, result, variant

    def folder(self, name: str) -> Path:
        """The folder of the run that the result calls ``name``."""
        run = next(run for run in self.result.runs if run.name == name)
        folder = place(self.root, run)
        if not (folder / COMMAND).exists():
            raise Missing(f"{run.run} has not been run")
        return folder

    def table(self, name: str, table: str = "summary") -> pd.DataFrame:
        """A table of the run that the result calls ``name``; of several models, all of them."""
        parts = [run for run in RecordedRun(self.folder(name)).parts if run.has(table)]
        if not parts:
            raise Missing(f"{name} has no {table}.csv")
        return pd.concat([run.frame(table) for run in parts], ignore_index=True)

    def frames(self, name: str) -> dict[str, pd.DataFrame]:
        run = RecordedRun(self.folder(name))
        report: Report = find_job(run.job).report(run)
        return report.frames

    def made(self) -> list[Provenance]:
        return [_made(place(self.root, run), run) for run in self.result.runs]


def place(root: Path, run: NeededRun) -> Path:
    """The folder of a run."""
    return root / FOLDER / run.run


def _made(folder: Path, run: NeededRun) -> Provenance:
    try:
        command = read_text(folder / COMMAND, LARGEST_YAML).strip()
        env = next(path for path in sorted(folder.glob("**/env.json")))
        facts = read_environment(env)
    except (FileNotFoundError, StopIteration) as error:
        raise Missing(f"{run.run} has not been run") from error
    return provenance_of(run.run, command, facts, read_environments(folder))


def provenance_of(
    run: str, command: str, facts: dict[str, Any], sessions: Sequence[dict[str, Any]] = ()
) -> Provenance:
    """From the facts of the first environment, and of those in which the run was made."""
    commits = [str((env.get("source") or {}).get("commit") or "") for env in (facts, *sessions)]
    return Provenance(
        run=run,
        command=command,
        cpu=facts.get("cpu") or "an unnamed CPU",
        cores=facts.get("cores_visible") or facts.get("cores_logical"),
        gpus=", ".join(facts.get("gpus") or []),
        torch=facts.get("torch") or "",
        commit=" and ".join(dict.fromkeys(name[:12] for name in commits if name)),
        date=str(facts.get("timestamp_utc") or "")[:10],
    )


def made_json(made: list[Provenance]) -> str:
    return json.dumps([asdict(one) for one in made], indent=1, ensure_ascii=False) + "\n"


def read_made(path: Path) -> list[Provenance]:
    kept = read_json(path)
    if not (isinstance(kept, list) and all(isinstance(one, dict) for one in kept)):
        raise ValueError(f"{path.name} has a value of the wrong type")
    keys = {field.name for field in fields(Provenance)}
    if any(set(one) != keys for one in kept):
        raise ValueError(f"{path.name} must have the keys {', '.join(sorted(keys))} for each run")
    found = [Provenance(**one) for one in kept]
    for one in found:
        texts = (one.run, one.command, one.cpu, one.gpus, one.torch, one.commit, one.date)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path.name} has a value of the wrong type")
    return found


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
    write_whole(folder / MADE, made_json(judged.made))


def read_evidence(result: PublishedResult, root: Path) -> JudgedResult | None:
    """The evidence of a result below ``root``; None where there is none."""
    folder = root / result.name
    if not (folder / MADE).exists():
        return None
    try:
        return JudgedResult(result, numbers.read(folder), read_made(folder / MADE))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder} can't be read: {one_line(error)}: delete it, and judge again"
        ) from error
