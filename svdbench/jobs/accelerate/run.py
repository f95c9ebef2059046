"""Trains a network dense, in low rank, and with fewer hidden units; writes rows for each arm."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from svdbench.errors import as_user_error
from svdbench.jobs.accelerate import JOB, Accelerate, TrainingBudget
from svdbench.jobs.accelerate.costs import ceiling, size_of, weighted
from svdbench.jobs.accelerate.experiment import (
    DENSE,
    AccelerateArm,
    AccelerateExperiment,
    AccelerateSetting,
    drawn,
    settings_of,
)
from svdbench.jobs.accelerate.preparation import Preparation
from svdbench.jobs.accelerate.rivals import Rival
from svdbench.record.events import require_tensorboard
from svdbench.record.run import RunWriter
from svdbench.record.schema import ACCELERATED, ACCELERATION, LAYERS, RIVALS
from svdbench.reporting.words import number, quantity, seconds
from svdbench.running.session import RunDisplay
from svdbench.side_by_side.arms import WARM_UP_STEPS, Epoch
from svdbench.side_by_side.execution import check_compiler
from svdbench.side_by_side.networks import Scores, evaluate
from svdbench.side_by_side.problems import problem_of, task_options
from svdbench.side_by_side.session import ArmsSession, SharedRows, run_session, weight_columns


class AccelerateRows(SharedRows):
    summary_table = ACCELERATED

    def __init__(
        self, record: RunWriter, given: AccelerateExperiment, prepared: Preparation
    ) -> None:
        super().__init__(record, given)
        config = given.config
        self.given, self.prepared = given, prepared
        self.options |= {
            "start": config.start.value,
            "carry_moments": config.carry_moments,
            "input_gradient": config.input_gradient,
        }
        if config.compile:
            self.options |= {"compile": True}
        if config.task_name is not None:
            own = task_options(config)
            own.pop("data_dir", None)  # where files are defines nothing
            self.options |= {"sequences": len(given.train[0]), "task": own}
        if config.budget_of is not TrainingBudget.steps:
            self.options |= {"budget": config.budget_of.value, "budget_s": config.budget_s}

    def layers(self) -> None:
        for setting in self.given.settings:
            shared = self.settings | self._setting(setting) | {"threads": self.threads}
            for layer in setting.layers:
                row = shared | weight_columns(layer) | {"kept": layer.rank, "status": "ok"}
                self.record.append(LAYERS, row)

    def rivals(self) -> None:
        """What each smaller network was chosen for, and what a step of every arm costs."""
        prepared = self.prepared
        for setting in prepared.settings:
            label = setting.label
            if label not in prepared.costs.seconds:
                continue
            row = self.settings | self._setting(setting)
            row |= {
                "seed": self.given.config.seed,
                "threads": self.threads,
                "status": "ok",
                "width": setting.share,
                "step_s": prepared.mean_seconds(label),
                "multiplications": prepared.mean_products(label),
            }
            for rival in prepared.rivals.get(label, [Rival(setting.share, "")]):
                self.record.append(RIVALS, row | {"rival_of": rival.of, "chosen_by": rival.kind})

    def epoch(self, arm: AccelerateArm, split: str, scores: Scores) -> None:
        row = self._row(arm, split, scores)
        row |= {
            "epoch_s": arm.history[-1].seconds + (arm.switched_s or 0.0),
            "decompose_s": arm.switched_s,
            "elapsed_s": arm.seconds(),
            "used_s": arm.used_s,
        }
        self.record.append(ACCELERATION, row)

    def summary(self, arm: AccelerateArm, stock: AccelerateArm, scores: Scores | None) -> None:
        row, label = self._row(arm, "test", scores), arm.setting.label
        config = self.given.config
        products = self._products(arm)
        row |= {
            "ceiling": self._ceiling(arm, products),
            "decompose_s": arm.switch_s,
            "multiplications": self._examples(arm) * weighted(products, arm.schedule.shares),
            "train_bytes": arm.train_bytes,
            "loss_unit": self.given.problem.loss_unit,
        }
        if (task := self.given.problem.task) is not None:
            row |= {"baseline_loss": task.baseline}
            if not self.given.problem.is_regression:
                row |= {"metric": task.metric, "chance": task.chance}
        if config.compile:
            row["compile_s"] = arm.compile_s
        if arm.history:
            row |= {
                "epoch_s": median(done.seconds for done in arm.history),
                "elapsed_s": arm.seconds(),
                "used_s": arm.used_s,
            }
            if len(arm.history) == len(stock.history):
                row["speedup"] = stock.seconds() / arm.seconds()
        if label in self.prepared.lrs:
            row["search_s"] = self.prepared.search_s
        self.end(row)

    def _examples(self, arm: AccelerateArm) -> float:
        """How many examples it has been trained on, each as often as it met it."""
        return arm.steps * len(self.given.train[0]) / self.given.batches

    def _products(self, arm: AccelerateArm) -> list[float]:
        """The multiplications of a step in each stage, also of one that was not foreseen."""
        known = self.prepared.costs.products[arm.setting.label]
        return [*known, *arm.later_products[: len(arm.schedule.costs) - len(known)]]

    def _ceiling(self, arm: AccelerateArm, products: list[float]) -> float:
        """How many times fewer multiplications a step has than the dense network's, on average."""
        dense = self.prepared.costs.products[DENSE][0]
        first, *others = arm.schedule.shares
        if len(others) == 1 and products[0] == dense:
            return ceiling(dense, products[1], first)
        return dense / weighted(products, arm.schedule.shares)

    def _row(self, arm: AccelerateArm, split: str, scores: Scores | None) -> dict[str, Any]:
        own: dict[str, Any] = {}
        if arm.setting.method in self.given.config.arm and (
            options := self.given.config.arm[arm.setting.method]
        ):
            own["arm"] = dict(options)
        row = self.cell(self._setting(arm.setting) | {"seed": arm.seed}, **own)
        config = self.given.config
        row |= {"budget_of": config.budget_of.value, "budget_s": config.budget_s}
        row |= {"dtype": config.dtype.value, "compiled": config.compile}
        size = size_of(arm.network, self.given.test[0][:1])
        return row | self.scores(arm, split, scores, arm.rel_error, size)

    def _setting(self, setting: AccelerateSetting) -> dict[str, Any]:
        label = setting.label
        found: dict[str, Any] = {
            "method": setting.method,
            "arm": label,
            "rank": setting.ranks,
            "alpha": setting.alpha,
            "phi": setting.phi,
        }
        if setting.family is not None:
            found["model"] = setting.family.label
        if label in self.prepared.lrs:
            found["lr"] = self.prepared.lrs[label]
        return found


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

    def train_epoch(self, arm: AccelerateArm, batches: Epoch) -> bool:
        if self.given.config.budget_of is not TrainingBudget.steps:
            share = (arm.state.epoch + 1) / self.given.epochs
            batches = arm.round(self.batches(arm.seed), share)
        return super().train_epoch(arm, self._prepared(batches)) and arm.status == "ok"

    def _prepared(self, batches: Epoch, most: int | None = None) -> Epoch:
        batches = batches if most is None else islice(batches, most)
        return _with_gradient(batches) if self.given.config.input_gradient else batches

    def epoch(self, arm: AccelerateArm, last: bool) -> Scores:
        network = arm.dense() if last else arm.network
        count = self.given.family.count_right
        scores = evaluate(network, *self.given.test, arm.loss, count=count)
        self.rows.epoch(arm, "test", scores)
        if last:
            seen = evaluate(network, *self.given.problem.scored, arm.loss, count=count)
            self.rows.epoch(arm, "train", seen)
        return scores

    def end(self, arms: list[AccelerateArm]) -> None:
        """Nothing: all that is to be timed is training."""

    def summary(self, arm: AccelerateArm, stock: AccelerateArm, scores: Scores | None) -> None:
        self.rows.summary(arm, stock, scores)


def _with_gradient(batches: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches, whose examples want a gradient."""
    for X, y in batches:
        yield X.detach().requires_grad_(), y
