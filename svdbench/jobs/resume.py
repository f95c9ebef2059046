"""Goes on with a run that was cut short: its configuration file alone says how."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from svdbench.errors import UserError, one_line
from svdbench.files import existing_regular_file
from svdbench.jobs.commands import COMMANDS
from svdbench.jobs.resume_sweep import resume_sweep
from svdbench.record.journal import job_of
from svdbench.record.resumption import CONFIG
from svdbench.report.training import show_run
from svdbench.schemas import read
from svdbench.sweeps import is_sweep


def resume(folder: str | Path, root: str, functions: Sequence[str] = ()) -> Any:
    """Finish what is missing of a run, and repeat nothing.

    Args:
        folder: of the run or the sweep, as ``results/train/20260301-120000``.
        root: of the command that was given, in ``conf/``.
        functions: of the user's own, as MODULE:FUNCTION: those that the run has, and no others.

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
        text = existing_regular_file(path).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {one_line(error)}: check the path") from error
    configs = read(root, text)
    for config in configs:
        _check_functions(config, functions, folder)
    module = import_module(f"svdbench.jobs.{root}")
    if job == "gradients":  # a configuration for each model
        return module.train_all(configs, text, str(folder))
    if len(configs) != 1:
        raise UserError(f"{path} has {len(configs)} configurations: run the command anew")
    found = module.run(configs[0], text, str(folder))
    if job == "train" and found.ours:  # which leaves it to a sweep to report all of its runs
        show_run(folder, Console())
    return found


def _check_functions(config: Any, functions: Sequence[str], folder: Path) -> None:
    """Raise UserError unless the functions that the configuration names were named, too.

    A configuration file alone must not call code: whoever resumes a run from someone else may
    not know what the file names.
    """
    model = getattr(config, "model", None)
    found = [getattr(model, "build", None), getattr(model, "loader", None)]
    theirs = [str(name) for name in [*found, getattr(config, "loss", None)] if name is not None]
    if set(theirs) != set(functions):
        raise UserError(
            f"{folder} calls {' and '.join(theirs) or 'no functions'}: name the same again, "
            "as MODULE:BUILD, --data and --loss, if you want it"
        )
