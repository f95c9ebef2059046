"""The command that lists what can be named: methods, models, tasks, data sets, runs, …"""

from pathlib import Path
from typing import Annotated

import typer

from svdbench.config.completion import names
from svdbench.job import Command
from svdbench.jobs.list.kinds import KINDS
from svdbench.running.output import FormatOption, OutputOption, output_of


def listing(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help=f"{', '.join(KINDS)}.",
            autocompletion=names(list(KINDS)),
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the runs to list; by default results.",
            show_default=False,
        ),
    ] = Path("results"),
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List models, methods, tasks, data sets, presets, runs, …; without WHAT, what can be listed.

    Members of other installed packages are listed after those of svdbench, with their package.

    Examples:
        svdbench list models
        svdbench list results --format json
    """
    from svdbench.jobs.list import run as job

    job.run(what, results, output_of(format, output))


def methods(format: FormatOption = None, output: OutputOption = None) -> None:
    """List the orthogonal parametrisations: an older name of `svdbench list methods`."""
    listing("methods", format=format, output=output)


COMMAND = Command("list", listing, panel="This machine", place=2)
METHODS = Command("methods", methods, hidden=True)
