"""The command that looks at this machine."""

from typing import Annotated

import typer

from svdbench.errors import UserError
from svdbench.job import Command

FORMS = ("table", "json")


def doctor(
    output: Annotated[str, typer.Option(metavar="FORM", help="table or json.")] = "table",
) -> None:
    """Look at this machine: what is installed, and what would make timings here unreliable.

    Versions, extras, devices, threads, clocks, memory and data sets; and for two
    seconds, with a small product over and over, how steady it is and who else is
    busy.
    """
    if output not in FORMS:
        raise UserError(f"--output is {output!r}: choose from {', '.join(FORMS)}")
    from svdbench.jobs.doctor import run as job

    job.run(output)


COMMAND = Command("doctor", doctor)
