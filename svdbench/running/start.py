"""Starts a job, or resumes a run or a sweep."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from svdbench.config.compose import compose, read, show
from svdbench.config.fields import functions_of, value_at
from svdbench.config.grammar import leaves, parsed, refuse_overrides
from svdbench.errors import Interrupted, UserError, one_line
from svdbench.files import LARGEST_YAML, read_text
from svdbench.job import Job, Request, find_job
from svdbench.members import references
from svdbench.record.journal import job_of
from svdbench.record.resumption import CONFIG
from svdbench.running.sweeps import Sweep, SweepResult, SweepSource, is_sweep, read_sweep, run_sweep
from svdbench.running.sweeps.plan import engine_overrides
from svdbench.running.sweeps.report import show_sweep


def launch(job: str, overrides: Sequence[str]) -> Any:
    """Run a job on ``conf/<job>.yaml`` with the overrides; what it returns."""
    checked, text = compose(job, overrides)
    try:
        return find_job(job).module.run(checked, text)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; finished parts are kept") from None


def start(request: Request) -> Any:
    """Run a job or a sweep and return its result, or show its configuration."""
    job = request.job
    if request.show_config:
        print(show(job.root, request.overrides), end="")
        return None
    if request.multirun:
        subject = [] if request.subject is None or job.command == "" else [request.subject]
        words = [job.words, *subject, "-m"]
        words += [text for text in request.overrides if not text.startswith("name=")]
        sweep = Sweep(job.root, (SweepSource(request.overrides),), tuple(words))
        return run_sweep(sweep, show=partial(show_sweep, job)).check()
    return launch(job.root, request.overrides)


def resume(folder: str | Path, job: Job, functions: Sequence[str] = ()) -> Any:
    """Finish what is missing of a run, and repeat nothing.

    Args:
        job: of the command that was given, or one that shares its word.
        functions: of the user's own, as MODULE:FUNCTION: those that the run has, and no others.
    """
    folder = Path(folder)
    if is_sweep(folder):
        return resume_sweep(folder, job)
    own = find_job_of(job_of(folder), f"{folder} is a run")
    if own.words != job.words:
        raise UserError(
            f"{folder} belongs to another command: use svdbench {own.words} --resume {folder}"
        )
    path = folder / CONFIG
    try:
        text = read_text(path, LARGEST_YAML)
    except OSError as error:
        raise UserError(f"can't read {path}: {one_line(error)}: check the path") from error
    except ValueError as error:
        raise UserError(f"{path} {error}: run the command again") from error
    configs = read(own.root, text)
    for config in configs:
        _check_functions(own, config, functions, folder)
    finish = getattr(own.frame, "finish_run", finish_run)
    return finish(own, configs, text, folder)


def finish_run(job: Job, configs: Sequence[Any], text: str, folder: Path) -> Any:
    """Finish a run of a single configuration; what the job returns."""
    if len(configs) != 1:
        raise UserError(
            f"{folder / CONFIG} has {len(configs)} configurations: run the command again"
        )
    return job.module.run(configs[0], text, str(folder))


def _check_functions(job: Job, config: Any, functions: Sequence[str], folder: Path) -> None:
    """Raise UserError unless the functions that the configuration names were named, too.

    A configuration file alone must not call code: whoever resumes a run from someone else may
    not know what the file names.
    """
    called = [value_at(config, key) for key in functions_of(job.config)]
    theirs = [str(name) for name in called if name is not None]
    theirs = list(dict.fromkeys([*theirs, *references(asdict(config))]))
    if set(theirs) != set(functions):
        raise UserError(
            f"{folder} calls {' and '.join(theirs) or 'no functions'}: to allow that, "
            "name the same again as when it was started (MODULE:BUILD, --data, --loss, --methods)"
        )


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
    """
    sweep = read_sweep(folder)
    own = find_job_of(sweep.job, f"{folder} is a sweep")
    if own.words != job.words:
        raise UserError(
            f"{folder} belongs to another command: use svdbench {own.words} --resume {folder}"
        )
    engine_overrides(sweep)
    texts = [text for base in sweep.bases for text in base.overrides]
    refuse_overrides(texts)
    for given in parsed(texts):
        if not all(_is_harmless(own, key, value) for key, value in leaves(given)):
            raise UserError(
                f"{given.input_line!r} of {folder} may execute commands, which a file "
                f"must not do: type the command again: svdbench {shlex.join(sweep.words)}"
            )
    return getattr(own.frame, "finish_sweep", finish_sweep)(sweep, folder)


def finish_sweep(sweep: Sweep, folder: Path) -> SweepResult:
    """Run the jobs of a sweep that are missing."""
    job = find_job_of(sweep.job, f"{folder} is a sweep")
    return run_sweep(sweep, folder, show=partial(show_sweep, job)).check()


def _is_harmless(job: Job, key: str, value: Any) -> bool:
    """Whether a file may set a key: it has nothing executed, nor written outside its folder."""
    if key in functions_of(job.config):
        return value is None
    if references({key: value}):
        return False
    if not key.startswith("hydra.launcher."):
        return True
    return key.removeprefix("hydra.launcher.") in HARMLESS and bool(PLAIN.fullmatch(str(value)))


def find_job_of(name: str, what: str) -> Job:
    """The job that a folder names; raises UserError where there is none."""
    try:
        return find_job(name)
    except UserError as error:
        raise UserError(f"{what} comes from another program: {error}") from None
