"""``svdbench train``: the models asked for, each with its preset, one after the other.

One model is a run; several are a folder with a run for each, and so is a sweep.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from svdbench.config.compose import compose, show
from svdbench.errors import UserError
from svdbench.job import Request
from svdbench.jobs.train.report import show_run
from svdbench.jobs.train.run import JOB, Result, build
from svdbench.members import MODELS, TASKS, plain, refuse_repeated
from svdbench.running.start import launch
from svdbench.running.sweeps import Sweep, SweepResult, SweepSource, run_sweep
from svdbench.training.presets import preset, sources

EVERY = "all"


def start(request: Request) -> Result | SweepResult | None:
    """Train the models that were asked for, or show their configurations."""
    models, task, presets = models_of(request), request.flags["task"], request.flags["preset"]
    if request.show_config:
        print(configurations(models, task, request.overrides, presets=presets), end="")
        return None
    return train(models, task, request.overrides, presets=presets, multirun=request.multirun)


def models_of(request: Request) -> str:
    """The first argument of a command that trains models.

    Raises:
        UserError: there is none.
    """
    if request.subject is None:
        raise UserError(f"the first argument is MODEL: as in svdbench {request.job.words} lstm")
    return request.subject


def train(
    models: str,
    task: str,
    typed: Sequence[str],
    *,
    presets: bool = True,
    multirun: bool = False,
) -> Result | SweepResult:
    """Train each of the models.

    Args:
        models: a name, several with commas between, or ``all``.
        typed: the user's own overrides.
        presets: whether to start from ``conf/preset``.
        multirun: whether ``typed`` may have lists of values, one run for each combination.

    Raises:
        UserError: an unknown name, or a value that doesn't fit.
    """
    runs = overrides_of(models, task, typed, presets)
    with _blaming_preset(runs, task, typed):
        if len(runs) == 1 and not multirun:
            (overrides,) = runs.values()
            result: Result = launch(JOB, overrides)
            return result
        if not multirun:  # no model is trained before all have been made, and their data read
            for overrides in runs.values():
                config = compose(JOB, overrides)[0]
                build(config, config.seed)
        bases = tuple(
            SweepSource(tuple(overrides), model if len(runs) > 1 else "", multirun)
            for model, overrides in runs.items()
        )
        words = ["train", models, "--task", task, *([] if presets else ["--no-preset"])]
        words += ["-m"] if multirun else []
        words += [text for text in typed if not text.startswith("name=")]
        return train_sweep(Sweep(JOB, bases, tuple(words)))


def train_sweep(sweep: Sweep, folder: Path | None = None) -> SweepResult:
    """Train several models, or with several settings, and show how they compare.

    Args:
        folder: of the sweep, where it has been begun.

    Raises:
        Failed: some could not be trained; the others were.
    """
    return run_sweep(sweep, folder, show=lambda place: show_run(place, Console())).check()


def configurations(models: str, task: str, typed: Sequence[str], *, presets: bool = True) -> str:
    """What would be trained, as YAML: a document for each model."""
    runs = overrides_of(models, task, typed, presets)
    documents = []
    for model, overrides in runs.items():
        with _blaming_preset([model], task, typed):
            documents.append(show(JOB, overrides))
    return "---\n".join(documents)


def overrides_of(
    models: str, task: str, typed: Sequence[str], presets: bool
) -> dict[str, list[str]]:
    """All overrides for each model: names, preset, and what was typed.

    Raises:
        UserError: a name that isn't known, or names typed as keys.
    """
    for given in typed:
        if given.partition("=")[0] in ("model", "task", "model_name", "task_name"):
            raise UserError(
                f"{given!r} is not how models and tasks are chosen: "
                "write them as in svdbench train lstm --task copy"
            )
    task = plain(task)
    names = [plain(name) for name in models.split(",")]
    try:
        refuse_repeated("MODEL", names)
        TASKS.check([task])
        MODELS.check([name for name in names if name != EVERY])
    except ValueError as error:
        raise UserError(str(error)) from error
    if EVERY in names:
        names = MODELS.names()
    return {
        model: [
            *(f"model={model}", f"task={task}", f"model_name={model}", f"task_name={task}"),
            *(preset(task, model, typed) if presets else ()),
            *typed,
        ]
        for model in names
    }


@contextmanager
def _blaming_preset(models: Iterable[str], task: str, typed: Sequence[str]) -> Iterator[None]:
    """Say in which file a key stands that doesn't fit, if it isn't one that was typed."""
    try:
        yield
    except UserError as error:
        for model in models:
            for path, key in sources(plain(task), model, typed):
                if f"'{key}'" in str(error):
                    raise UserError(f"{path}: {error}") from error
        raise
