"""The training of all arms from one seed after the other, until it is done or time is up."""

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from svdbench.classification import Batches, Scores, evaluate, loss_for, same_start, side_by_side
from svdbench.classification.side_by_side import WARM_UP_STEPS
from svdbench.jobs.accelerate_arms import Given, TimedArm
from svdbench.jobs.accelerate_rows import Rows
from svdbench.jobs.display import Display
from svdbench.measure.clock import clock_of
from svdbench.measure.step import failure
from svdbench.report.units import share
from svdbench.training.optimizers import alike


class Session:
    """Trains and writes down.

    Attributes:
        ending: ok, or timeout or interrupted where there is nothing more to be done.
    """

    def __init__(self, given: Given, rows: Rows, shown: Display) -> None:
        self.given = given
        self.rows = rows
        self.shown = shown
        self.clock = clock_of(given.train[0].device)
        self.ending = "ok"
        minutes = given.config.max_minutes
        self.until = None if minutes is None else time.monotonic() + 60 * minutes
        self._warm = False

    def train(self, seed: int) -> bool:
        """Train all arms from one seed; whether to go on to the next."""
        self.shown.begin(f"seed {seed}")
        arms = self._arms(seed, self.given.epochs * self.given.batches)
        scores: dict[str, Scores] = {}
        try:
            if not self._warm:
                self._warm_up(seed)
            self._epochs(arms, scores, seed)
        except KeyboardInterrupt:
            self.ending = "interrupted"
        for arm in arms:
            if arm.status == "ok":
                arm.status = self.ending
            self.rows.summary(arm, arms[0], scores.get(arm.name))
        self.shown.finish(f"seed {seed}: {_accuracies(arms, scores)}")
        return self.ending == "ok"

    def _epochs(self, arms: list[TimedArm], scores: dict[str, Scores], seed: int) -> None:
        epochs = self.given.epochs
        turns = side_by_side(arms, self._batches(seed), epochs, self._epoch)
        for turn, (number, arm, done) in enumerate(turns, 1):
            self.shown.doing(turn / (epochs * len(arms)), f"epoch {number + 1}/{epochs}")
            if done:
                last = number + 1 == epochs
                network = arm.dense() if last else arm.network
                scores[arm.name] = evaluate(network, *self.given.test, arm.loss)
                self.rows.epoch(arm, "test", scores[arm.name])
                if last:
                    self.rows.epoch(arm, "train", evaluate(network, *self.given.train, arm.loss))
            # All arms of an epoch or none, so that those that there are can be compared.
            if turn % len(arms) == 0 and self._time_is_up() and turn < epochs * len(arms):
                self.ending = "timeout"
                return

    def _epoch(self, arm: TimedArm, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Train an arm for an epoch; whether that went well."""
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

    def _warm_up(self, seed: int) -> None:
        """A few steps of arms that are thrown away, dense ones and others."""
        self.shown.doing(0.0, "warming up")
        for arm in self._arms(seed, WARM_UP_STEPS):
            arm.switch = 1
            self._epoch(arm, islice(self._batches(seed).epoch(0), WARM_UP_STEPS))
        self._warm = True

    def _batches(self, seed: int) -> Batches:
        given = self.given
        return Batches(*given.train, given.batch_size, seed, given.config.shuffle)

    def _arms(self, seed: int, steps: int) -> list[TimedArm]:
        """All arms, with the same weights."""
        given, config = self.given, self.given.config
        torch.manual_seed(seed)
        network, loss = given.network(), loss_for(given.sizes[-1])
        return [
            TimedArm(
                setting,
                seed,
                own,
                alike(own, config.optimizer),
                loss,
                steps=steps,
                carry=config.carry_moments,
            )
            for setting, own in zip(
                given.settings, same_start(network, len(given.settings)), strict=True
            )
        ]

    def _time_is_up(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until


def _with_gradient(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches, whose examples want a gradient."""
    for X, y in batches:
        yield X.detach().requires_grad_(), y


def _accuracies(arms: list[TimedArm], scores: dict[str, Scores]) -> str:
    words = []
    for arm in arms:
        found = scores.get(arm.name)
        accuracy = "–" if found is None else share(found.accuracy)
        words.append(f"{arm.name} {accuracy}" + (f" ({arm.reason})" if arm.reason else ""))
    return "test accuracy " + "; ".join(words)
