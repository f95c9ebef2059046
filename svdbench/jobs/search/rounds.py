"""The rounds of a search, by successive halving, and a row for each of their trials.

After many short trials, the best third is trained three times as long: Jamieson and Talwalkar,
Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016, with a factor
of 3 as in Hyperband. Each round trains anew, with a seed of its own: a schedule then fits its
number of steps, and a lucky seed is not carried along.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svdbench.jobs.search import Search
from svdbench.jobs.search.space import Settings
from svdbench.models.base import SequenceModel
from svdbench.record.run import RunWriter
from svdbench.record.schema import TRAINING_STATUSES, TableSchema, cell_id
from svdbench.tasks.base import Task
from svdbench.training.progress import TrainingOutcome, TrainingRows

FACTOR = 3


@dataclass(frozen=True)
class Round:
    """So many trials, of so many seconds each."""

    number: int
    trials: int
    seconds: float


def rounds(trials: int, minutes: float) -> list[Round]:
    """The rounds of a search, each with about the same part of the minutes.

    Example:
        >>> [(each.trials, each.seconds) for each in rounds(24, 5)]
        [(24, 4.0), (8, 12.0), (3, 36.0)]
    """
    counts = [trials]
    while counts[-1] > FACTOR:
        counts.append(math.ceil(counts[-1] / FACTOR))
    whole = sum(count * FACTOR**number for number, count in enumerate(counts))
    return [
        Round(number, count, FACTOR**number * 60 * minutes / whole)
        for number, count in enumerate(counts)
    ]


# A trial's rank: 0 with its steps to the target, 1 with its lowest loss over the baseline, or 2
# where it has none; the lower the better.
Score = tuple[int, float]
FAILED: Score = (2, 0.0)


def best(scores: Mapping[int, Score], count: int) -> list[int]:
    """The best trials by their scores; of equal ones, the first."""
    return sorted(scores, key=lambda trial: (scores[trial], trial))[:count]


def survivors(scores: Mapping[int, Score], count: int) -> list[int]:
    """The trials of the next round: the preset, 0, whatever its score, and the best of the others.

    So what wins has been compared with the preset, trained equally long.
    """
    others = {trial: score for trial, score in scores.items() if trial != 0}
    return [0, *best(others, count - 1)]


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
