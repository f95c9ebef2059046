"""The command that writes runs as web pages."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from svdbench.config.completion import names
from svdbench.config.completion import runs as completed_runs
from svdbench.errors import UserError
from svdbench.job import Command
from svdbench.reporting import FORMATS
from svdbench.running.output import SUFFIXES, output_of

HTML = "html"


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Folders of runs, such as results/time-fasth/NAME.",
            autocompletion=completed_runs,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Format: html, table, markdown, csv, json; by default by FILE's ending, or html.",
            autocompletion=names((HTML, *FORMATS)),
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write one page about all RUNs, or their tables, to FILE; -: standard output.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder whose runs are listed, without RUN; by default results."
        ),
    ] = None,
) -> None:
    """Write an HTML page of a run (report.html in its folder), or a page that lists all runs.

    A page is a single file that needs no network and no server. It shows the findings and
    plots of the run, what failed and why, tables to sort and filter, the environment, and the
    command that repeats the run. Without RUN, it writes index.html in the folder of results.

    Examples:
        svdbench report
        svdbench report results/time-fasth/*
        svdbench report results/time-fasth/one --format json
        svdbench report results/train/a results/train/b --output both.html
    """
    from svdbench.jobs.report import run as job

    if format != HTML and not _is_page(format, output):
        shown = output_of(format, output)
        job.show(runs or [], results or Path("results"), shown)
        return
    if runs and results is not None:
        raise UserError("--results is for the list of all runs: leave out RUN, or --results")
    if not runs and output is not None:
        raise UserError("--output is for runs that are given: add RUN, such as results/train/NAME")
    if output == "-":
        sys.stdout.write(job.text(runs or []))
        return
    page = None if output is None else Path(output)
    written = job.pages(runs, page) if runs else [job.index(results or Path("results"))]
    for path in written:
        typer.echo(path)


def _is_page(format: str | None, output: str | None) -> bool:
    """Whether a page is wanted: no format was named, nor a file that ends like one."""
    return format is None and (output is None or Path(output).suffix.lower() not in SUFFIXES)


COMMAND = Command("report", report, panel="Results", place=1)
