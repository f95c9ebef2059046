"""Where the table of a command goes, and in which format: ``--format`` and ``--output``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from svdbench.config.completion import names
from svdbench.errors import UserError, os_remedy
from svdbench.files import write_whole
from svdbench.job import Flag
from svdbench.members import refuse_unknown
from svdbench.reporting import FORMATS, Format

if TYPE_CHECKING:
    from svdbench.reporting.report import Report, Table

TABLE: Format = "table"
SUFFIXES: dict[str, Format] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".csv": "csv",
    ".json": "json",
}
FORMAT_HELP = "Format: table, markdown, csv or json; by default by FILE's ending, or table."
OUTPUT_HELP = "Write the table to FILE, which is overwritten; -: standard output."


# The options of a command that is no job.
FormatOption = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help=FORMAT_HELP, autocompletion=names(FORMATS)),
]
OutputOption = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP)
]


def output_flags(panel: str) -> tuple[Flag, Flag]:
    """The options of a job."""
    return (
        Flag("--format", FORMAT_HELP, str, None, "FORMAT", choices=FORMATS, panel=panel),
        Flag("--output", OUTPUT_HELP, str, None, "FILE", panel=panel, short="-o"),
    )


@dataclass(frozen=True)
class TableOutput:
    """A format, and the file that it goes into; None: standard output."""

    form: Format = TABLE
    path: Path | None = None

    @property
    def is_screen(self) -> bool:
        """Whether it is what a command shows people anyway."""
        return self.form == TABLE and self.path is None

    @property
    def claims_stdout(self) -> bool:
        """Whether nothing else may be written to standard output."""
        return self.form != TABLE and self.path is None

    def write(self, text: str) -> None:
        """Write the text whole, or print it.

        Raises:
            UserError: the file can't be written.
        """
        if self.path is None:
            sys.stdout.write(text)
            return
        try:
            write_whole(self.path, text)
        except OSError as error:
            raise UserError(
                f"can't write {self.path}: {error.strerror or error}: {os_remedy(error)}"
            ) from error
        except UnicodeEncodeError as error:
            raise UserError(
                f"can't write {str(self.path)!r}, which is not a valid file name: change it"
            ) from error

    def show(self, made: Report | Table, **forms: Callable[[], str]) -> None:
        """Print or write a report or a table.

        Args:
            forms: the text of formats that the command has a form of its own for.
        """
        from svdbench.reporting.formats import format_report, format_table
        from svdbench.reporting.render import screen, show, show_block
        from svdbench.reporting.report import Table

        if self.is_screen:
            console = screen()
            show_block(made, console) if isinstance(made, Table) else show(made, console)
        elif own := forms.get(self.form):
            self.write(own())
        elif isinstance(made, Table):
            self.write(format_table(made, self.form))
        else:
            self.write(format_report(made, self.form))


def output_of(form: str | None, file: str | None) -> TableOutput:
    """What ``--format`` and ``--output`` ask for.

    Raises:
        UserError: there is no such format, or the file is a folder.
    """
    if form is None and file in FORMATS:  # as it was spelt in version 0.1
        form, file = file, None
    path = None if file in (None, "-") else Path(str(file))
    if path is not None and path.is_dir():
        raise UserError(f"--output {path} is a folder: give a file, such as {path / 'table.json'}")
    if form is None:
        form = SUFFIXES.get(path.suffix.lower(), TABLE) if path is not None else TABLE
    try:
        refuse_unknown("format", [form], FORMATS)
    except ValueError as error:
        raise UserError(f"--format: {error}") from error
    return TableOutput(cast(Format, form), path)
