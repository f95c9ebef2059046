"""Trains one model on one task, once for each seed: rows, checkpoints, a report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from svdbench.jobs.train import JOB
from svdbench.measure.clock import Clock, WallClock
from svdbench.record.events import require_tensorboard
from svdbench.record.run import RunWriter
from svdbench.record.schema import GOOD_ENDINGS
from svdbench.reporting.render import screen
from svdbench.reporting.words import quantity
from svdbench.running.session import device_of, interrupted, open_record, resumption, show_results
from svdbench.training import checkpoint
from svdbench.training.build import fitting, loop_of, parts
from svdbench.training.config import Train
from svdbench.training.display import PLAIN, TrainingDisplay
from svdbench.training.loop import Loop
from svdbench.training.parallel import ALONE, Ranks, packed
from svdbench.training.progress import Evaluation, TrainingRows

BEST, LAST = "best.pt", "last.pt"  # of each seed


@dataclass(frozen=True)
class TrainResult:
    """Where a run wrote, and the statuses with which its seeds ended.

    Attributes:
        ours: whether this machine wrote it; of several nodes, only the first does.
    """

    folder: Path
    endings: list[str]
    ours: bool = True

    @property
    def well(self) -> bool:
        """Whether at least one did."""
        return any(status in GOOD_ENDINGS for status in self.endings)


def run(
    config: Train,
    text: str,
    folder: str | None = None,
    *,
    clock: Clock | None = None,
    console: Console | None = None,
    ranks: Ranks = ALONE,
    on_folder: Callable[[Path], None] = lambda folder: None,
) -> TrainResult:
    """Run the job.

    Args:
        ranks: the processes that train together, of which this is the first.
        on_folder: called with the run's folder once it is there.
    """
    place = config.trainer.where()
    clock, console = clock or WallClock(device_of(place)), console or screen()
    # Before anything is written: it may be a mistake.
    require_tensorboard(config.tensorboard)
    first = loop_of(config, config.seed, clock, ranks)
    endings: dict[int, str] = {}
    several = quantity(ranks.size, "process", "processes")
    together = f", in each of {several}" if ranks.size > 1 else ""
    with open_record(JOB, config, place, text, folder, console, together) as record:
        on_folder(record.folder)
        record.write_events(config.tensorboard)
        with record.recalling() as memo:
            endings |= {int(seed): str(how) for seed, how in memo.get("endings", {}).items()}
        if record.resumed:
            console.print(resumption(len(endings), config.trainer.seeds, "seeds"), **PLAIN)
        try:
            for seed in range(config.seed, config.seed + config.trainer.seeds):
                if seed in endings:
                    continue
                loop = first if seed == config.seed else loop_of(config, seed, clock, ranks)
                endings[seed] = _train(loop, config, text, seed, record, console)
                if endings[seed] == "interrupted":
                    break
                record.finish(f"seed {seed}", endings=endings)
        except KeyboardInterrupt:  # while a model is made
            endings[seed] = "interrupted"
    if folder is None:  # a sweep's runs are reported together
        show_results(JOB, record.folder, console)
    if "interrupted" in endings.values():
        raise interrupted(JOB, record.folder)
    return TrainResult(record.folder, list(endings.values()))


def check(config: Train) -> None:
    """Check the options of the model and the task, without data."""
    require_tensorboard(config.tensorboard)
    parts(config)


def _train(
    loop: Loop, config: Train, text: str, seed: int, record: RunWriter, console: Console
) -> str:
    """Train, and write rows and checkpoints; how it ended."""
    model, task = loop.learner.model, loop.learner.task
    rows = TrainingRows(record, config, seed, model, task)
    folder = record.folder / f"seed-{seed}" if config.trainer.checkpoint else None
    if folder is not None and record.resumed and (folder / LAST).exists():
        _go_on(loop, folder / LAST, seed, record)
        console.print(f"from step {loop.learner.step:,}", **PLAIN)

    def on_evaluation(point: Evaluation, best: bool) -> None:
        rows.evaluation(point)
        shown.evaluation(point)
        record.commit()
        if folder is not None:
            state = loop.state_dict() | {"config": text, "seed": seed, "tables": record.mark()}
            # A run resumes from the last checkpoint, so it is written after everything else.
            for name in (BEST, LAST) if best else (LAST,):
                checkpoint.save(folder / name, state)

    with TrainingDisplay(console, f"{config.model_name}, seed {seed}", task, loop.limits) as shown:
        loop.on_step, loop.on_evaluation = shown.step, on_evaluation
        if loop.learner.ranks.size > 1:  # the other processes begin where this one does
            loop.learner.ranks.broadcast((seed, packed(loop.state_dict())))
        outcome = loop.run()
        rows.summary(outcome, outcome.reason)
        kept = ""
        if folder is not None and outcome.best is not None and outcome.status not in GOOD_ENDINGS:
            kept = f"; the last good checkpoint is {folder / LAST}"
        shown.finish(outcome, outcome.reason + kept)
    return outcome.status


def _go_on(loop: Loop, path: Path, seed: int, record: RunWriter) -> None:
    """From the checkpoint of a training that was cut short."""
    state = checkpoint.load(path)
    with fitting(path):
        if state.get("seed") != seed:
            raise ValueError(f"seed is {checkpoint.shown(state.get('seed'))} instead of {seed}")
        mark = {
            name: checkpoint.whole_number(size, f"tables.{checkpoint.shown(name)}")
            for name, size in checkpoint.mapping(state.get("tables"), "tables").items()
        }
        loop.load_state_dict(state)
        record.rewind(mark)
