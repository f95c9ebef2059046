"""Trains a network dense and in low-rank factors, side by side, once for each seed."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from svdbench.errors import as_user_error
from svdbench.jobs.accelerate import JOB
from svdbench.jobs.accelerate.arms import (
    AccelerateExperiment,
    AccelerateSetting,
    TimedArm,
    alpha_rule,
    ceiling,
    layer_rule,
    size_of,
)
from svdbench.jobs.accelerate.config import Accelerate
from svdbench.lowrank import factor
from svdbench.lowrank.layers.factor import RankRule
from svdbench.record.events import require_tensorboard
from svdbench.record.run import RunWriter
from svdbench.record.schema import COMPRESSION, LAYERS
from svdbench.running.session import RunDisplay
from svdbench.side_by_side.arms import WARM_UP_STEPS, same_start
from svdbench.side_by_side.families import NetworkFamily
from svdbench.side_by_side.networks import Scores, evaluate, linear_layers
from svdbench.side_by_side.problems import problem_of
from svdbench.side_by_side.session import (
    ArmsSession,
    SharedRows,
    run_session,
    weight_columns,
)
from svdbench.training.learner import network_optimizer

HIDDEN = (512, 256)  # Sarnayak et al. 2020


def run(config: Accelerate, text: str, folder: str | None = None) -> Path:
    return run_session(JOB, AccelerateSession, prepare(config), text, folder)


def prepare(config: Accelerate) -> AccelerateExperiment:
    """Data, sizes and arms, checked before a run starts."""
    require_tensorboard(config.tensorboard)
    problem = problem_of(config, HIDDEN)
    with as_user_error():
        settings = [AccelerateSetting(), *_settings(config, problem.family)]
    return AccelerateExperiment(config, settings, problem)


def _settings(config: Accelerate, family: NetworkFamily) -> list[AccelerateSetting]:
    """The arms in factors, each tried on a network of this family."""
    network = family.build()
    meaning = config.alpha_meaning.value
    options: dict[str, Any] = {"skip_last": config.skip_last, "only_if_saves": config.only_if_saves}
    rules: list[tuple[float | None, RankRule]]
    if config.ranks is not None:
        ranks = [None if rank.lower() == "none" else int(rank) for rank in config.ranks]
        # A rank for the last layer says that it is meant.
        options["skip_last"] = False
        names = [f"{name}.weight" for name in linear_layers(network)]
        rules = [(None, layer_rule(ranks, names))]
    else:
        rules = [(alpha, alpha_rule(alpha, meaning)) for alpha in config.alphas]
    found = []
    for alpha, rule in rules:
        _, layers = factor(network, rule, **options)
        if all(layer.rank is None for layer in layers):
            sizes = ((layer.weight.rows, layer.weight.columns) for layer in layers)
            shapes = ", ".join(f"{m}×{n}" for m, n in sizes)
            raise ValueError(
                f"no layer of {shapes} would be factored: "
                f"{'; '.join(dict.fromkeys(layer.reason for layer in layers))}: "
                "give a smaller --alpha, or other --ranks"
            )
        found += [AccelerateSetting(alpha, phi, rule, layers, options) for phi in config.phis]
    return found


class AccelerateSession(ArmsSession[AccelerateExperiment, TimedArm]):
    score_name = "accuracy"

    def __init__(self, given: AccelerateExperiment, record: RunWriter, shown: RunDisplay) -> None:
        super().__init__(given, record, shown)
        self.rows = AccelerateRows(record, given)

    def arms(self, seed: int) -> list[TimedArm]:
        return self._arms(seed, self.given.epochs * self.given.batches)

    def begin(self, arms: list[TimedArm], seed: int) -> None:
        if not self.rows.record.units:  # else they are among the rows of an earlier seed
            self.rows.layers()
        for arm in self._arms(seed, WARM_UP_STEPS):
            arm.switch = 1
            self.train_epoch(arm, islice(self.batches(seed).epoch(0), WARM_UP_STEPS))

    def train_epoch(self, arm: TimedArm, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
        if self.given.config.input_gradient:
            batches = _with_gradient(batches)
        return super().train_epoch(arm, batches) and arm.status == "ok"

    def epoch(self, arm: TimedArm, last: bool) -> Scores:
        network = arm.dense() if last else arm.network
        scores = evaluate(network, *self.given.test, arm.loss)
        self.rows.epoch(arm, "test", scores)
        if last:
            self.rows.epoch(arm, "train", evaluate(network, *self.given.problem.scored, arm.loss))
        return scores

    def end(self, arms: list[TimedArm]) -> None:
        """Nothing: all that is to be timed is training."""

    def summary(self, arm: TimedArm, stock: TimedArm, scores: Scores | None) -> None:
        self.rows.summary(arm, stock, scores)

    def _arms(self, seed: int, steps: int) -> list[TimedArm]:
        given, config = self.given, self.given.config
        torch.manual_seed(seed)
        network, loss = given.network(), given.family.loss
        return [
            TimedArm(
                setting,
                seed,
                own,
                network_optimizer(own, config.optimizer),
                loss,
                steps=steps,
                carry=config.carry_moments,
            )
            for setting, own in zip(
                given.settings, same_start(network, len(given.settings)), strict=True
            )
        ]


def _with_gradient(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches, whose examples want a gradient."""
    for X, y in batches:
        yield X.detach().requires_grad_(), y


class AccelerateRows(SharedRows):
    def __init__(self, record: RunWriter, given: AccelerateExperiment) -> None:
        super().__init__(record, given)
        config = given.config
        self.given = given
        self.options |= {
            "start": config.start.value,
            "carry_moments": config.carry_moments,
            "input_gradient": config.input_gradient,
        }
        self.multiplications = given.counted()

    def layers(self) -> None:
        for setting in self.given.settings:
            shared = self.settings | self._setting(setting) | {"threads": self.threads}
            for layer in setting.layers:
                row = shared | weight_columns(layer) | {"kept": layer.rank, "status": "ok"}
                self.record.append(LAYERS, row)

    def epoch(self, arm: TimedArm, split: str, scores: Scores) -> None:
        row = self._row(arm, split, scores)
        own = arm.switch_s if arm.switch_s is not None and self._switched_now(arm) else None
        row |= {
            "epoch_s": arm.history[-1].seconds + (own or 0.0),
            "decompose_s": own,
            "elapsed_s": arm.seconds(),
        }
        self.record.append(COMPRESSION, row)

    def summary(self, arm: TimedArm, stock: TimedArm, scores: Scores | None) -> None:
        row = self._row(arm, "test", scores)
        setting, steps = arm.setting, self.given.epochs * self.given.batches
        dense = self.multiplications[self.given.settings[0].label]
        own = self.multiplications[setting.label]
        row |= {"ceiling": ceiling(dense, own, arm.switch / steps), "decompose_s": arm.switch_s}
        if arm.history:
            row |= {
                "epoch_s": median(done.seconds for done in arm.history),
                "elapsed_s": arm.seconds(),
            }
            if len(arm.history) == len(stock.history):
                row["speedup"] = stock.seconds() / arm.seconds()
        self.end(row)

    def _row(self, arm: TimedArm, split: str, scores: Scores | None) -> dict[str, Any]:
        row = self.cell(self._setting(arm.setting) | {"seed": arm.seed})
        size = size_of(arm.network, self.given.test[0][:1])
        return row | self.scores(arm, split, scores, arm.rel_error, size)

    @staticmethod
    def _setting(setting: AccelerateSetting) -> dict[str, Any]:
        return {
            "method": "dnn" if setting.dense else "svd_dnn",
            "arm": setting.label,
            "rank": setting.ranks,
            "alpha": setting.alpha,
            "phi": setting.phi,
        }

    def _switched_now(self, arm: TimedArm) -> bool:
        return arm.steps - arm.history[-1].steps <= arm.switch
