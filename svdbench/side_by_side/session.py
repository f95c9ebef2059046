"""Trains the arms of an experiment side by side, seed by seed, and writes their rows."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import nn

from svdbench.job import Job
from svdbench.lowrank import Factored
from svdbench.measure.clock import clock_of
from svdbench.measure.machine import device_name, threads_of
from svdbench.record.run import RunWriter
from svdbench.record.schema import COMPRESSED, TableSchema, cell_id
from svdbench.reporting.words import UNKNOWN, number, share
from svdbench.running.session import RunDisplay, interrupted, running
from svdbench.side_by_side.arms import Arm, Batches, Epoch, side_by_side
from svdbench.side_by_side.config import SideBySide
from svdbench.side_by_side.families import NetworkFamily
from svdbench.side_by_side.networks import Scores
from svdbench.side_by_side.problems import Examples, TrainingProblem

Config = TypeVar("Config", bound=SideBySide)
Setting = TypeVar("Setting")
LEAST_BATCHES = 8


@dataclass(frozen=True)
class Experiment(Generic[Config, Setting]):
    """What all seeds have in common.

    Attributes:
        settings: what makes the arms, that of the unchanged network first.
        problem: the network, and the examples to train on and to test.
    """

    usual_epochs: ClassVar[int]
    least_steps: ClassVar[int]

    config: Config
    settings: list[Setting]
    problem: TrainingProblem

    @property
    def family(self) -> NetworkFamily:
        return self.problem.family

    @property
    def train(self) -> Examples:
        return self.problem.train

    @property
    def test(self) -> Examples:
        return self.problem.test

    @property
    def batch_size(self) -> int:
        """Examples of a batch; by default the problem's, or an eighth of a smaller set."""
        small = math.ceil(len(self.train[0]) / LEAST_BATCHES)
        return self.config.batch_size or min(self.problem.batch_size, small)

    @property
    def batches(self) -> int:
        return math.ceil(len(self.train[0]) / self.batch_size)

    @property
    def epochs(self) -> int:
        enough = math.ceil(self.least_steps / self.batches)
        return self.config.epochs or max(self.problem.epochs or self.usual_epochs, enough)

    @property
    def preparations(self) -> int:
        """The number of units before the seeds, see :meth:`ArmsSession.prepare`."""
        return 0

    @property
    def options(self) -> dict[str, Any]:
        """What defines a cell beside its columns."""
        config = self.config
        return {
            "optimizer": asdict(config.optimizer) | {"schedule": config.optimizer.schedule.value},
            "activation": config.activation,
            "shuffle": config.shuffle,
            "epochs": self.epochs,
            "dtype": config.dtype.value,
        }

    def network(self) -> nn.Module:
        """With weights drawn from torch's generator."""
        return self.placed(self.family.build())

    def placed(self, network: nn.Module) -> nn.Module:
        """A network where the examples are, in the precision of the run."""
        return network.to(self.train[0].device, getattr(torch, self.config.number_type))


class SharedRows:
    """The rows of a run, each in its file as soon as it is known.

    Attributes:
        settings: columns that all rows have.
        options: what defines a cell beside its columns.
    """

    summary_table: ClassVar[TableSchema] = COMPRESSED

    def __init__(self, record: RunWriter, given: Experiment[Any, Any]) -> None:
        config = given.config
        self.record = record
        self.settings: dict[str, Any] = {
            "model": given.family.label,
            "dataset": given.problem.dataset,
            "batch_size": given.batch_size,
            "optimizer": config.optimizer.name,
            "lr": config.optimizer.lr,
            "device": config.device,
        }
        self.options = given.options
        self.device = config.device
        self.threads = threads_of(self.device)

    def cell(self, settings: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The columns of an arm: its settings, and the cell that they define."""
        settings = self.settings | settings
        cell = cell_id(job=self.record.job, settings=settings, options=self.options | options)
        return settings | {"threads": self.threads, "cell": cell}

    @staticmethod
    def scores(
        arm: Arm, split: str, scores: Scores | None, rel_error: float | None, size: dict[str, int]
    ) -> dict[str, Any]:
        """The columns of an arm's results on a split, with the size of its network."""
        row: dict[str, Any] = {
            "split": split,
            "epoch": len(arm.history),
            "step": sum(done.steps for done in arm.history),
            "rel_error": rel_error,
            "energy": None if rel_error is None else 1 - rel_error**2,
            "status": arm.status,
            "reason": arm.reason,
        }
        if arm.history:
            row["train_loss"] = arm.history[-1].loss
        if scores is not None:
            row["loss"] = scores.loss
            if scores.accuracy is not None:
                row["accuracy"] = scores.accuracy
        return row | size

    def end(self, row: dict[str, Any]) -> None:
        """Write the summary of an arm, whose rows are then complete."""
        self.record.append(self.summary_table, row | {"device_name": device_name(self.device)})


def weight_columns(layer: Factored) -> dict[str, Any]:
    """A weight as factors or dense: which one, its size, the numbers, and why."""
    dense, numbers = layer.numbers
    return {
        "layer": layer.weight.name,
        "rows": layer.weight.rows,
        "columns": layer.weight.columns,
        "form": "factors" if layer.rank else "dense",
        "dense_numbers": dense,
        "numbers": numbers,
        "reason": layer.reason,
    }


A = TypeVar("A", bound=Arm)
G = TypeVar("G", bound=Experiment[Any, Any])


class ArmsSession(ABC, Generic[G, A]):
    """Trains the arms of a job and writes their rows.

    Attributes:
        score_name: score on the test set in the line at the end of a seed.
        ending: ok, or timeout or interrupted where there is nothing more to be done.
    """

    score_name: ClassVar[Literal["accuracy", "error"]]

    def __init__(self, given: G, record: RunWriter, shown: RunDisplay) -> None:
        self.given = given
        self.shown = shown
        self.clock = clock_of(given.train[0].device)
        self.ending = "ok"
        minutes = given.config.max_minutes
        self.until = None if minutes is None else time.monotonic() + 60 * minutes
        self._begun = False

    def prepare(self, record: RunWriter) -> None:
        """Find out, before the first seed, what all seeds have in common, unit by unit."""

    @abstractmethod
    def arms(self, seed: int) -> list[A]:
        """All arms, with the same weights, the unchanged network first."""

    @abstractmethod
    def begin(self, arms: list[A], seed: int) -> None:
        """Warm up, before the first of all seeds, with other arms than these."""

    def train_epoch(self, arm: A, batches: Epoch) -> bool:
        """Train an arm for an epoch, if it has not failed; whether there is one to write down."""
        return arm.train(batches, self.clock) is not None

    @abstractmethod
    def epoch(self, arm: A, last: bool) -> Scores:
        """Write down an arm's epoch, with these scores on the test set."""

    @abstractmethod
    def end(self, arms: list[A]) -> None:
        """Measure the trained arms of a seed."""

    @abstractmethod
    def summary(self, arm: A, stock: A, scores: Scores | None) -> None:
        """Write the summary of an arm; ``stock`` is the unchanged network."""

    def memo(self) -> dict[str, Any]:
        """State passed on to later seeds; must be JSON-serialisable."""
        return {}

    def restore(self, memo: Mapping[str, Any]) -> None:
        """Restore the state of an interrupted run."""

    def train(self, seed: int) -> None:
        """Train all arms from one seed."""
        self.shown.begin(f"seed {seed}")
        arms = self.arms(seed)
        scores: dict[str, Scores] = {}
        try:
            if not self._begun:
                self.shown.doing(0.0, "warming up")
                self.begin(arms, seed)
                self._begun = True
            self._epochs(arms, scores, seed)
            self.end(arms)
        except KeyboardInterrupt:
            self.ending = "interrupted"
        for arm in arms:
            if arm.status == "ok":
                arm.status = self.ending
            self.summary(arm, arms[0], scores.get(arm.name))
        self.shown.finish(f"seed {seed}: {self._told(arms, scores)}")

    def batches(self, seed: int) -> Batches:
        given = self.given
        return Batches(*given.train, given.batch_size, seed, given.config.shuffle)

    def _epochs(self, arms: list[A], scores: dict[str, Scores], seed: int) -> None:
        epochs = self.given.epochs
        turns = side_by_side(arms, self.batches(seed), epochs, self.train_epoch)
        for turn, (epoch, arm, done) in enumerate(turns, 1):
            self.shown.doing(turn / (epochs * len(arms)), f"epoch {epoch + 1}/{epochs}")
            if done:
                scores[arm.name] = self.epoch(arm, epoch + 1 == epochs)
            # All arms of an epoch or none, so that those that there are can be compared.
            if turn % len(arms) == 0 and self._time_is_up() and turn < epochs * len(arms):
                self.ending = "timeout"
                return

    def _told(self, arms: list[A], scores: dict[str, Scores]) -> str:
        score = "loss" if self.given.problem.is_regression else self.score_name
        words = []
        for arm in arms:
            known = f"{_score(scores[arm.name], score)}" if arm.name in scores else UNKNOWN
            words.append(f"{arm.name} {known}" + (f" ({arm.reason})" if arm.reason else ""))
        return f"test {score} {'; '.join(words)}"

    def _time_is_up(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until


def _score(scores: Scores, name: str) -> str:
    """A score in words: loss, accuracy or error."""
    if name == "loss" or scores.accuracy is None:
        return number(scores.loss)
    return share(scores.accuracy if name == "accuracy" else 1 - scores.accuracy)


def run_session(
    job: Job,
    kind: Callable[[G, RunWriter, RunDisplay], ArmsSession[G, A]],
    given: G,
    text: str,
    folder: str | None,
) -> Path:
    """Train from every seed in a session of this kind; returns the folder with the results."""
    config = given.config
    units = given.preparations + config.seeds
    with running(job, config, text, folder, units) as (record, shown):
        record.write_events(getattr(config, "tensorboard", False))
        session = kind(given, record, shown)
        with record.recalling() as memo:
            session.restore(memo)
        session.prepare(record)
        for seed in range(config.seed, config.seed + config.seeds):
            if f"seed {seed}" in record.units:
                continue
            session.train(seed)
            if session.ending != "interrupted":
                record.finish(f"seed {seed}", **session.memo())
            if session.ending != "ok":
                break
    if session.ending == "interrupted":
        raise interrupted(job, record.folder)
    return record.folder
