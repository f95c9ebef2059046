"""From what was typed to a training: its configuration, model, task and loop."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from svdbench.config.compose import compose, show
from svdbench.config.presets import own_preset, preset
from svdbench.errors import UserError, one_line
from svdbench.job import Request
from svdbench.measure.clock import Clock
from svdbench.members import MODELS, TASKS, Registry, refuse_repeated
from svdbench.models.base import SequenceModel
from svdbench.tasks.base import Task
from svdbench.training import checkpoint
from svdbench.training.config import Train
from svdbench.training.learner import Learner
from svdbench.training.loop import Loop
from svdbench.training.parallel import ALONE, Ranks
from svdbench.training.progress import Limits

EVERY = "all"


def models_of(request: Request) -> str:
    """The first argument of a command that trains models.

    Raises:
        UserError: there is none.
    """
    if request.subject is None:
        raise UserError(
            f"no model is given: name one, such as svdbench {request.job.words} lstm; "
            "svdbench list models lists them"
        )
    return request.subject


YAML_END = "---\n"


def start_models(request: Request, run: Callable[[list[Any], str], Path]) -> Path | None:
    """Run a job on all models that were asked for, or show their configurations.

    Args:
        run: of the configuration of each model, and of the text of them all.
    """
    runs = overrides_of(models_of(request), request.flags["task"], request.overrides, presets=True)
    root = request.job.root
    if request.show_config:
        print(YAML_END.join(show(root, overrides) for overrides in runs.values()), end="")
        return None
    composed = [compose(root, overrides) for overrides in runs.values()]
    return run([config for config, _ in composed], YAML_END.join(text for _, text in composed))


def overrides_of(
    models: str, task: str, typed: Sequence[str], presets: bool, own: str | None = None
) -> dict[str, list[str]]:
    """All overrides for each model: names, preset, and what was typed.

    Args:
        presets: whether to start from ``conf/preset``.
        own: a folder of presets to start from instead, or ``searched``.

    Raises:
        UserError: a name that isn't known, or names typed as keys.
    """
    for given in typed:
        if given.partition("=")[0] in ("model", "task", "model_name", "task_name"):
            raise UserError(
                f"{given!r} does not choose a model or a task: write, for example, "
                "svdbench train lstm --task copy"
            )
    task = TASKS.canonical(task)
    names = [MODELS.canonical(name) for name in models.split(",")]
    try:
        refuse_repeated("MODEL", names)
        TASKS.check([task])
        MODELS.check([name for name in names if name != EVERY])
        _offer(TASKS, [task])
        _offer(MODELS, [name for name in names if name != EVERY])
    except ValueError as error:
        raise UserError(str(error)) from error
    if EVERY in names:
        names = MODELS.names()

    def settings(model: str) -> Sequence[str]:
        if own is not None:
            return own_preset(own, task, model, typed)
        return preset(task, model, typed) if presets else ()

    return {
        model: [
            *(f"model={model}", f"task={task}", f"model_name={model}", f"task_name={task}"),
            *settings(model),
            *typed,
        ]
        for model in names
    }


def _offer(group: Registry, names: Iterable[str]) -> None:
    """Let Hydra find members that have no YAML, with the options of their constructors."""
    from hydra.core.config_store import ConfigStore

    for name in names:
        if not group.is_ours(name):
            node = group.options_of(name)
            ConfigStore.instance().store(group=group.folder, name=name, node=node)


def build(config: Train, seed: int) -> tuple[SequenceModel, Task, torch.Generator]:
    """Model, task and the generator of its minibatches, all from one seed.

    Every model that is trained with a seed meets the same minibatches, as long as
    they are of one size.

    Raises:
        UserError: options that don't fit, or data that isn't there.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    model, task = parts(config, with_data=True)
    return model, task, generator


def parts(config: Train, with_data: bool = False) -> tuple[SequenceModel, Task]:
    """Model and task, with or without the data that the task reads from disk.

    Raises:
        UserError: as :func:`build`.
    """
    try:
        task = TASKS.load(config.task_name, **config.task)
        for factor in config.trainer.extrapolate:
            task.longer(factor)
        if with_data:
            task.prepare()
        sizes = {"input_size": task.input_size, "output_size": task.output_size}
        model = MODELS.load(config.model_name, **(config.model | sizes))
    except (TypeError, ValueError) as error:
        raise UserError(one_line(error)) from error
    return model, task


def loop_of(config: Train, seed: int, clock: Clock, ranks: Ranks = ALONE) -> Loop:
    """The training of one seed, at its beginning or where a checkpoint left it.

    Raises:
        UserError: as :func:`build`; or a checkpoint that isn't there, or doesn't fit.
    """
    trainer = config.trainer
    model, task, generator = build(config, seed)
    learner = Learner(
        model,
        task,
        config.optimizer,
        steps=trainer.steps,
        batch_size=trainer.batch_size,
        generator=generator,
        device=trainer.device,
        ranks=ranks,
    )
    limits = Limits(
        steps=trainer.steps,
        evaluate_every=trainer.evaluate_every,
        target=trainer.target * task.baseline if trainer.target else None,
        max_s=None if trainer.max_minutes is None else 60 * trainer.max_minutes,
        extrapolate=tuple(trainer.extrapolate),
    )
    loop = Loop(learner, limits, clock)
    if trainer.resume is not None:
        state = checkpoint.load(trainer.resume)
        with fitting(trainer.resume):
            loop.load_state_dict(state)
        loop.last = None  # this run begins with an evaluation of its own
    return loop


@contextmanager
def fitting(path: str | Path) -> Iterator[None]:
    """Turn what anything has against the contents of a checkpoint into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of any kind, as the contents may be
        raise UserError(
            f"{path} doesn't fit: {one_line(error)}: give the model, task, optimiser and "
            "options that it was trained with"
        ) from error
