"""Runs again what is missing of a sweep, from what its folder keeps of it."""

import re
import shlex
from pathlib import Path
from typing import Any

from svdbench.config.fields import functions_of
from svdbench.config.grammar import leaves, parsed, refuse_overrides
from svdbench.errors import UserError
from svdbench.job import Job, all_jobs
from svdbench.sweeps import SweepResult, read_sweep, run_sweep
from svdbench.sweeps.plan import engine_overrides

# Options of launchers with which nothing can be executed, nor written elsewhere.
HARMLESS = {
    *("n_jobs", "timeout_min", "array_parallelism", "signal_delay_s", "max_num_timeout"),
    *("nodes", "cpus_per_task", "gpus_per_node", "gpus_per_task", "cpus_per_gpu"),
    *("mem_gb", "mem_per_cpu", "mem_per_gpu", "partition", "qos", "account", "constraint"),
    *("gres", "exclude", "additional_parameters.exclusive"),
    *("num_cpus", "num_gpus", "memory", "max_retries", "max_calls"),
}
PLAIN = re.compile(r"[\w.,:;=&|+*/%@\[\]()-]*")


def resume_sweep(folder: Path, job: Job) -> SweepResult | None:
    """Run the jobs of a sweep that have not ended well, on the launcher that it was typed with.

    Args:
        job: of the command that was given, or one that shares its word.

    Raises:
        UserError: the folder is not that of a sweep, or of another command.
        Failed: jobs failed again; the others were run.
        Interrupted: ^C.
    """
    sweep = read_sweep(folder)
    own = find_job_of(sweep.job, f"{folder} is a sweep")
    if own.words != job.words:
        raise UserError(f"{folder} is of another command: svdbench {own.words} --resume {folder}")
    engine_overrides(sweep)
    texts = [text for base in sweep.bases for text in base.overrides]
    refuse_overrides(texts)
    for given in parsed(texts):
        if not all(_is_harmless(own, key, value) for key, value in leaves(given)):
            raise UserError(
                f"{given.input_line!r} of {folder} may have commands executed, which no file may: "
                f"type the command again, svdbench {shlex.join(sweep.words)}"
            )
    if sweep.job != "train":
        run_sweep(sweep, folder).check()
        return None
    from svdbench.jobs.train_models import train_sweep

    return train_sweep(sweep, folder)


def _is_harmless(job: Job, key: str, value: Any) -> bool:
    """Whether a file may set a key: it has nothing executed, nor written outside its folder."""
    if key in functions_of(job.config):
        return value is None
    if not key.startswith("hydra.launcher."):
        return True
    return key.removeprefix("hydra.launcher.") in HARMLESS and bool(PLAIN.fullmatch(str(value)))


def find_job_of(name: str, what: str) -> Job:
    """The job that a folder says it is of; raises UserError where there is none."""
    for job in all_jobs():
        if name in (job.name, job.root):
            return job
    raise UserError(f"{what} of {name!r}, which is no command of this svdbench")
