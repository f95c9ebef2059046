"""A run from its folder to its report: device, progress and interruption."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from svdbench.config.base import DeviceConfig, Placement, RunConfig
from svdbench.errors import Interrupted, UserError, one_line
from svdbench.job import Job
from svdbench.measure.machine import device_name
from svdbench.members import Registry
from svdbench.record.reader import RecordedRun
from svdbench.record.run import RunWriter
from svdbench.reporting import render
from svdbench.reporting.progress import live_progress, report_progress
from svdbench.reporting.render import print_lines, screen, several_versions
from svdbench.reporting.words import quantity


class RunDisplay:
    """A live bar on a terminal, a line per finished size everywhere."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.progress = live_progress(console, "[bold]{task.description}", "{task.fields[doing]}")
        self.task = self.progress.add_task("", total=total, doing="")
        self.total = total
        self.done = 0
        self.what = ""

    def resume(self, record: RunWriter) -> None:
        """Say how much of a resumed run is done."""
        if record.resumed:
            self.done = len(record.units)
            self.note(resumption(len(record.units), self.total))

    def begin(self, what: str) -> None:
        self.what = what
        self.progress.update(self.task, description=what, completed=self.done, doing="")
        report_progress(self.done / max(self.total, 1), what)

    def doing(self, fraction: float, what: str) -> None:
        self.progress.update(self.task, completed=self.done + fraction, doing=what)
        words = " · ".join(filter(None, (self.what, what)))
        report_progress((self.done + fraction) / max(self.total, 1), words)

    def finish(self, line: str) -> None:
        self.done += 1
        self.progress.update(self.task, completed=self.done)
        self.note(line)

    def note(self, line: str) -> None:
        """Say something beside the progress."""
        print_lines(self.console, [line])


def resumption(done: int, total: int, what: str = "parts") -> str:
    """How much of a resumed run was done before."""
    if done >= total:
        return f"already complete: {done} of {total} {what} done"
    return f"resuming: {done} of {total} {what} done"


@contextmanager
def display(console: Console, total: int) -> Iterator[RunDisplay]:
    shown = RunDisplay(console, total)
    with shown.progress:
        yield shown


@contextmanager
def reported(folder: Path, show: Callable[[], None]) -> Iterator[None]:
    """Show the results of ``folder`` at the end, or the results so far after an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "summary.csv").exists():
            show()
        raise
    show()


def show_run(job: Job, folder: Path, console: Console) -> None:
    report = job.report(RecordedRun(folder))
    render.show_run(report, folder, console)


def show_results(job: Job, folder: Path, console: Console) -> None:
    """Show the report of a run, and warn where several versions of svdbench made it."""
    show_run(job, folder, console)
    print_lines(console, several_versions(folder))


def open_record(
    job: Job,
    config: RunConfig,
    place: Placement,
    text: str,
    folder: str | None,
    console: Console,
    more: str = "",
) -> RunWriter:
    """Open the record of a run, and print where it runs and where its results go.

    Args:
        text: of ``config.yaml``.
        folder: of the run, where it is not a new one.
        more: what to add to the line about the machine.
    """
    settle_allocator()
    record = RunWriter.create(
        config.results, job.name, config.name, config=text, folder=folder, same=job.same
    )
    where = machine_line(record.environment, place) + more
    console.print(f"{where}\n{record.folder}", highlight=False, soft_wrap=True, markup=False)
    return record


def interrupted(job: Job, folder: Path) -> Interrupted:
    return Interrupted(f"interrupted; {kept(job, folder)}")


def kept(job: Job, folder: Path) -> str:
    """What is left of a run that was cut short, and how to resume it."""
    if not folder.exists():
        return "nothing was finished"
    command = f"svdbench {job.words} --resume {folder}"
    return f"finished parts are kept: resume with {command}"


def device_of(config: Placement) -> torch.device:
    """The device to run on, made the current one, with the number of threads set."""
    device = torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no GPU here: use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(
            f"device is {device}, but the last GPU that torch sees is cuda:{last}: use that"
        )
    if device.index is not None:
        # What is made on "cuda" by other libraries, or by a user's model, is to be on this one.
        torch.cuda.set_device(device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return device


def load(group: Registry, name: str, configs: Mapping[str, Any]) -> Any:
    """The member ``name`` of a group, made from all that the configuration says of it."""
    try:
        config = configs.get(name) if group.is_ours(name) else configs.get(name, {})
    except ValueError as error:
        raise UserError(f"{group.folder}.{name}: {one_line(error)}") from error
    if config is None:
        raise UserError(f"{group.folder}.{name} was removed from the configuration: leave it in")
    if not isinstance(config, Mapping):
        raise UserError(f"{group.folder}.{name} is {config!r}: set its options by their keys")
    try:
        return group.load(name, **config)
    except (ImportError, TypeError, ValueError) as error:
        raise UserError(f"{group.folder}.{name}: {one_line(error)}") from error


@contextmanager
def running(
    job: Job, config: DeviceConfig, text: str, folder: str | None, cells: int
) -> Iterator[tuple[RunWriter, RunDisplay]]:
    """A run of so many cells: its record and its display, and its report at the end."""
    console = screen()
    record = open_record(job, config, config, text, folder, console)
    report = partial(show_results, job, record.folder, console)
    try:
        with reported(record.folder, report), record, display(console, cells) as shown:
            shown.resume(record)
            yield record, shown
    except KeyboardInterrupt as error:
        raise interrupted(job, record.folder) from error


def settle_allocator() -> None:
    """Free one large block, as every training process has long done.

    Until then glibc returns each large block to the system, and the method that is
    measured first pays for page faults that the later ones are spared.
    """
    del_me = torch.empty(31 << 20, dtype=torch.uint8)
    del del_me


def machine_line(environment: Mapping[str, Any], config: Placement) -> str:
    """Where this runs, in one line for people."""
    where = environment.get("cpu") if config.device == "cpu" else device_name(config.device)
    threads = f", {quantity(torch.get_num_threads(), 'thread')}" if config.device == "cpu" else ""
    return f"{where}{threads}, {config.dtype.value}, torch {torch.__version__}"
