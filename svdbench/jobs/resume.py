"""Goes on with a run that was cut short: its configuration file alone says how."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from svdbench.config.compose import read
from svdbench.config.fields import functions_of, value_at
from svdbench.errors import UserError, one_line
from svdbench.files import existing_regular_file
from svdbench.job import Job
from svdbench.jobs.resume_sweep import find_job_of, resume_sweep
from svdbench.record.journal import job_of
from svdbench.record.resumption import CONFIG
from svdbench.report.training import show_run
from svdbench.sweeps import is_sweep


def resume(folder: str | Path, job: Job, functions: Sequence[str] = ()) -> Any:
    """Finish what is missing of a run, and repeat nothing.

    Args:
        folder: of the run or the sweep, as ``results/train/20260301-120000``.
        job: of the command that was given, or one that shares its word.
        functions: of the user's own, as MODULE:FUNCTION: those that the run has, and no others.

    Returns:
        What the job returns.

    Raises:
        UserError: there is no such run, it is of another command, or of another svdbench.
    """
    folder = Path(folder)
    if is_sweep(folder):
        return resume_sweep(folder, job)
    own = find_job_of(job_of(folder), f"{folder} is a run")
    if own.words != job.words:
        raise UserError(f"{folder} is of another command: svdbench {own.words} --resume {folder}")
    path = folder / CONFIG
    try:
        text = existing_regular_file(path).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {one_line(error)}: check the path") from error
    configs = read(own.root, text)
    for config in configs:
        _check_functions(own, config, functions, folder)
    if own.name == "gradients":  # a configuration for each model
        return own.module.train_all(configs, text, str(folder))
    if len(configs) != 1:
        raise UserError(f"{path} has {len(configs)} configurations: run the command anew")
    found = own.module.run(configs[0], text, str(folder))
    if own.name == "train" and found.ours:  # which leaves it to a sweep to report all of its runs
        show_run(folder, Console())
    return found


def _check_functions(job: Job, config: Any, functions: Sequence[str], folder: Path) -> None:
    """Raise UserError unless the functions that the configuration names were named, too.

    A configuration file alone must not call code: whoever resumes a run from someone else may
    not know what the file names.
    """
    called = [value_at(config, key) for key in functions_of(job.config)]
    theirs = [str(name) for name in called if name is not None]
    if set(theirs) != set(functions):
        raise UserError(
            f"{folder} calls {' and '.join(theirs) or 'no functions'}: name the same again, "
            "as MODULE:BUILD, --data and --loss, if you want it"
        )
