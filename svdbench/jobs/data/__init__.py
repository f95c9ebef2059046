"""The commands that list and download data sets."""

from typing import Annotated

import typer

from svdbench.job import Command

DataDir = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Of the data sets; by default $SVDBENCH_DATA, else one in the user's cache.",
    ),
]


def show(data_dir: DataDir = None) -> None:
    """List the data sets: what they hold, their licence, whether they are here.

    Files that are here are checked by SHA-256.
    """
    from svdbench.jobs.data import run as job

    job.show(data_dir)


def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="As mnist fashion-mnist; or all.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Download what is missing or damaged of the data sets NAME..., or of all.

    A file is checked by SHA-256 before it is put in its place. digits and xor are
    built in; cats may not be downloaded.
    """
    from svdbench.jobs.data import run as job

    job.fetch(names, data_dir)


def path(data_dir: DataDir = None) -> None:
    """Print the folder of the data sets."""
    from svdbench.jobs.data import run as job

    job.path(data_dir)


COMMAND = Command(
    "data",
    help="List the data sets, download them, say where they are.",
    commands=(Command("list", show), Command("fetch", fetch), Command("path", path)),
)
