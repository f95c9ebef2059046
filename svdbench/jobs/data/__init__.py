"""The commands that list and download data sets."""

from typing import Annotated

import typer

from svdbench.config.completion import names as completed
from svdbench.job import Command
from svdbench.members import DATASETS
from svdbench.running.output import FormatOption, OutputOption, output_of

DataDir = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of the data sets; by default $SVDBENCH_DATA, or one in the user's cache.",
    ),
]


def show(
    data_dir: DataDir = None, format: FormatOption = None, output: OutputOption = None
) -> None:
    """List the data sets with their content, licence, and whether they are on this machine.

    Files on this machine are checked by SHA-256.
    """
    from svdbench.jobs.data import run as job

    job.show(data_dir, output_of(format, output))


def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Data sets, such as mnist fashion-mnist; or all.",
            autocompletion=completed(DATASETS),
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Download missing or damaged files of the data sets NAME..., or of all.

    Every file is checked by SHA-256 before it is used. digits and xor are built in; the
    licence of cats does not allow a download.
    """
    from svdbench.jobs.data import run as job

    job.fetch(names, data_dir)


def path(data_dir: DataDir = None) -> None:
    """Print the folder of the data sets."""
    from svdbench.jobs.data import run as job

    job.path(data_dir)


COMMAND = Command(
    "data",
    help="List or download the data sets, or print their folder.",
    panel="This machine",
    place=3,
    commands=(Command("list", show), Command("fetch", fetch), Command("path", path)),
)
