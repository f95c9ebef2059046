"""The training of the arms of ``svdbench accelerate``."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from svdbench.classification import Scores, evaluate, loss_for, same_start
from svdbench.classification.arms import WARM_UP_STEPS
from svdbench.jobs.accelerate_arms import Given, TimedArm
from svdbench.jobs.accelerate_rows import Rows
from svdbench.jobs.display import Display
from svdbench.jobs.side_by_side_session import Session
from svdbench.measure.plan import failure
from svdbench.record.run import RunWriter
from svdbench.training.learner import network_optimizer


class AccelerateSession(Session[Given, TimedArm]):
    """Trains dense, and in factors after a share of the steps."""

    tells = "accuracy"

    def __init__(self, given: Given, record: RunWriter, shown: Display) -> None:
        super().__init__(given, record, shown)
        self.rows = Rows(record, given)

    def arms(self, seed: int) -> list[TimedArm]:
        return self._arms(seed, self.given.epochs * self.given.batches)

    def begin(self, arms: list[TimedArm], seed: int) -> None:
        """Write down what the arms are, and warm up with others, dense and not."""
        if not self.rows.record.units:  # else they are among the rows of an earlier seed
            self.rows.layers()
        for arm in self._arms(seed, WARM_UP_STEPS):
            arm.switch = 1
            self.train_epoch(arm, islice(self.batches(seed).epoch(0), WARM_UP_STEPS))

    def train_epoch(self, arm: TimedArm, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
        if arm.status != "ok":
            return False
        if self.given.config.input_gradient:
            batches = _with_gradient(batches)
        try:
            done = arm.train_epoch(batches, self.clock)
        except Exception as error:
            arm.status, arm.reason = failure(error)
            return False
        arm.history.append(done)
        if not math.isfinite(done.loss):
            arm.status = "nan"
            arm.reason = f"the loss is {done.loss} in epoch {len(arm.history)}: lower lr"
        return arm.status == "ok"

    def epoch(self, arm: TimedArm, last: bool) -> Scores:
        network = arm.dense() if last else arm.network
        scores = evaluate(network, *self.given.test, arm.loss)
        self.rows.epoch(arm, "test", scores)
        if last:
            self.rows.epoch(arm, "train", evaluate(network, *self.given.train, arm.loss))
        return scores

    def end(self, arms: list[TimedArm]) -> None:
        """Nothing: all that is to be timed is training."""

    def summary(self, arm: TimedArm, stock: TimedArm, scores: Scores | None) -> None:
        self.rows.summary(arm, stock, scores)

    def _arms(self, seed: int, steps: int) -> list[TimedArm]:
        """All arms, to be trained for so many steps."""
        given, config = self.given, self.given.config
        torch.manual_seed(seed)
        network, loss = given.network(), loss_for(given.sizes[-1])
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
