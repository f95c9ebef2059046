"""The training of the arms of ``svdbench compress``, and the inference that is timed after it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from svdbench.classification import Arm, Scores, evaluate, loss_for, same_start, warm_up
from svdbench.compressors.network import Compression, deployed
from svdbench.jobs.compress_arms import CompressedArm, Given, latencies
from svdbench.jobs.compress_rows import Rows
from svdbench.jobs.display import Display
from svdbench.jobs.side_by_side_session import Session
from svdbench.measure.plan import TimingPlan
from svdbench.record.run import RunWriter
from svdbench.training.learner import network_optimizer


class CompressSession(Session[Given, CompressedArm]):
    """Trains with and without compression, and times inference once.

    Attributes:
        latency_s: of each arm; None until it is measured.
    """

    tells = "error"

    def __init__(self, given: Given, record: RunWriter, shown: Display) -> None:
        super().__init__(given, record, shown)
        self.rows = Rows(record, given)
        self.latency_s: dict[str, float] | None = None

    def found(self) -> dict[str, Any]:
        return {"latency_s": self.latency_s}

    def go_on(self, found: Mapping[str, Any]) -> None:
        self.latency_s = found.get("latency_s")

    def arms(self, seed: int) -> list[CompressedArm]:
        given, config = self.given, self.given.config
        X = given.train[0]
        torch.manual_seed(seed)
        network = given.network()
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
            arm = Arm(setting.label, own, network_optimizer(own, config.optimizer), loss)
            often = (given.every, given.batches, given.epochs)
            arms.append(CompressedArm(arm, setting, seed, compression, *often, self.clock))
        return arms

    def begin(self, arms: list[CompressedArm], seed: int) -> None:
        """Write down what the arms are, and warm up with copies that are thrown away."""
        if not self.rows.record.units:  # else an earlier seed's are there
            for arm in arms:
                self.rows.layers(arm)
        for arm in self.arms(seed):
            if arm.compression is not None:
                arm.compression()
            warm_up(arm, self.batches(seed), self.clock)

    def train_epoch(self, arm: CompressedArm, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
        return arm.train(batches) is not None

    def epoch(self, arm: CompressedArm, last: bool) -> Scores:
        scores = evaluate(arm.network, *self.given.test, arm.loss)
        self.rows.epoch(arm, scores)
        return scores

    def end(self, arms: list[CompressedArm]) -> None:
        """Time inference, after the first seed."""
        if self.latency_s is None:
            self.shown.doing(1.0, "inference")
            self.latency_s = self._latencies(arms)

    def summary(self, arm: CompressedArm, stock: CompressedArm, scores: Scores | None) -> None:
        self.rows.summary(arm, stock, scores, (self.latency_s or {}).get(arm.name))

    def _latencies(self, arms: list[CompressedArm]) -> dict[str, float]:
        latency = self.given.config.latency
        X = self.given.test[0]
        rows = torch.arange(latency.batch, device=X.device) % len(X)
        plan = TimingPlan(budget_s=latency.budget_s, max_reps=2000, seed=self.given.config.seed)
        pairs = {
            arm.name: (arm.network, deployed(arm.network, arm.compression).network)
            for arm in arms
            if arm.status == "ok"
        }
        return latencies(pairs, X[rows], plan, self.clock)
