"""Writes runs as web pages, and the list of all runs of a folder."""

from collections.abc import Sequence
from dataclasses import replace
from os.path import isdir
from pathlib import Path

from svdbench.errors import UserError, one_line, os_remedy
from svdbench.files import replace_atomically
from svdbench.job import all_jobs, find_job
from svdbench.record.reader import RecordedRun, find_runs, is_run, read_run
from svdbench.reporting.formats import format_reports
from svdbench.reporting.html.page import REPORT, RunPage, render, render_index, run_line, run_page
from svdbench.reporting.render import several_versions
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.words import quantity
from svdbench.running.output import TableOutput
from svdbench.running.repeat import repeat, repeat_sweep
from svdbench.running.sweeps import is_sweep
from svdbench.running.sweeps.report import sweep_report
from svdbench.running.sweeps.run import rows_so_far

INDEX = "index.html"


def pages(folders: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Write ``report.html`` into the folder of each run, or one page of all into ``output``.

    Returns what was written. Raises UserError for a folder that is no run, before
    anything is written, and where nothing can be written.
    """
    folders = list(dict.fromkeys(folders))
    for folder in folders:
        _check(folder)
    if output is not None:
        place = output.parent
        return [_write(output, render([_page(folder, place) for folder in folders]))]
    return [_write(folder / REPORT, render([_page(folder, folder)])) for folder in folders]


def text(folders: Sequence[Path]) -> str:
    """One page about all the runs; its pictures are in it."""
    for folder in folders:
        _check(folder)
    return render([_page(folder, Path()) for folder in folders])


def show(folders: Sequence[Path], root: Path, output: TableOutput) -> None:
    """Show the report of a run, or of several one below the other; without any, the list of runs.

    Raises:
        UserError: a folder is no run.
    """
    for folder in folders:
        _check(folder)
    reports = []
    for run in map(_read, dict.fromkeys(folders)):
        reports.append(report_of(run))
        reports[-1].blocks.append(Lines(run.notes))  # such as why there is no report
    if not reports:
        output.show(listing(root))
    elif len(reports) == 1:
        output.show(reports[0])
    else:
        output.write(format_reports(reports, output.form))


def listing(root: Path) -> Table:
    """A row for each run below a folder, the newest first, with its result in a line."""
    table = Table.of("runs", ["folder", "result"], [], keys=1, more_words=["started"])
    runs = [_read(folder) for folder in find_runs(root)]
    for run in sorted(runs, key=lambda run: run.date, reverse=True):
        table.add(str(run.folder), f"{run.job}: {report_of(run).headline}", run.date)
    return table


def index(root: Path) -> Path:
    """Write ``index.html`` with a line for each run below ``root``; its path.

    Raises UserError where there is no run.
    """
    runs = [_read(folder) for folder in find_runs(root)]
    if not runs:
        what = f"{root} holds no runs" if isdir(root) else f"there is no folder {root}"
        raise UserError(f"{what}: give the folder of results as --results FOLDER")
    runs.sort(key=lambda run: run.date, reverse=True)
    lines = [run_line(run, report_of(run), root) for run in runs]
    return _write(root / INDEX, render_index(lines, root.resolve()))


def report_of(run: RecordedRun) -> Report:
    """The report of the run's job; where it can't be made, a note of the run says why."""
    found = Report(run.job, _promises_kept(run))
    if run.summary is None or run.job not in {job.name for job in all_jobs()}:
        return found
    job = find_job(run.job)
    try:
        # Trainings are reported together, sweep or not.
        if run.swept and run.job != "train":
            return sweep_report(run, job.report)
        made: Report = job.report(run)
    except Exception as error:  # files of any kind and age: what there is, is shown
        run.notes.append(
            f"the report of {run.job} can't be made from these files "
            f"({type(error).__name__}: {one_line(error)})"
        )
        return found
    return made


def _promises_kept(run: RecordedRun) -> str:
    """How many of the figures measured by ``make bench`` keep their promise."""
    figures = run.sheet("figures")
    verdicts = [verdict for verdict in figures.column("kept") if verdict] if figures else []
    kept = f"{verdicts.count('True')} of {quantity(len(verdicts), 'figure')} kept"
    return kept if verdicts else ""


def _check(folder: Path) -> None:
    if not isdir(folder):  # unlike Path.is_dir, it takes names that no folder can have
        raise UserError(
            f"there is no folder {folder}: give one of a run, such as results/train/NAME"
        )
    if not is_run(folder):
        inside = next(find_runs(folder), None)
        remedy = "give one that svdbench wrote" if inside is None else f"give those in it: {inside}"
        raise UserError(f"{folder} is not the folder of a run: {remedy}")


def _page(folder: Path, place: Path) -> RunPage:
    run = _read(folder)
    if is_sweep(folder):
        command = repeat_sweep(folder)
    else:
        command = repeat(run.job, run.config, run.environment)
    notes = [*command.notes, *several_versions(folder)]
    return run_page(run, report_of(run), replace(command, notes=notes), place)


def _read(folder: Path) -> RecordedRun:
    try:
        return read_run(folder, rows_so_far(folder) if is_sweep(folder) else None)
    except OSError as error:
        raise UserError(f"can't read {folder}: {error.strerror}: check its permissions") from error


def _write(path: Path, text: str) -> Path:
    try:
        with replace_atomically(path) as partial:
            partial.write_bytes(text.encode(errors="replace"))
    except OSError as error:
        raise UserError(
            f"can't write {path}: {error.strerror or error}: {os_remedy(error)} with --output FILE"
        ) from error
    return path
