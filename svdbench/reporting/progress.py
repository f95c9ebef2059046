"""The progress of a run: a bar in a notebook, or calls of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Listener = Callable[[float, str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report_progress(fraction: float, doing: str) -> None:
    """Report the progress of the run: a fraction from 0 to 1, and what it does."""
    listener = _listener.get()
    if listener is not None:
        listener(min(max(fraction, 0.0), 1.0), doing)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a function at each :func:`report_progress` of the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def bar(console: Console) -> Iterator[None]:
    """A progress bar on a console, or in a notebook, for the runs of the block."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
        console=console,
    )
    task = progress.add_task("", total=1.0, doing="starting")
    with progress, listening(lambda done, what: progress.update(task, completed=done, doing=what)):
        yield
        progress.update(task, completed=1.0, doing="done")


def live_progress(console: Console, left: str, right: str) -> Progress:
    """A bar between two texts, with the time; it disappears when it ends."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn(left), BarColumn(bar_width=30), TextColumn(right), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)
