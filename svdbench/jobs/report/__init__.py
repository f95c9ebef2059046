"""The command that writes runs as web pages."""

from pathlib import Path
from typing import Annotated

import typer

from svdbench.errors import UserError
from svdbench.job import Command


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of runs, such as results/time-fasth/NAME."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write one page about all given runs."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder whose runs are listed, without RUN; by default results."
        ),
    ] = None,
) -> None:
    """Write the page of a run (report.html in its folder), or a page that lists all runs.

    A page is a single file that needs no network and no server. It has the findings and
    plots of the run, what failed and why, its tables to sort and filter, its environment,
    and the command that repeats it. The index is index.html in the folder of results.

    Examples:
        svdbench report
        svdbench report results/time-fasth/*
        svdbench report results/train/a results/train/b --output both.html
    """
    from svdbench.jobs.report import run as job

    if runs and results is not None:
        raise UserError("--results is for the list of all runs: leave out RUN, or --results")
    if not runs and output is not None:
        raise UserError("--output is for runs that are given: add RUN, such as results/train/NAME")
    written = job.pages(runs, output) if runs else [job.index(results or Path("results"))]
    for path in written:
        typer.echo(path)


COMMAND = Command("report", report, panel="Results", place=1)
