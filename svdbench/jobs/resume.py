"""Goes on with a run that was cut short: its configuration file alone says how."""

from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from svdbench.errors import UserError, one_line
from svdbench.jobs.commands import COMMANDS
from svdbench.jobs.resume_sweep import resume_sweep
from svdbench.record.journal import job_of
from svdbench.record.store import CONFIG
from svdbench.report.training import show_run
from svdbench.schemas import read
from svdbench.sweeps import is_sweep


def resume(folder: str | Path, root: str) -> Any:
    """Finish what is missing of a run, and repeat nothing.

    Args:
        folder: of the run or the sweep, as ``results/train/20260301-120000``.
        root: of the command that was given, in ``conf/``.

    Returns:
        What the job returns.

    Raises:
        UserError: there is no such run, it is of another command, or of another svdbench.
    """
    folder = Path(folder)
    if is_sweep(folder):
        return resume_sweep(folder, root)
    job = job_of(folder)
    if job not in COMMANDS:
        raise UserError(f"{folder} is a run of {job}, which is no command of this svdbench")
    command, own = COMMANDS[job]
    if command not in [name for name, given in COMMANDS.values() if given == root]:
        raise UserError(f"{folder} is of another command: svdbench {command} --resume {folder}")
    path, root = folder / CONFIG, own
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {one_line(error)}: check the path") from error
    configs = read(root, text)
    module = import_module(f"svdbench.jobs.{root}")
    if job == "gradients":  # a configuration for each model
        return module.train_all(configs, text, str(folder))
    if len(configs) != 1:
        raise UserError(f"{path} has {len(configs)} configurations: run the command anew")
    found = module.run(configs[0], text, str(folder))
    if job == "train":  # which leaves it to a sweep to report all of its runs
        show_run(folder, Console())
    return found
