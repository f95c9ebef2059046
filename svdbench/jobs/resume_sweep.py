"""Runs again what is missing of a sweep, from what its folder keeps of it."""

import re
import shlex
from pathlib import Path
from typing import Any

from svdbench.errors import UserError
from svdbench.jobs.commands import COMMANDS
from svdbench.overrides import leaves, parsed
from svdbench.refusals import refuse_overrides
from svdbench.sweeps import SweepResult, read_sweep, run_sweep
from svdbench.sweeps.plan import engine_overrides

# Keys that name functions of the user's own.
FUNCTIONS = ("model.build", "model.loader", "loss")
# Options of launchers with which nothing can be executed, nor written elsewhere.
HARMLESS = {
    *("n_jobs", "timeout_min", "array_parallelism", "signal_delay_s", "max_num_timeout"),
    *("nodes", "cpus_per_task", "gpus_per_node", "gpus_per_task", "cpus_per_gpu"),
    *("mem_gb", "mem_per_cpu", "mem_per_gpu", "partition", "qos", "account", "constraint"),
    *("gres", "exclude", "additional_parameters.exclusive"),
    *("num_cpus", "num_gpus", "memory", "max_retries", "max_calls"),
}
PLAIN = re.compile(r"[\w.,:;=&|+*/%@\[\]()-]*")


def resume_sweep(folder: Path, root: str) -> SweepResult:
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
    texts = [text for base in sweep.bases for text in base.overrides]
    refuse_overrides(texts)
    for given in parsed(texts):
        if not all(_is_harmless(key, value) for key, value in leaves(given)):
            raise UserError(
                f"{given.input_line!r} of {folder} may have commands executed, which no file may: "
                f"type the command again, svdbench {shlex.join(sweep.words)}"
            )
    if sweep.job != "train":
        return run_sweep(sweep, folder).check()
    from svdbench.jobs.train_models import train_sweep

    return train_sweep(sweep, folder)


def _is_harmless(key: str, value: Any) -> bool:
    """Whether a file may set a key: it has nothing executed, nor written outside its folder."""
    if key in FUNCTIONS:
        return value is None
    if not key.startswith("hydra.launcher."):
        return True
    return key.removeprefix("hydra.launcher.") in HARMLESS and bool(PLAIN.fullmatch(str(value)))
