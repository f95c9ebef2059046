"""What a training writes down: a row for each evaluation, and one at its end."""

from dataclasses import asdict
from typing import Any

from svdbench.measure.machine import device_name, threads_of
from svdbench.models.base import SequenceModel
from svdbench.record.run import RunWriter
from svdbench.record.schema import LENGTHS, TRAINED, TRAINING, cell_id
from svdbench.tasks.base import Task
from svdbench.training.config import Train
from svdbench.training.progress import Evaluation, TrainingOutcome


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
