"""The arms of ``svdbench compress``: networks compressed as they are trained, and as deployed."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.jobs.compress import Compress
from svdbench.jobs.compress.compressors import Compressor
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.layers.factor import Factored, factor
from svdbench.measure.clock import Clock
from svdbench.measure.plan import Contender, TimingPlan, measure
from svdbench.side_by_side import session as side_by_side
from svdbench.side_by_side.arms import Arm, Epoch, EpochScores
from svdbench.side_by_side.networks import linear_layers


class Compression:
    """Brings the weights of a network down to a rank, in place, each time it is called.

    Args:
        rank: of the weights, as asked for; the compressor may keep more.
        calibration: examples (N, d) whose way through the network is looked at, for a
            compressor that needs a layer's inputs.

    Attributes:
        kept: the rank that the layers have.
        layers: those that are compressed, by name: both sides are above ``kept``.
    """

    def __init__(
        self,
        network: nn.Module,
        compressor: Compressor,
        rank: int,
        *,
        calibration: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank is {rank}: it must be 1 or more")
        if compressor.needs_inputs and calibration is None:
            raise ValueError(f"{compressor.title} needs the inputs of a layer: give it examples")
        self.network = network
        self.compressor = compressor
        self.calibration = calibration if compressor.needs_inputs else None
        self.kept = compressor.kept(rank)
        self.layers = {
            name: layer
            for name, layer in linear_layers(network).items()
            if min(layer.weight.shape) > self.kept
        }
        self._last: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        devices = {parameter.device for parameter in network.parameters()}
        self._generator = torch.Generator(devices.pop()).manual_seed(seed)

    @torch.no_grad()
    def __call__(self, remember: bool = False) -> None:
        """Compress every layer; their inputs are those of the network as it was before.

        Args:
            remember: what :meth:`rel_error` needs, which takes a copy of the weights.
        """
        inputs = self._inputs()
        for name, layer in self.layers.items():
            W = layer.weight
            left, right = self.compressor.factors(W, self.kept, inputs.get(name), self._generator)
            if remember:
                self._last[name] = W.clone(), left, right
            torch.mm(left, right, out=W)

    @torch.no_grad()
    def rel_error(self) -> float:
        """‖W − W_k‖/‖W‖ (Frobenius) of the last call remembered, all its layers together."""
        lost = whole = 0.0
        for before, left, right in self._last.values():
            lost += float((before.double() - left.double() @ right.double()).square().sum())
            whole += float(before.double().square().sum())
        return (lost / whole) ** 0.5 if whole else 0.0

    def _inputs(self) -> dict[str, Tensor]:
        """What comes into each layer (N, n) from the calibration examples."""
        if self.calibration is None:
            return {}
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            return lambda module, given: found.__setitem__(name, given[0])

        with ExitStack() as hooks:
            for name, layer in self.layers.items():
                hooks.enter_context(layer.register_forward_pre_hook(keep(name)))
            self.network(self.calibration)
        return found


@dataclass(frozen=True)
class Deployed:
    """A network as one would deploy it, and what it takes.

    Attributes:
        network: with the same outputs as the one it was made from.
        layers: for each weight, its rank or why it stays dense.
        n_params: numbers, biases too.
        macs: multiply-adds of one example, in the products with weights.
        bytes: of the numbers.
    """

    network: nn.Module
    layers: list[Factored]
    n_params: int
    macs: int
    bytes: int


def deployed(network: nn.Module, compression: Compression | None) -> Deployed:
    """A copy of the network with two factors for each weight that is smaller so.

    Args:
        network: whose weights have the ranks that ``compression`` gave them.
        compression: None leaves all weights dense.
    """
    names = compression.layers if compression is not None else {}
    kept = compression.kept if compression is not None else 0
    ranks = {f"{name}.weight": kept for name in names}
    copy, layers = factor(network, ranks, skip_last=False)
    return Deployed(
        network=copy.eval(),
        layers=[_told(layer, kept) for layer in layers],
        n_params=numbers_of(copy),
        macs=sum(layer.numbers[1] for layer in layers),
        bytes=bytes_of(copy),
    )


def _told(layer: Factored, kept: int) -> Factored:
    """The same with the reason in our words, where compression did not touch the weight."""
    smaller = min(layer.weight.rows, layer.weight.columns)
    if smaller > kept > 0:
        return layer
    reason = f"left as it is, because its rank is at most {smaller}" if kept else ""
    return Factored(layer.weight, None, reason)


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
