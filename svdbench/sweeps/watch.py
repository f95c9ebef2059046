"""What a sweep shows of jobs in other processes: a bar, and a line for each that ends."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from svdbench.report.units import seconds
from svdbench.sweeps.plan import Job
from svdbench.sweeps.states import OK, RUNNING, State, States

POLL_S = 0.5


@contextmanager
def watching(jobs: Sequence[Job], states: States, console: Console) -> Iterator[None]:
    """Show how far the jobs are, until the block is left."""
    progress = Progress(
        TextColumn("{task.completed}/{task.total} jobs"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[running]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
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
                console.print(line(job, state), highlight=False, soft_wrap=True, markup=False)
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


def line(job: Job, state: State) -> str:
    """How a job ended."""
    took = f"in {seconds(state.seconds)}" if state.seconds else ""
    words = [took or "ok"] if state.status == OK else [f"{state.status}: {state.reason}"]
    return f"{job.label}: {' '.join(words)}"
