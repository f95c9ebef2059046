"""``svdbench train``: the models asked for, each with its preset, one after the other.

One model is a run; several are a folder with a run for each, and so is a sweep.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from svdbench.config.compose import compose, show
from svdbench.config.presets import sources
from svdbench.errors import UserError
from svdbench.job import Job, Request
from svdbench.jobs.train import JOB
from svdbench.jobs.train import run as training
from svdbench.jobs.train.run import TrainResult, check
from svdbench.members import TASKS
from svdbench.reporting.render import screen
from svdbench.running import start as start_module
from svdbench.running.session import show_run
from svdbench.running.start import launch
from svdbench.running.sweeps import Sweep, SweepResult, SweepSource, run_sweep
from svdbench.training.build import build, models_of, overrides_of
from svdbench.training.config import Train

__all__ = ["check", "finish_run", "finish_sweep", "run", "start"]


def run(config: Train, text: str, folder: str | None = None) -> TrainResult:
    """Run one training, in as many processes as its configuration has."""
    if config.trainer.world_size == 1:
        return training.run(config, text, folder)
    from svdbench.jobs.train.processes import launch

    return launch(config, text, folder)


def start(request: Request) -> TrainResult | SweepResult | None:
    """Train the models that were asked for, or show their configurations."""
    models, task, presets = models_of(request), request.flags["task"], request.flags["preset"]
    own = request.flags["presets"]
    if own is not None and not presets:
        raise UserError("--presets and --no-preset exclude each other: leave one of them out")
    if request.show_config:
        print(configurations(models, task, request.overrides, presets=presets, own=own), end="")
        return None
    multirun = request.multirun
    return train(models, task, request.overrides, presets=presets, own=own, multirun=multirun)


def train(
    models: str,
    task: str,
    typed: Sequence[str],
    *,
    presets: bool = True,
    own: str | None = None,
    multirun: bool = False,
) -> TrainResult | SweepResult:
    """Train each of the models.

    Args:
        models: a name, several with commas between, or ``all``.
        presets: whether to start from ``conf/preset``.
        own: a folder of presets to start from instead, or ``searched``.
    """
    runs = overrides_of(models, task, typed, presets, own)
    with _blaming_preset(runs, task, typed, own):
        if len(runs) == 1 and not multirun:
            (overrides,) = runs.values()
            result: TrainResult = launch(JOB.root, overrides)
            return result
        if not multirun:  # no model is trained before all have been made, and their data read
            for overrides in runs.values():
                config = compose(JOB.root, overrides)[0]
                build(config, config.seed)
        bases = tuple(
            SweepSource(
                tuple(overrides), model.replace(":", ".") if len(runs) > 1 else "", multirun
            )
            for model, overrides in runs.items()
        )
        words = ["train", models, "--task", task, *([] if presets else ["--no-preset"])]
        words += [] if own is None else ["--presets", own]
        words += ["-m"] if multirun else []
        words += [text for text in typed if not text.startswith("name=")]
        return finish_sweep(Sweep(JOB.root, bases, tuple(words)))


def finish_run(job: Job, configs: Sequence[Train], text: str, folder: Path) -> TrainResult:
    """Finish a training that was interrupted, and show its report."""
    found: TrainResult = start_module.finish_run(job, configs, text, folder)
    if found.ours:
        show_run(JOB, folder, screen())
    return found


def finish_sweep(sweep: Sweep, folder: Path | None = None) -> SweepResult:
    """Run the trainings of a sweep, or those that its folder lacks, and show how all compare."""
    return run_sweep(sweep, folder, show=lambda place: show_run(JOB, place, screen())).check()


def configurations(
    models: str, task: str, typed: Sequence[str], *, presets: bool = True, own: str | None = None
) -> str:
    """What would be trained, as YAML: a document for each model."""
    runs = overrides_of(models, task, typed, presets, own)
    documents = []
    for model, overrides in runs.items():
        with _blaming_preset([model], task, typed, own):
            documents.append(show(JOB.root, overrides))
    return "---\n".join(documents)


@contextmanager
def _blaming_preset(
    models: Iterable[str], task: str, typed: Sequence[str], own: str | None
) -> Iterator[None]:
    """Say in which file a key stands that doesn't fit, if it isn't one that was typed."""
    try:
        yield
    except UserError as error:
        for model in models:
            for path, key in sources(TASKS.canonical(task), model, typed, own):
                if f"'{key}'" in str(error):
                    raise UserError(f"{path}: {error}") from error
        raise
