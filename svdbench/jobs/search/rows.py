"""The tables of ``search``: a row for each training of a trial, and one for the best."""

import json
from typing import Any

from svdbench.jobs.search.config import Search
from svdbench.jobs.search.rounds import Round, Score
from svdbench.jobs.search.space import Settings
from svdbench.models.base import SequenceModel
from svdbench.record.run import RunWriter
from svdbench.record.schema import TRAINING_STATUSES, TableSchema, cell_id
from svdbench.tasks.base import Task
from svdbench.training.progress import TrainingOutcome
from svdbench.training.rows import TrainingRows

_OF = ("model", "task", "seed", "hidden_size", "length", "batch_size", "optimizer", "device")
_RESULT = (
    *("task_title", "loss_unit", "metric", "n_params", "baseline_loss", "relative_loss"),
    *("accuracy", "steps_to_target", "seconds_to_target"),
)

# A row for each trial of each round: its settings as JSON, by key. ``relative_loss`` and
# ``accuracy`` are those of the evaluation with the lowest loss.
TRIALS = TableSchema(
    "summary",
    (
        *_OF,
        *("threads", "round", "trial", "settings", "lr", "orthogonal_lr", "clip", "schedule"),
        *("steps", "step", *_RESULT, "elapsed_s", "evaluation_s", "device_name"),
    ),
    TRAINING_STATUSES,
)
# A row for each model: the best trial of the last round. ``edge`` names rates that lie at an edge
# of their range, and ``widened`` those whose range was widened.
BEST = TableSchema(
    "best",
    (
        *_OF,
        *("trial", "settings", "steps", "rank", "score", "edge", "widened", "preset"),
    ),
    TRAINING_STATUSES,
)


class SearchRows:
    """Writes the rows of one model."""

    def __init__(self, record: RunWriter, config: Search, model: SequenceModel, task: Task) -> None:
        self.record, self.config, self.model, self.task = record, config, model, task

    def trial(
        self, of: Round, trial: int, settings: Settings, config: Search, outcome: TrainingOutcome
    ) -> None:
        training = TrainingRows(self.record, config, config.seed, self.model, self.task)
        row: dict[str, Any] = training.common | training.described
        row = {key: value for key, value in row.items() if key in TRIALS.columns}
        optimizer = config.optimizer
        row |= {
            "status": outcome.status,
            "reason": outcome.reason,
            "round": of.number + 1,
            "trial": trial,
            "settings": json.dumps(settings),
            "clip": optimizer.clip,
            "schedule": optimizer.schedule.value,
            "steps": config.trainer.steps,
            "step": None if outcome.last is None else outcome.last.step,
            "elapsed_s": outcome.elapsed_s,
            "evaluation_s": outcome.evaluation_s,
        }
        if outcome.best is not None and outcome.best.loss is not None:
            row["relative_loss"] = outcome.best.loss / self.task.baseline
            row["accuracy"] = outcome.best.accuracy
        if outcome.reached is not None:
            row["steps_to_target"] = outcome.reached.step
            row["seconds_to_target"] = outcome.reached.elapsed_s
        self.record.append(TRIALS, row)

    def best(
        self,
        trial: int,
        settings: Settings,
        score: Score,
        steps: int,
        edges: list[str],
        widened: list[str],
        preset: str | None,
    ) -> None:
        training = TrainingRows(self.record, self.config, self.config.seed, self.model, self.task)
        row = {key: value for key, value in training.common.items() if key in _OF}
        ours = {"trials": self.config.trials, "minutes": self.config.minutes}
        row["cell"] = cell_id(job=self.record.job, training=training.common["cell"], search=ours)
        rank, value = score
        row |= {
            "status": "failed" if preset is None else "ok",
            "reason": "no trial of the last round has a loss" if preset is None else "",
            "trial": trial,
            "settings": json.dumps(settings),
            "steps": steps,
            "rank": rank,
            "score": value,
            "edge": "; ".join(edges),
            "widened": "; ".join(widened),
            "preset": preset,
        }
        self.record.append(BEST, row)
