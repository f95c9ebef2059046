"""Runs again what is missing of a sweep, from what its folder keeps of it."""

import shlex
from pathlib import Path

from svdbench.errors import UserError
from svdbench.jobs.commands import COMMANDS
from svdbench.sweeps import Swept, read_sweep, run_sweep
from svdbench.sweeps.plan import engine_overrides

# Keys in which shell commands, or other people's functions, may stand.
EXECUTED = ("hydra.launcher.setup", "hydra.launcher.init", "model.build", "model.loader", "loss")


def resume_sweep(folder: Path, root: str) -> Swept:
    """Run the jobs of a sweep that have not ended well, on the launcher that it was typed with.

    Args:
        root: of the command that was given, in ``conf/``.

    Raises:
        UserError: the folder is not that of a sweep, or of another command.
        Failed: jobs failed again; the others were run.
        Interrupted: ^C.
    """
    sweep = read_sweep(folder)
    commands = {own: command for command, own in COMMANDS.values()}
    command = commands.get(sweep.job)
    if command is None:
        raise UserError(f"{folder} is a sweep of {sweep.job!r}, which is no job of this svdbench")
    if command != commands[root]:
        raise UserError(f"{folder} is of another command: svdbench {command} --resume {folder}")
    engine_overrides(sweep)
    for text in [text for base in sweep.bases for text in base.overrides]:
        if text.lstrip("+").partition("=")[0].startswith(EXECUTED):
            raise UserError(
                f"{text!r} of {folder} may have commands executed, which no file may: type the "
                f"command again, svdbench {shlex.join(sweep.words)}"
            )
    if sweep.job != "train":
        return run_sweep(sweep, folder).check()
    from svdbench.jobs.train_models import train_sweep

    return train_sweep(sweep, folder)
