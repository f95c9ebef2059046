"""Trains a network dense, in low rank, and with fewer hidden units, side by side."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from svdbench.errors import as_user_error
from svdbench.jobs.accelerate import JOB
from svdbench.jobs.accelerate.config import Accelerate, TrainingBudget
from svdbench.jobs.accelerate.experiment import (
    AccelerateArm,
    AccelerateExperiment,
    drawn,
    settings_of,
)
from svdbench.jobs.accelerate.preparation import Preparation
from svdbench.jobs.accelerate.rows import AccelerateRows
from svdbench.record.events import require_tensorboard
from svdbench.record.run import RunWriter
from svdbench.reporting.words import number, quantity, seconds
from svdbench.running.session import RunDisplay
from svdbench.side_by_side.arms import WARM_UP_STEPS
from svdbench.side_by_side.execution import check_compiler
from svdbench.side_by_side.networks import Scores, evaluate
from svdbench.side_by_side.problems import problem_of
from svdbench.side_by_side.session import ArmsSession, run_session

HIDDEN = (512, 256)  # Sarnayak et al. 2020
CALIBRATION, RATES = "calibration", "rates"


def run(config: Accelerate, text: str, folder: str | None = None) -> Path:
    return run_session(JOB, AccelerateSession, prepare(config), text, folder)


def prepare(config: Accelerate) -> AccelerateExperiment:
    """Network, data and arms, checked before a run starts."""
    require_tensorboard(config.tensorboard)
    problem = problem_of(config, HIDDEN)
    if config.compile:
        check_compiler(problem.train[0].device)
    with as_user_error():
        settings = settings_of(config, problem.family)
        given = AccelerateExperiment(config, settings, problem)
        for setting in {each.method: each for each in settings}.values():
            given.refuse_optimizer(setting)
    return given


class AccelerateSession(ArmsSession[AccelerateExperiment, AccelerateArm]):
    score_name = "accuracy"

    def __init__(self, given: AccelerateExperiment, record: RunWriter, shown: RunDisplay) -> None:
        super().__init__(given, record, shown)
        self.prepared = Preparation(given, self.clock)
        self.rows = AccelerateRows(record, given, self.prepared)

    def memo(self) -> dict[str, Any]:
        return {}

    def restore(self, memo: Mapping[str, Any]) -> None:
        if memo:
            self.prepared.restore(memo)

    def prepare(self, record: RunWriter) -> None:
        config, prepared, shown = self.given.config, self.prepared, self.shown
        timed = config.with_rivals or config.budget_of is TrainingBudget.seconds
        if timed and CALIBRATION not in record.units:
            shown.begin(CALIBRATION)
            prepared.calibrate(shown.doing)
            self.rows.rivals()
            record.finish(CALIBRATION, **prepared.memo())
            shown.finish(f"calibration: {quantity(len(prepared.settings), 'arm')}")
        if config.lrs is not None and RATES not in record.units:
            shown.begin(RATES)
            prepared.choose_rates(shown.doing)
            record.finish(RATES, **prepared.memo())
            words = "; ".join(f"{name} {number(rate)}" for name, rate in prepared.lrs.items())
            shown.finish(f"rates ({seconds(prepared.search_s or 0.0)}): {words}")

    def arms(self, seed: int) -> list[AccelerateArm]:
        return [self.prepared.arm(setting, seed) for setting in self.prepared.settings]

    def begin(self, arms: list[AccelerateArm], seed: int) -> None:
        if not any(unit.startswith("seed") for unit in self.rows.record.units):
            self.rows.layers()
        for setting in self.prepared.settings:
            stages = len(self.prepared.costs.products[setting.label])
            changes = tuple((stage + 1) / WARM_UP_STEPS for stage in range(stages - 1))
            network = drawn(self.given, setting, seed)
            arm = self.given.arm(setting, seed, network, budget=WARM_UP_STEPS, changes=changes)
            super().train_epoch(arm, self._prepared(self.batches(seed).epoch(0), WARM_UP_STEPS))

    def train_epoch(self, arm: AccelerateArm, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
        if self.given.config.budget_of is not TrainingBudget.steps:
            share = (arm.state.epoch + 1) / self.given.epochs
            batches = arm.round(self.batches(arm.seed), share)
        return super().train_epoch(arm, self._prepared(batches)) and arm.status == "ok"

    def _prepared(
        self, batches: Iterable[tuple[Tensor, Tensor]], most: int | None = None
    ) -> Iterable[tuple[Tensor, Tensor]]:
        batches = batches if most is None else islice(batches, most)
        return _with_gradient(batches) if self.given.config.input_gradient else batches

    def epoch(self, arm: AccelerateArm, last: bool) -> Scores:
        network = arm.dense() if last else arm.network
        scores = evaluate(network, *self.given.test, arm.loss)
        self.rows.epoch(arm, "test", scores)
        if last:
            self.rows.epoch(arm, "train", evaluate(network, *self.given.problem.scored, arm.loss))
        return scores

    def end(self, arms: list[AccelerateArm]) -> None:
        """Nothing: all that is to be timed is training."""

    def summary(self, arm: AccelerateArm, stock: AccelerateArm, scores: Scores | None) -> None:
        self.rows.summary(arm, stock, scores)


def _with_gradient(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches, whose examples want a gradient."""
    for X, y in batches:
        yield X.detach().requires_grad_(), y
