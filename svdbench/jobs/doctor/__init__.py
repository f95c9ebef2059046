"""The command that looks at this machine."""

from svdbench.job import Command
from svdbench.running.output import FormatOption, OutputOption, output_of


def doctor(format: FormatOption = None, output: OutputOption = None) -> None:
    """Check this machine: what is installed, and what would make timings unreliable.

    Shows versions, extras, devices, threads, clocks, memory and data sets. Repeats a small
    matrix product for two seconds to see whether the machine is steady and other processes
    are busy.

    Examples:
        svdbench doctor
        svdbench doctor --format json
    """
    shown = output_of(format, output)
    from svdbench.jobs.doctor import run as job

    job.run(shown)


COMMAND = Command("doctor", doctor, panel="This machine", place=1)
