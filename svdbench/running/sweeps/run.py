"""Runs a sweep: launches the missing jobs, shows progress, and joins the tables of all."""

import csv
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console

from svdbench.config.grammar import override
from svdbench.errors import Failed, Interrupted, UserError, one_line
from svdbench.files import replace_atomically
from svdbench.record.lines import RecordError, as_record_error, read_rows
from svdbench.record.resumption import may_mix_versions
from svdbench.record.schema import SCHEMA_VERSION, ended_well
from svdbench.reporting.progress import live_progress
from svdbench.reporting.render import print_lines, screen, several_versions
from svdbench.reporting.words import quantity, seconds
from svdbench.running.sweeps.engines import LOCAL, SLURM, launch_by_submitit
from svdbench.running.sweeps.folder import (
    DIED,
    FAILED,
    INTERRUPTED,
    OK,
    RUNNING,
    NothingBegun,
    State,
    States,
    own_folder,
    read_overrides,
    refuse_other_version,
)
from svdbench.running.sweeps.plan import PreparedSweep, Sweep, SweepJob, prepare
from svdbench.running.sweeps.task import LaunchedJob, host_and_process

Row = dict[str, str]


def write_summary(
    folder: Path, name: str, jobs: Sequence[SweepJob], states: dict[str, State]
) -> list[Row]:
    """Write the table of a sweep whole; its rows.

    A job that didn't end well has a row that says so, besides those that it wrote.
    """
    rows = _of_all(folder, name, jobs, states)
    keys = dict.fromkeys(key for job in jobs for key in job.values)
    columns = dict.fromkeys(["schema_version", "job", "folder", *keys])
    columns |= dict.fromkeys(column for row in rows for column in row)
    path = folder / "summary.csv"
    with (
        as_record_error(path),
        replace_atomically(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return rows


def rows_so_far(folder: Path) -> list[Row] | None:
    """The summary of a sweep that has not ended, from the tables that its jobs have written.

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
        SweepJob(job, texts, {key: settings[job].get(key, "") for key in swept})
        for job, texts in overrides.items()
    ]
    return _of_all(folder, folder.resolve().parent.name, jobs, found)


def _of_all(
    folder: Path, name: str, jobs: Sequence[SweepJob], states: Mapping[str, State]
) -> list[Row]:
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
    if not (run / "summary.csv").exists():
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a torn line is of a job that was killed: it has a row
            return read_rows(run / "summary.csv")
    except RecordError as error:
        return error


def _missing(name: str, job: SweepJob, state: State) -> Row:
    status, reason = state.status or "skipped", state.reason or "not started"
    if status == RUNNING:
        status, reason = INTERRUPTED, "still running when the sweep was interrupted"
    return {
        "schema_version": str(SCHEMA_VERSION),
        "job": name,
        "run_id": job.folder,
        "status": status,
        "reason": " ".join(reason.split()),
    }


POLL_S = 0.5


@contextmanager
def watching(jobs: Sequence[SweepJob], states: States, console: Console) -> Iterator[None]:
    """Show how far the jobs are, until the block is left."""
    progress = live_progress(
        console, "{task.completed}/{task.total} jobs", "{task.fields[running]}"
    )
    left = {job.folder: job for job in jobs}
    bar = progress.add_task("", total=len(jobs), running="")

    def look() -> None:
        running = 0
        for folder, job in list(left.items()):
            state = states.read(folder)
            running += state.status == RUNNING
            if state.over:
                del left[folder]
                print_lines(console, [line(job, state)])
        progress.update(bar, completed=len(jobs) - len(left), running=f"{running} running")

    def look_again() -> None:
        while not done.wait(POLL_S):
            look()

    done = Event()
    watcher = Thread(target=look_again, daemon=True)
    with progress:
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            look()


def line(job: SweepJob, state: State) -> str:
    took = f"in {seconds(state.seconds)}" if state.seconds else ""
    words = [took or "ok"] if state.status == OK else [f"{state.status}: {state.reason}"]
    return f"{job.label}: {' '.join(words)}"


MOST_NAMED = 5


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        failed: which jobs failed, and why, in one line; empty where none did.
    """

    folder: Path
    rows: list[Row]
    failed: str

    @property
    def well(self) -> bool:
        """Whether there is something that ended well."""
        return any(map(ended_well, self.rows))

    def check(self) -> "SweepResult":
        if self.failed:
            raise Failed(self.failed)
        return self


def run_sweep(
    sweep: Sweep, folder: Path | None = None, show: Callable[[Path], None] = lambda folder: None
) -> SweepResult:
    """Run all jobs that have not ended well yet; a job that fails leaves the others alone."""
    prepared = prepare(sweep, folder)
    with own_folder(prepared.folder, sweep, prepared.jobs):
        states, console = States(prepared.folder), screen()
        missing = [job for job in prepared.jobs if not _is_done(prepared.folder, states, job)]
        if missing and prepared.timed:
            refuse_other_version(prepared.folder)
        print_lines(console, [_heading(prepared, len(missing)), prepared.folder])
        interrupted = refused = False
        try:
            _launch_all(prepared, missing, states, console)
        except KeyboardInterrupt:
            interrupted = True
        except UserError as error:
            refused = not any(states.read(job.folder).status for job in prepared.jobs)
            if refused:
                raise NothingBegun(str(error)) from error
            raise
        finally:
            if not refused:
                found = {job.folder: states.read(job.folder) for job in prepared.jobs}
                rows = write_summary(prepared.folder, prepared.name, prepared.jobs, found)
                show(prepared.folder)
                print_lines(console, several_versions(prepared.folder))
                print_lines(console, [prepared.folder / "summary.csv"])
    if interrupted:
        done = sum(state.status == OK for state in found.values())
        command = " ".join(["svdbench", *sweep.words[:1], "--resume"])
        raise Interrupted(
            f"interrupted; {done} of {quantity(len(found), 'job')} done and kept: resume with "
            f"{command} {prepared.folder}"
        )
    return SweepResult(prepared.folder, rows, _failed(prepared.jobs, found))


def _is_done(folder: Path, states: States, job: SweepJob) -> bool:
    """Whether a job ended well, and its results are still there."""
    return states.read(job.folder).status == OK and (folder / job.folder).is_dir()


def _launch_all(
    prepared: PreparedSweep, missing: Sequence[SweepJob], states: States, console: Console
) -> None:
    """Launch jobs until each has ended or died.

    An engine may break with the first process that is killed, as joblib's does, and take
    others with it. Then those that have not ended begin again, once.
    """
    left, tries = list(missing), Counter[str]()
    while left:
        for job in left:
            states.forget(job.folder)
        broken = _launch(prepared, left, states, console)
        begun = [job.folder for job in left if states.read(job.folder).status]
        tries.update(begun)
        if broken is not None and not begun:
            name = prepared.engine.name
            raise UserError(f"hydra/launcher={name}: {one_line(broken)}") from broken
        left = [job for job in left if not states.read(job.folder).over]
        for job in left:
            if broken is None or tries[job.folder] > 1:
                state = replace(states.read(job.folder), status=FAILED, reason=DIED)
                states.write(job.folder, state)
        left = [job for job in left if not states.read(job.folder).over]


def _launch(
    prepared: PreparedSweep, jobs: Sequence[SweepJob], states: States, console: Console
) -> Exception | None:
    """Launch jobs and wait for them; returns an error of the launcher itself."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    engine = prepared.engine
    titles = {job.folder: f"\n{job.label} ({i}/{len(jobs)})" for i, job in enumerate(jobs, 1)}
    task = LaunchedJob(
        prepared.job,
        prepared.folder,
        host_and_process(),
        engine.threads,
        may_mix_versions(),
        {} if engine.elsewhere else titles,
        ends_with_home=engine.ours,
    )
    context = HydraContext(prepared.loader, Callbacks())
    overrides = [[*job.overrides, override("hydra.sweep.subdir", job.folder)] for job in jobs]
    shown = watching(jobs, states, console) if engine.elsewhere else nullcontext()
    try:
        launcher = Plugins.instance().instantiate_launcher(context, task, prepared.master)
        with shown:
            if engine.name in (LOCAL, SLURM):
                launch_by_submitit(launcher, overrides, engine.at_once)
            else:
                returned = launcher.launch(overrides, initial_job_idx=0)
                _note_lost(jobs, returned, states)
    except UserError:
        raise
    except Exception as error:
        return error
    return None


def _note_lost(jobs: Sequence[SweepJob], returned: Sequence[Any], states: States) -> None:
    """Record why jobs were lost, where the launcher knows."""
    for job, each in zip(jobs, returned, strict=True):
        state, error = states.read(job.folder), each._return_value
        if not state.over and isinstance(error, Exception):
            states.write(job.folder, replace(state, status=FAILED, reason=one_line(error)))


def _heading(prepared: PreparedSweep, missing: int) -> str:
    jobs, engine = len(prepared.jobs), prepared.engine
    done = f", {jobs - missing} of them done already" if missing < jobs else ""
    at_once = f", {engine.at_once} at a time" if engine.elsewhere and engine.at_once else ""
    by = f", hydra/launcher={engine.name}{at_once}" if engine.elsewhere else ""
    return f"{jobs} job{'s' * (jobs > 1)} of {prepared.name}{done}{by}"


def _failed(jobs: Sequence[SweepJob], found: dict[str, State]) -> str:
    failed = [job for job in jobs if found[job.folder].status != OK]
    if not failed:
        return ""
    named = [f"{job.label}: {found[job.folder].reason}" for job in failed[:MOST_NAMED]]
    more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    return f"{len(failed)} of {quantity(len(jobs), 'job')} failed: {'; '.join(named)}{more}"
