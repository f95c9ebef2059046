"""Limits, progress and outcome of a training, and the rows that are written of it."""

from dataclasses import asdict, dataclass
from typing import Any

from svdbench.measure.machine import device_name, threads_of
from svdbench.models.base import SequenceModel
from svdbench.record.run import RunWriter
from svdbench.record.schema import LENGTHS, TRAINED, TRAINING, cell_id
from svdbench.tasks.base import Task
from svdbench.training.config import Train


@dataclass(frozen=True)
class Limits:
    """When to look, and when to stop.

    Attributes:
        steps: of the optimiser, in all.
        evaluate_every: steps from evaluation to evaluation.
        target: the loss to reach, in the task's unit; None: no early stop.
        max_s: seconds to stop after, evaluations included; None: no limit.
        extrapolate: factors of the length of sequences to test on at the end.
        test: whether to look at the test set at the end.
    """

    steps: int
    evaluate_every: int
    target: float | None = None
    max_s: float | None = None
    extrapolate: tuple[int, ...] = ()
    test: bool = True


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, and how training went since the one before.

    Attributes:
        train_loss, grad_norm, step_s: means over those steps; None where there were none.
    """

    step: int
    epoch: float | None
    split: str
    elapsed_s: float
    loss: float | None = None
    accuracy: float | None = None
    train_loss: float | None = None
    grad_norm: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    promise: float | None = None
    step_s: float | None = None


@dataclass(frozen=True)
class LengthTest:
    """Scores on test sequences of another length than those of training.

    Attributes:
        factor: of the length.
        length: steps of a sequence.
        loss, baseline_loss: in the task's unit; the latter without a memory.
    """

    factor: int
    length: int
    loss: float
    baseline_loss: float
    accuracy: float | None


@dataclass(frozen=True)
class StepProgress:
    """Where training is, after every step.

    Attributes:
        left_s: seconds to go, at the pace so far, to the limit that comes first.
        by_clock: whether that is the limit of minutes.
    """

    step: int
    loss: float
    grad_norm: float
    steps_per_s: float
    left_s: float
    by_clock: bool


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a training.

    Attributes:
        status: ``ok``, all steps done; ``target``, ``timeout``, ``nan`` or ``interrupted``;
            ``oom`` or ``failed``, where something was raised.
        reason: in words.
        last: the last evaluation; of a ``nan``, the step that failed.
        best: the evaluation with the lowest loss; None before the first.
        test: the one evaluation on the test set, where training ended well.
        lengths: tests with the same weights on sequences of several lengths.
        steps_per_s: over training time.
    """

    status: str
    reason: str
    last: Evaluation | None
    best: Evaluation | None
    test: Evaluation | None
    elapsed_s: float
    evaluation_s: float
    steps_per_s: float | None
    lengths: tuple[LengthTest, ...] = ()

    @property
    def reached(self) -> Evaluation | None:
        return self.last if self.status == "target" else None


class TrainingRows:
    """The rows of one model, task and seed, each written as soon as it is known."""

    def __init__(
        self, record: RunWriter, config: Train, seed: int, model: SequenceModel, task: Task
    ) -> None:
        trainer, optimizer = config.trainer, config.optimizer
        self.record = record
        settings: dict[str, Any] = {
            "model": config.model_name,
            "task": config.task_name,
            "seed": seed,
            "hidden_size": model.hidden_size,
            "length": task.length,
            "batch_size": trainer.batch_size,
            "optimizer": optimizer.name,
            "lr": optimizer.lr,
            "orthogonal_lr": optimizer.orthogonal_lr,
            "device": trainer.device,
        }
        # Everything that a result depends on; enumerations have their name for JSON.
        options: dict[str, Any] = {"model": config.model, "task": config.task}
        options["optimizer"] = asdict(optimizer) | {"schedule": optimizer.schedule.value}
        options["steps"] = trainer.steps
        for key in ("processes", "nodes"):
            if (count := getattr(trainer, key)) > 1:  # the same but for rounding, in another time
                options[key] = count
        self.common = settings | {
            "cell": cell_id(job=record.job, settings=settings, options=options),
            "threads": threads_of(trainer.device),
            "processes": trainer.world_size,
            "baseline_loss": task.baseline,
            "n_params": model.n_params,
        }
        self.described = {
            "task_title": task.title,
            "loss_unit": task.loss_unit,
            "metric": task.metric,
            "chance": task.chance,
            "kind": model.kind,
            "target": trainer.target or None,
            "device_name": device_name(trainer.device),
        }

    def evaluation(self, point: Evaluation) -> None:
        self._sample(point, "ok", "")

    def summary(self, outcome: TrainingOutcome, reason: str) -> None:
        """The last rows: of the test, or of the step that failed, and of all."""
        if outcome.status == "nan" and outcome.last is not None:
            self._sample(outcome.last, "nan", reason)
        if outcome.test is not None:
            self._sample(outcome.test, "ok", "")
        for test in outcome.lengths:
            self.record.append(
                LENGTHS,
                self.common
                | {key: self.described[key] for key in ("metric", "chance")}
                | {
                    "status": "ok",
                    "times": test.factor,
                    "test_length": test.length,
                    "loss": test.loss,
                    "baseline_loss": test.baseline_loss,
                    "relative_loss": test.loss / test.baseline_loss,
                    "accuracy": test.accuracy,
                },
            )
        row: dict[str, Any] = self.common | self.described | self._point(outcome.last)
        row |= {
            "status": outcome.status,
            "reason": reason,
            **_scores("best", outcome.best),
            **_scores("test", outcome.test),
            "elapsed_s": outcome.elapsed_s,
            "evaluation_s": outcome.evaluation_s,
            "steps_per_s": outcome.steps_per_s,
            "step_s": 1 / outcome.steps_per_s if outcome.steps_per_s else None,
        }
        if outcome.reached is not None:
            row["steps_to_target"] = outcome.reached.step
            row["seconds_to_target"] = outcome.reached.elapsed_s
        self.record.append(TRAINED, row)

    def _sample(self, point: Evaluation, status: str, reason: str) -> None:
        row = self.common | self._point(point) | {"status": status, "reason": reason}
        self.record.append(TRAINING, row)

    def _point(self, point: Evaluation | None) -> dict[str, Any]:
        if point is None:
            return {}
        row = asdict(point)
        if point.loss is not None:
            row["relative_loss"] = point.loss / self.common["baseline_loss"]
        return row


def _scores(name: str, point: Evaluation | None) -> dict[str, Any]:
    if point is None:
        return {}
    return {
        f"{name}_step": point.step,
        f"{name}_loss": point.loss,
        f"{name}_accuracy": point.accuracy,
    }
