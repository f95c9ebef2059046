"""The command that looks at this machine."""

from typing import Annotated

import typer

from svdbench.errors import UserError
from svdbench.job import Command

FORMS = ("table", "json")


def doctor(
    output: Annotated[str, typer.Option(metavar="FORM", help="Format: table or json.")] = "table",
) -> None:
    """Check this machine: what is installed, and what would make timings unreliable.

    Shows versions, extras, devices, threads, clocks, memory and data sets. Repeats a small
    matrix product for two seconds to see how steady the machine is, and whether other
    processes are busy.

    Examples:
        svdbench doctor
        svdbench doctor --format json
    """
    if output not in FORMS:
        raise UserError(f"--output is {output!r}: choose from {', '.join(FORMS)}")
    from svdbench.jobs.doctor import run as job

    job.run(output)


COMMAND = Command("doctor", doctor, panel="This machine", place=1)
