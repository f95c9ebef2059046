"""Jobs and their results for Python callers: :func:`run` and :func:`load`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdbench.errors import UserError, as_user_error
from svdbench.job import Job, Request, all_jobs, find_job, keyword_of
from svdbench.members import is_main, references, refuse_unknown
from svdbench.record.reader import RecordedRun, is_run
from svdbench.reporting.progress import bar, listening
from svdbench.running.request import (
    former_spellings,
    frame_of,
    perform,
    request_of,
    spellings,
    switches,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from svdbench.reporting.report import Report


class RunResult:
    """The results of a run, read from its folder on demand.

    Example:
        >>> result = svdbench.run("time-fasth", d=[16, 32], methods=["fasth"], budget=0.2)
        >>> result.summary[["method", "d", "median_s"]]
        >>> result.figures["step_time"].savefig("step_time.pdf")
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run = RecordedRun(folder)

    @property
    def job(self) -> str:
        """The job that made the run, such as ``time-fasth``."""
        return self._run.job

    @property
    def summary(self) -> pd.DataFrame:
        """One row per method and size, or per seed; for a sweep, the rows of all its jobs.

        Raises:
            UserError: the run stopped before it wrote a summary.
        """
        return self.table("summary")

    @property
    def samples(self) -> pd.DataFrame:
        """A row per repetition or epoch."""
        return self.table("samples")

    def table(self, name: str) -> pd.DataFrame:
        """The table ``name``.csv; :attr:`tables` lists the names.

        Raises:
            UserError: there is no such table.
        """
        if not self._run.has(name):
            known = ", ".join(self.tables) or "none yet"
            raise UserError(f"{self.folder} has no table {name!r}: it has {known}")
        return self._run.frame(name)

    @property
    def tables(self) -> list[str]:
        """The names of all tables of the run."""
        return sorted(path.stem for path in self.folder.glob("*.csv") if self._run.has(path.stem))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration by key, such as ``{"sizes.m": 32, ...}``."""
        return self._run.settings

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, processor, threads and time."""
        return self._run.environment

    @cached_property
    def report(self) -> Report:
        """The report of the run: its headline, tables and figures as data.

        Raises:
            UserError: the job has no report.
        """
        if self.job not in {job.name for job in all_jobs()}:
            raise UserError(f"{self.folder} is a run of {self.job!r}, which has no report")
        made: Report = find_job(self.job).report(self._run)
        return made

    @property
    def figures(self) -> Mapping[str, Figure]:
        """The figures by name, each drawn on access."""
        return _Figures(self.report.figures)

    def __repr__(self) -> str:
        return f"RunResult({str(self.folder)!r}): {self.report.headline or self.job}"

    def __str__(self) -> str:
        from svdbench.reporting.render import to_text

        return to_text(self.report)

    def _repr_html_(self) -> str:
        from svdbench.reporting.render import to_html

        return to_html(self.report)


class _Figures(Mapping[str, "Figure"]):
    def __init__(self, draw: Mapping[str, Any]) -> None:
        self._draw = draw

    def __getitem__(self, name: str) -> Figure:
        figure: Figure = self._draw[name]()
        return figure

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)


def run(
    job: str,
    subject: str | None = None,
    *,
    overrides: Sequence[str] = (),
    quiet: bool = True,
    progress: bool | Callable[[float, str], None] = False,
    **options: Any,
) -> RunResult:
    """Run a job as its command does, and return its results.

    Args:
        job: name of the command, such as ``"time-fasth"``.
        subject: the first argument of the command, if it has one: a data set, a model or
            ``"module:function"``.
        overrides: further configuration keys, such as ``"sizes.m=64"``.
        quiet: print nothing.
        progress: True for a progress bar, also in a notebook; or a function that is called with the
            fraction done and a description.
        options: the command's options by name, with underscores: ``d=[64, 128]``,
            ``max_minutes=5``, ``quick=True``. A method, model or other member may be given as a
            class, even one defined in a notebook.

    Returns:
        The result; if a run of that ``name`` has already finished, its result.

    Raises:
        UserError: an unknown job, option or value.
        Failed: the job failed.
        Interrupted: the user pressed Ctrl-C.

    Example:
        >>> result = svdbench.run("time-fasth", d=[16], methods=["fasth", "cayley"], budget=0.2)
        >>> result.summary.groupby("method")["median_s"].min()
    """
    jobs = _jobs_called(job)
    spelt = spellings(jobs)
    flags = {
        flag.keyword: flag.default for flag in (*jobs[0].flags, *switches(jobs), *frame_of(jobs))
    }
    former = {keyword_of(old): keyword_of(new) for old, new in former_spellings(spelt).items()}
    options = {former.get(name, name): value for name, value in options.items()}
    with as_user_error():
        refuse_unknown(f"option of {job}", list(options), [*spelt, *flags])
    typed = {name: _as_typed(value) for name, value in options.items()}
    given = {
        **dict.fromkeys(spelt),
        **flags,
        **typed,
        "subject": _as_typed(subject),
        "overrides": list(overrides),
        "show_config": False,
    }
    request = request_of(jobs, spelt, given)
    _refuse_in_other_processes(request)
    with _shown(progress), redirect_stdout(StringIO()) if quiet else nullcontext():
        found = perform(request)
    folder = getattr(found, "folder", found)
    if not isinstance(folder, Path):
        raise UserError(f"{job} with these options writes no run: type svdbench {job} instead")
    return RunResult(folder)


def _jobs_called(name: str) -> list[Job]:
    """The job of a name, or the jobs that share a command."""
    sharing = [job for job in all_jobs() if job.word == name]
    return sharing or [find_job(name)]


def _as_typed(value: Any) -> Any:
    """A value of an option as the command line takes it."""
    if isinstance(value, list | tuple):
        return ",".join(str(_as_typed(each)) for each in value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type) or callable(value):
        return _reference(value)
    return value


def _reference(thing: Any) -> str:
    """A class or function as ``module:name``; one of a notebook or script as ``__main__:name``."""
    module, name = thing.__module__, thing.__qualname__
    if getattr(sys.modules.get(module), name, None) is not thing:
        raise UserError(
            f"{name} can't be found by its name: define it at the top level of a module, notebook "
            "or script"
        )
    return f"{module}:{name}"


def _refuse_in_other_processes(request: Request) -> None:
    """Refuse classes of a notebook or script where other processes would have to import them."""
    named = [name for name in references([*request.options.values()]) if is_main(name)]
    options = dict(request.options)
    several = request.multirun or any(options.get(key) for key in ("processes", "nodes"))
    if named and several:
        name = named[0].partition(":")[2]
        raise UserError(
            f"{name} is defined in this notebook or script, and a sweep or several processes "
            "can't import it: begin its cell with %%writefile my_module.py, import my_module, and "
            f"give my_module.{name}"
        )


def _shown(progress: bool | Callable[[float, str], None]) -> AbstractContextManager[None]:
    """What shows how far a run is, on the output as it is now."""
    if not progress:
        return nullcontext()
    if callable(progress):
        return listening(progress)
    from rich.console import Console

    # In a notebook, the line is redrawn as in a terminal; rich's own bar would need ipywidgets.
    redrawn = True if Console().is_jupyter else None
    return bar(Console(file=sys.stdout, force_jupyter=False, force_terminal=redrawn))


def load(folder: str | Path) -> RunResult:
    """Load the run in a folder, such as ``results/time-fasth/20260301-120000``.

    No code that the folder's files name is imported or called.

    Raises:
        UserError: the folder contains no run.

    Example:
        >>> made = svdbench.run("time-fasth", d=[8], methods=["fasth"], budget=0.1)
        >>> svdbench.load(made.folder).job
        'time-fasth'
    """
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"there is no folder {path}: check the path")
    if not is_run(path):
        raise UserError(f"{path} has no run: give the folder with its config.yaml and summary.csv")
    return RunResult(path)
