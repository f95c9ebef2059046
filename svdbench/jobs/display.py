"""What a running job shows: a live bar on a terminal, a line per finished part everywhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from svdbench.errors import Interrupted
from svdbench.job import find_job
from svdbench.record.run import RunWriter


class Display:
    """A live bar on a terminal, a line per finished size everywhere."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.task = self.progress.add_task("", total=total, doing="")
        self.total = total
        self.done = 0

    def resume(self, record: RunWriter) -> None:
        """Say how much of a resumed run is done."""
        if record.resumed:
            self.done = len(record.units)
            self._print(resumption(len(record.units), self.total))

    def begin(self, what: str) -> None:
        self.progress.update(self.task, description=what, completed=self.done, doing="")

    def doing(self, fraction: float, what: str) -> None:
        self.progress.update(self.task, completed=self.done + fraction, doing=what)

    def note(self, line: str) -> None:
        """Say something beside the progress."""
        self._print(line)

    def finish(self, line: str) -> None:
        self.done += 1
        self.progress.update(self.task, completed=self.done)
        self._print(line)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


def resumption(done: int, total: int, what: str = "parts") -> str:
    """How much of a resumed run was done before."""
    if done >= total:
        return f"already complete: {done} of {total} {what} done"
    return f"resuming: {done} of {total} {what} done"


@contextmanager
def display(console: Console, total: int) -> Iterator[Display]:
    shown = Display(console, total)
    with shown.progress:
        yield shown


@contextmanager
def reported(folder: Path, show: Callable[[], None]) -> Iterator[None]:
    """Show the results of ``folder`` when all is done, or what there is when interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "summary.csv").exists():
            show()
        raise
    show()


def interrupted(job: str, folder: Path) -> Interrupted:
    """^C in a run, and how to resume it."""
    return Interrupted(f"interrupted; {kept(job, folder)}")


def kept(job: str, folder: Path) -> str:
    """What is left of a run that was cut short, and how to resume it."""
    if not folder.exists():
        return "nothing was finished"
    command = f"svdbench {find_job(job).words} --resume {folder}"
    return f"what was finished is kept: go on with {command}"
