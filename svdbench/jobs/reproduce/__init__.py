"""The command that repeats the published results."""

from pathlib import Path
from typing import Annotated

import typer

from svdbench.errors import UserError
from svdbench.job import Command

FOLDER, QUICK_FOLDER = Path("results/reproduce"), Path("results/reproduce-quick")


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Of results; or all.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version of each, in minutes.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help=f"Of runs and pages; by default {FOLDER}, or …-quick."),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Make runs that are missing, or don't.")
    ] = True,
    show: Annotated[
        bool, typer.Option("--show", help="Print the commands of the runs and stop.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Fail if a verdict is another than in there."),
    ] = None,
) -> None:
    """Repeat what the four documents report, and judge it; without NAME, list the results.

    Each result is made of ordinary runs with fixed names: what is finished is not repeated,
    and the same command resumes after an interruption. Numbers stand beside the published
    ones with their intervals, and one rule decides: holds, holds in part, doesn't hold, can't
    be judged.

    Writes FOLDER/NAME: numbers and curves as CSV, plots, and a page as Markdown and HTML; and
    a list of all.

    Exit code 1: a run failed, or with --against a verdict is another one.
    """
    from rich.console import Console

    from svdbench.jobs.reproduce import run as job

    root = results or (QUICK_FOLDER if quick else FOLDER)
    variant = "quick" if quick else "full"
    if show:
        typer.echo("\n".join(job.commands(job.chosen(names or [job.ALL]), variant)))
        return
    if not names:
        if against is not None:
            raise UserError("--against needs results to judge: add NAME, or all")
        job.show_listing(root, Console())
        return
    wanted, before = job.chosen(names), job.read_verdicts(against) if against else {}
    well = job.reproduce(wanted, root, variant, Console(), run=run)
    flipped = job.flips(root, before) if before else []
    for line in flipped:
        typer.echo(f"another verdict: {line}")
    if flipped or not well:
        raise typer.Exit(1)


COMMAND = Command("reproduce", reproduce)
