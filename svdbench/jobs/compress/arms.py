"""The arms of ``svdbench compress``: a network that is compressed as it is trained, or not."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.jobs.compress.compressors import Compressor
from svdbench.jobs.compress.config import Compress
from svdbench.jobs.compress.network import Compression, deployed
from svdbench.measure.clock import Clock
from svdbench.measure.plan import Contender, TimingPlan, measure
from svdbench.side_by_side import session as side_by_side
from svdbench.side_by_side.arms import Arm, Epoch, EpochScores

STOCK = "stock"


@dataclass(frozen=True)
class CompressSetting:
    """What makes an arm: a compressor by its name and a rank; without one, stock."""

    method: str = STOCK
    rank: int | None = None
    compressor: Compressor | None = None

    @property
    def kept(self) -> int:
        """The rank that weights have; 0 if they stay as they are."""
        if self.compressor is None or self.rank is None:
            return 0
        return self.compressor.kept(self.rank)

    @property
    def label(self) -> str:
        return self.method if self.rank is None else f"{self.method} {self.rank}"


class CompressExperiment(side_by_side.Experiment[Compress, CompressSetting]):
    usual_epochs, least_steps = 10, 1200

    @property
    def every(self) -> int:
        named = {"epoch": self.batches, "batch": 1}
        return named.get(self.config.every) or int(self.config.every)


class CompressedArm(Arm):
    """An arm whose weights are compressed after every so many batches, and after the last.

    Args:
        compression: of its network; None leaves the weights alone.

    Attributes:
        made: what would be deployed of it: its sizes are known before it is trained.
    """

    def __init__(
        self,
        arm: Arm,
        setting: CompressSetting,
        seed: int,
        compression: Compression | None,
        every: int,
        per_epoch: int,
        epochs: int,
    ) -> None:
        super().__init__(setting.label, arm.network, arm.optimizer, arm.loss)
        self.setting = setting
        self.seed = seed
        self.compression = compression
        self.made = deployed(arm.network, compression)
        self._every = every
        self._per_epoch = per_epoch
        self._epochs = epochs
        self._steps = 0
        self._stamps: list[tuple[Any, Any]] = []

    def _epoch(self, batches: Epoch, clock: Clock) -> EpochScores:
        hook = partial(self._after_batch, clock) if self.compression is not None else None
        scores = self.train_epoch(batches, clock, hook)
        lost = self.compression.rel_error() if self.compression and self._stamps else None
        spent = sum(clock.seconds(start, end) for start, end in self._stamps)
        self._stamps.clear()
        return replace(scores, decompose_s=spent, rel_error=lost)

    def seconds(self) -> list[float]:
        """The time of each epoch, compressing included."""
        return [done.seconds for done in self.history]

    def _after_batch(self, clock: Clock) -> None:
        self._steps += 1
        left = -self._steps % self._per_epoch
        last = self._steps == self._epochs * self._per_epoch
        if last or self._steps % self._every == 0:
            assert self.compression is not None
            start = clock.stamp()
            self.compression(remember=left < self._every)  # the last one of the epoch
            self._stamps.append((start, clock.stamp()))


def latencies(
    pairs: dict[str, tuple[nn.Module, nn.Module]], X: Tensor, plan: TimingPlan, clock: Clock
) -> dict[str, float]:
    """The median seconds of a forward pass of X (B, d), all networks in turn.

    Args:
        pairs: for each name the network and what would be deployed of it. One that
            doesn't compute the same gets no number.
    """

    def contender(name: str, network: nn.Module, small: nn.Module) -> Contender:
        def same() -> None:
            torch.testing.assert_close(small(X), network.eval()(X), rtol=1e-3, atol=1e-3)

        return Contender(name, lambda: small(X), lambda output: None, prepare=same)

    contenders = [contender(name, full, small) for name, (full, small) in pairs.items()]
    with torch.inference_mode():
        outcomes = measure(contenders, plan, clock)
    return {
        name: sorted(outcome.steps_s())[len(outcome.samples) // 2]
        for name, outcome in outcomes.items()
        if outcome.status == "ok"
    }
