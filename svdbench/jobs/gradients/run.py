"""Trains models and looks, at every evaluation, at the gradients of their states."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from svdbench.job import Job, Request
from svdbench.jobs.gradients import JOB, Gradients
from svdbench.measure.clock import WallClock
from svdbench.record.run import RunWriter
from svdbench.record.schema import TableSchema
from svdbench.reporting.render import screen
from svdbench.running.session import device_of, interrupted, open_record, show_results
from svdbench.training.build import loop_of, start_models
from svdbench.training.display import TrainingDisplay
from svdbench.training.evaluation import state_gradient_norms
from svdbench.training.loop import Loop
from svdbench.training.progress import Evaluation, TrainingRows

# A row for each evaluation and each step t = 1 … T of the sequence; ``norm`` is ‖∂L/∂h_t‖.
_OF = ("model", "task", "seed", "hidden_size", "length")
NORMS = TableSchema("gradients", (*_OF, "sequences", "step", "t", "norm"))


def start(request: Request) -> Path | None:
    """Train each of the models that were asked for, or show their configurations."""
    return start_models(request, train_all)


def finish_run(job: Job, configs: Sequence[Gradients], text: str, folder: Path) -> Path:
    """Finish a run that was interrupted; it has a configuration for each model."""
    return train_all(configs, text, str(folder))


def train_all(configs: Sequence[Gradients], text: str, folder: str | None = None) -> Path:
    """Train the model of each configuration, one after the other; the folder of the results."""
    place = configs[0].trainer.where()
    clock, console = WallClock(device_of(place)), screen()
    for config in configs:  # errors before anything is written
        loop_of(config, config.seed, clock)
    status = ""
    with open_record(JOB, configs[0], place, text, folder, console) as record:
        for config, seed in _trainings(configs):
            unit = f"{config.model_name}, seed {seed}"
            if unit in record.units:
                continue
            status = _train(loop_of(config, seed, clock), config, seed, record, console)
            if status == "interrupted":
                break
            record.finish(unit)
    show_results(JOB, record.folder, console)
    if status == "interrupted":
        raise interrupted(JOB, record.folder)
    return record.folder


def _trainings(configs: Sequence[Gradients]) -> Iterator[tuple[Gradients, int]]:
    for config in configs:
        for seed in range(config.seed, config.seed + config.trainer.seeds):
            yield config, seed


def _train(loop: Loop, config: Gradients, seed: int, record: RunWriter, console: Console) -> str:
    model, task = loop.learner.model, loop.learner.task
    rows = TrainingRows(record, config, seed, model, task)
    x, y = loop.data
    watched = next(task.split(x, y, config.sequences))
    common = {key: rows.common[key] for key in ("cell", *_OF)}
    common |= {"sequences": watched[0].shape[1], "status": "ok"}

    def on_evaluation(point: Evaluation, best: bool) -> None:
        rows.evaluation(point)
        shown.evaluation(point)
        norms = state_gradient_norms(model, task, watched, loop.learner.device)
        for t, norm in enumerate(norms.tolist(), start=1):
            record.append(NORMS, {**common, "step": point.step, "t": t, "norm": norm})
        record.commit()

    with TrainingDisplay(console, f"{config.model_name}, seed {seed}", task, loop.limits) as shown:
        loop.on_step, loop.on_evaluation = shown.step, on_evaluation
        outcome = loop.run()
        rows.summary(outcome, outcome.reason)
        shown.finish(outcome, outcome.reason)
    return outcome.status
