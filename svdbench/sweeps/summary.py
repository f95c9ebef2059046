"""``summary.csv`` of a sweep: the rows of all its jobs, with what was swept in front."""

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from svdbench.errors import UserError
from svdbench.record.lines import RecordError, read_rows, writing
from svdbench.record.schema import SCHEMA_VERSION
from svdbench.sweeps.kept import read_overrides
from svdbench.sweeps.plan import Job
from svdbench.sweeps.states import FAILED, INTERRUPTED, OK, RUNNING, State, States
from svdbench.whole import replacing

Row = dict[str, str]


def write_summary(
    folder: Path, name: str, jobs: Sequence[Job], states: dict[str, State]
) -> list[Row]:
    """Write the table of a sweep whole; its rows.

    A job that didn't end well has a row that says so, besides those that it wrote.

    Args:
        folder: of the sweep.
        name: of the command, as rows have it.
        states: by the jobs' folders.

    Raises:
        RecordError: it can't be written.
    """
    rows = _of_all(folder, name, jobs, states)
    keys = dict.fromkeys(key for job in jobs for key in job.values)
    columns = dict.fromkeys(["schema_version", "job", "folder", *keys])
    columns |= dict.fromkeys(column for row in rows for column in row)
    path = folder / "summary.csv"
    with (
        writing(path),
        replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return rows


def rows_so_far(folder: Path) -> list[Row] | None:
    """The summary of a sweep that has not ended, made of what its jobs have written.

    Returns:
        None for a sweep that has: its ``summary.csv`` holds for good; and for one of which
        nothing more can be read.
    """
    states = States(folder)
    try:
        overrides = read_overrides(folder)
    except UserError:
        return None
    found = {job: states.read(job) for job in overrides}
    ended = all(state.over for state in found.values())
    if not found or (ended and (folder / "summary.csv").is_file()):
        return None
    settings = {
        job: dict(text.split("=", 1) for text in texts if "=" in text)
        for job, texts in overrides.items()
    }
    keys = dict.fromkeys(key for own in settings.values() for key in own)
    swept = [key for key in keys if len({own.get(key) for own in settings.values()}) > 1]
    jobs = [
        Job(job, texts, {key: settings[job].get(key, "") for key in swept})
        for job, texts in overrides.items()
    ]
    return _of_all(folder, folder.resolve().parent.name, jobs, found)


def _of_all(folder: Path, name: str, jobs: Sequence[Job], states: Mapping[str, State]) -> list[Row]:
    """The rows of all jobs; of one that didn't end well, one more that says so."""
    rows: list[Row] = []
    for job in jobs:
        own, trouble = _rows(folder / job.folder), states[job.folder]
        if isinstance(own, RecordError):
            own, trouble = [], State(FAILED, str(own))
        swept = {"folder": job.folder, **job.values}
        rows += [swept | row for row in own]
        if trouble.status != OK:
            rows.append(swept | _missing(name, job, trouble))
    return rows


def _rows(run: Path) -> list[Row] | RecordError:
    """Those of a job; none where there is no table."""
    if not (run / "summary.csv").exists():
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a torn line is of a job that was killed: it has a row
            return read_rows(run / "summary.csv")
    except RecordError as error:
        return error


def _missing(name: str, job: Job, state: State) -> Row:
    """The row of a job that didn't end well."""
    status, reason = state.status or "skipped", state.reason or "it has not begun"
    if status == RUNNING:
        status, reason = INTERRUPTED, "it was running when the sweep was left"
    return {
        "schema_version": str(SCHEMA_VERSION),
        "job": name,
        "run_id": job.folder,
        "status": status,
        "reason": " ".join(reason.split()),
    }
