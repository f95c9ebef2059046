"""The command that repeats the published results."""

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from svdbench.config.completion import published
from svdbench.errors import UserError
from svdbench.job import Command
from svdbench.running.output import FormatOption, OutputOption, output_of

FOLDER, QUICK_FOLDER = Path("results/reproduce"), Path("results/reproduce-quick")


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Results to repeat; or all.", autocompletion=published),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run small versions, which take minutes.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help=f"Folder of runs and pages; by default {FOLDER}, or …-quick."
        ),
    ] = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run/--no-run",
            help="Run what is missing, or only judge the runs that are there.",
            show_default=False,
        ),
    ] = True,
    show: Annotated[
        bool, typer.Option("--show", help="Print the commands of the runs without running them.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Fail if a verdict differs from the one in FOLDER."),
    ] = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Repeat published results and say whether they hold; without NAME, list them.

    The results are those of four reports: Kovtun et al., Shcherbakov et al. (2019), Keene
    (2022) and Sarnayak et al. (2020); and of a paper, Siems et al. (2025). Each consists of
    ordinary runs with fixed names, so finished runs are not repeated, and the same command
    resumes after an interruption. Our numbers are compared with the published ones, with
    intervals, and one rule gives the verdict: holds, holds in part, doesn't hold, or can't be
    judged.

    Writes FOLDER/NAME: numbers and curves as CSV, plots, and a page in Markdown and HTML;
    and an index of all results.

    Exit code 1: a run failed, or a verdict differs with --against.

    Examples:
        svdbench reproduce
        svdbench reproduce step-time --quick
        svdbench reproduce all --quick --no-run
    """
    from svdbench.jobs.reproduce import run as job
    from svdbench.reporting.render import screen

    shown = output_of(format, output)
    root = results or (QUICK_FOLDER if quick else FOLDER)
    variant = "quick" if quick else "full"
    if show:
        typer.echo("\n".join(job.commands(job.chosen(names or [job.ALL]), variant)))
        return
    if not names:
        if against is not None:
            raise UserError("--against needs results to judge: add NAME, or all")
        job.show_listing(root, shown)
        return
    wanted, before = job.chosen(names), job.read_verdicts(against) if against else {}
    with redirect_stdout(sys.stderr) if shown.claims_stdout else nullcontext():
        well = job.reproduce(wanted, root, variant, screen(), run=run)
        flipped = job.flips(root, before) if before else []
        for line in flipped:
            typer.echo(f"verdict changed: {line}")
    if not shown.is_screen:
        shown.show(job.listing(root, wanted, headed=False))
    if flipped or not well:
        raise typer.Exit(1)


COMMAND = Command("reproduce", reproduce, panel="Results", place=3)
