"""The training of all arms from one seed after the other, until it is done or time is up."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from svdbench.classification import (
    Arm,
    Batches,
    Scores,
    evaluate,
    loss_for,
    mlp,
    same_start,
    side_by_side,
    warm_up,
)
from svdbench.compressors.factored import Deployed, deployed
from svdbench.compressors.network import Compression
from svdbench.jobs.compress_arms import CompressedArm, Setting, latencies
from svdbench.jobs.compress_rows import Rows
from svdbench.jobs.display import Display
from svdbench.measure.clock import clock_of
from svdbench.measure.plan import Plan
from svdbench.report.units import share
from svdbench.schemas import Compress
from svdbench.training.optimizers import alike

EPOCHS, LEAST_STEPS = 10, 1200


@dataclass(frozen=True)
class Given:
    """What all seeds have in common.

    Attributes:
        settings: of the arms, stock first.
        sizes: of the network.
        train, test: examples (N, d) and labels (N,), where they are computed with.
    """

    config: Compress
    settings: list[Setting]
    sizes: list[int]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.train[0]) // self.config.batch_size)

    @property
    def epochs(self) -> int:
        return self.config.epochs or max(EPOCHS, -(-LEAST_STEPS // self.batches))

    @property
    def every(self) -> int:
        """Batches from compression to compression."""
        named = {"epoch": self.batches, "batch": 1}
        return named.get(self.config.every) or int(self.config.every)


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
        self.latency_s: dict[str, float] | None = None
        minutes = given.config.max_minutes
        self.until = None if minutes is None else time.monotonic() + 60 * minutes

    def train(self, seed: int) -> bool:
        """Train all arms from one seed; whether to go on to the next."""
        self.shown.begin(f"seed {seed}")
        arms = self._arms(seed)
        made = {arm.name: deployed(arm.network, arm.compression) for arm in arms}
        if self.latency_s is None:
            self._first(arms, made)
        scores: dict[str, Scores] = {}
        try:
            self._epochs(arms, made, scores, self._batches(seed))
            if self.latency_s is None:
                self.shown.doing(1.0, "inference")
                self.latency_s = self._latencies(arms)
        except KeyboardInterrupt:
            self.ending = "interrupted"
        for arm in arms:
            if arm.status == "ok":
                arm.status = self.ending
            latency_s = (self.latency_s or {}).get(arm.name)
            self.rows.summary(arm, arms[0], scores.get(arm.name), made[arm.name], latency_s)
        self.shown.finish(f"seed {seed}: {_errors(arms, scores)}")
        return self.ending == "ok"

    def _epochs(
        self,
        arms: list[CompressedArm],
        made: dict[str, Deployed],
        scores: dict[str, Scores],
        batches: Batches,
    ) -> None:
        epochs = self.given.epochs
        turns = side_by_side(arms, batches, epochs, lambda arm, epoch: arm.train(epoch))
        for turn, (number, arm, done) in enumerate(turns, 1):
            self.shown.doing(turn / (epochs * len(arms)), f"epoch {number + 1}/{epochs}")
            if done is not None:
                scores[arm.name] = evaluate(arm.network, *self.given.test, arm.loss)
                self.rows.epoch(arm, done, scores[arm.name], made[arm.name])
            # All arms of an epoch or none, so that those that there are can be compared.
            if turn % len(arms) == 0 and self._time_is_up() and turn < epochs * len(arms):
                self.ending = "timeout"
                return

    def _first(self, arms: list[CompressedArm], made: dict[str, Deployed]) -> None:
        """Write down what the arms are, and warm up with copies that are thrown away."""
        for arm in arms:
            self.rows.layers(arm, made[arm.name])
        seed = self.given.config.seed
        for arm in self._arms(seed):
            if arm.compression is not None:
                arm.compression()
            warm_up(arm, self._batches(seed), self.clock)

    def _batches(self, seed: int) -> Batches:
        config = self.given.config
        return Batches(*self.given.train, config.batch_size, seed, config.shuffle)

    def _arms(self, seed: int) -> list[CompressedArm]:
        """All arms, with the same weights."""
        given, config = self.given, self.given.config
        X = given.train[0]
        torch.manual_seed(seed)
        network = mlp(given.sizes, config.activation).to(X.device, X.dtype)
        chosen = torch.randperm(len(X))[: config.calibration].to(X.device)
        loss = loss_for(given.sizes[-1])
        arms = []
        copies = same_start(network, len(given.settings))
        for setting, own in zip(given.settings, copies, strict=True):
            compression = None
            if setting.compressor is not None and setting.rank is not None:
                compression = Compression(
                    own, setting.compressor, setting.rank, calibration=X[chosen], seed=seed
                )
            arm = Arm(setting.label, own, alike(own, config.optimizer), loss)
            often = (given.every, given.batches, given.epochs)
            arms.append(CompressedArm(arm, setting, seed, compression, *often, self.clock))
        return arms

    def _latencies(self, arms: list[CompressedArm]) -> dict[str, float]:
        latency = self.given.config.latency
        X = self.given.test[0]
        rows = torch.arange(latency.batch, device=X.device) % len(X)
        plan = Plan(budget_s=latency.budget_s, max_reps=2000, seed=self.given.config.seed)
        pairs = {
            arm.name: (arm.network, deployed(arm.network, arm.compression).network)
            for arm in arms
            if arm.status == "ok"
        }
        return latencies(pairs, X[rows], plan, self.clock)

    def _time_is_up(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until


def _errors(arms: list[CompressedArm], scores: dict[str, Scores]) -> str:
    words = []
    for arm in arms:
        found = scores.get(arm.name)
        error = "–" if found is None else share(1 - found.accuracy)
        words.append(f"{arm.name} {error}" + (f" ({arm.reason})" if arm.reason else ""))
    return "test error " + ", ".join(words)
