"""One side of a comparison: a run, or a folder of runs of one job, as it lies on disk."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svdbench.errors import UserError, one_line
from svdbench.files import NAME
from svdbench.record.lines import RecordError
from svdbench.record.reader import CONFIG, ENVIRONMENT, RecordedRun
from svdbench.record.schema import PLACE

Row = dict[str, str]

# In which folder of a side a row was found; no column of any table has this name.
RUN = "run folder"

# Keys of a configuration that say where a run goes or for how long it may, not what it is.
_FREE = (*PLACE, "seed", "seeds", "max_minutes", "budget_s")


@dataclass(frozen=True)
class Side:
    """What one side of a comparison has written down.

    Attributes:
        name: what the user called it.
        job: the command that wrote it.
        summary, samples: rows, every value as text, with the run's folder beside.
        environments: what each ``env.json`` says; empty where there is none.
        settings: of each run, its configuration, flat: ``{"sizes.m": 32, …}``.
        complaints: about files that could be read in part.
    """

    name: str
    job: str
    summary: list[Row]
    samples: list[Row]
    environments: list[dict[str, Any]]
    settings: list[dict[str, Any]]
    complaints: list[str]

    @property
    def versions(self) -> set[str]:
        """The versions of the schema that the rows have."""
        return {row["schema_version"] for row in self.summary}

    def values(self, column: str) -> set[str]:
        """What stands in a column of the summary, empty cells left out."""
        return {row[column] for row in self.summary if row.get(column)}


def load(given: str, results: Path = Path("results")) -> Side:
    """Read a folder, or a name that only one run under ``results`` has.

    A folder without tables of its own stands for the runs in it: repetitions of the same
    cells, or the parts of a sweep.

    Raises:
        UserError: no such run, several, or one that can't be read.
    """
    runs = _runs(_find(given, results))
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        summary, samples = _rows(runs, "summary"), _rows(runs, "samples")
    jobs = sorted({row.get("job", "") for row in summary})
    if not summary:
        raise UserError(f"{given} has no rows in summary.csv: nothing was measured")
    if len(jobs) > 1:
        raise UserError(
            f"{given} holds runs of several jobs ({', '.join(jobs)}): give the folder of one job"
        )
    return Side(
        given,
        jobs[0],
        summary,
        samples,
        [run.facts if (run.folder / ENVIRONMENT).exists() else {} for run in runs],
        [_settings(run) for run in runs],
        [str(complaint.message) for complaint in complaints],
    )


def _find(given: str, results: Path) -> Path:
    path = Path(given)
    try:
        if path.is_dir():
            return path
        if path.exists():
            raise UserError(f"{given} is a file: give the folder of a run")
        if (results / path).is_dir() and ".." not in path.parts and not path.is_absolute():
            candidates = [results / path] if _having_tables(results / path) else []
        else:
            candidates = []
        if not candidates and NAME.fullmatch(given):
            found = (one for depth in range(1, 5) for one in results.glob("*/" * depth + given))
            candidates = sorted(one for one in found if _having_tables(one))
    except (OSError, ValueError) as error:  # a name too long, or with NUL in it
        raise UserError(f"can't read {given!r}: {one_line(error)}: check the path") from error
    if len(candidates) > 1:
        raise UserError(
            f"several runs are called {given!r}: give the folder, "
            f"{', '.join(map(str, candidates[:3]))}{' or another' * (len(candidates) > 3)}"
        )
    if not candidates:
        raise UserError(
            f"there is no run {given!r}: give a folder, such as results/time-fasth/NAME, "
            f"or a name under {results}/"
        )
    return candidates[0]


def _having_tables(folder: Path) -> list[RecordedRun]:
    """The runs in a folder, or in the only job in it; where there is none, itself if a run."""
    for place in (folder, *_folders_in(folder)):
        parts = RecordedRun(place).parts
        if runs := [run for run in parts if (run.folder / "summary.csv").is_file()]:
            return runs
    return []


def _folders_in(folder: Path) -> list[Path]:
    """Those of jobs, where a folder is one for results; none where it has several."""
    found = [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
    jobs = [each for each in found if any(each.glob("*/summary.csv"))]
    return jobs if len(jobs) == 1 else []


def _runs(folder: Path) -> list[RecordedRun]:
    try:
        runs = _having_tables(folder)
    except OSError as error:
        raise UserError(f"can't read {folder}: {error.strerror}: check its permissions") from error
    if not runs:
        raise UserError(f"{folder} is not a run: neither it nor a folder in it has a summary.csv")
    return runs


def _rows(runs: list[RecordedRun], table: str) -> list[Row]:
    found = []
    for run in runs:
        for row in run.lines(table):
            if not {"cell", "job", "status"} <= row.keys():
                path = run.folder / f"{table}.csv"
                raise RecordError(f"{path} is not a table of svdbench: it has no cells")
            found.append(row | {RUN: run.folder.name})
    return found


def _settings(run: RecordedRun) -> dict[str, Any]:
    """The configuration without the keys that say where; nothing where there is none."""
    found = run.settings if (run.folder / CONFIG).exists() else {}
    return {key: value for key, value in found.items() if key.rpartition(".")[2] not in _FREE}
