"""An arm that begins dense, goes on in factors of low rank, and ends dense again."""

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.acceleration.moments import carry_moments
from svdbench.classification import Arm, EpochScores, Loss
from svdbench.lowrank.layers.factor import Factored, RankRule, factor, unfactor
from svdbench.measure.clock import Clock, timed


def switch_step(phi: float, steps: int) -> int:
    """The number of dense steps, φ of all, to the nearest.

    Raises:
        ValueError: φ outside of [0, 1].
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"phi is {phi}: give a number from 0 to 1")
    return round(phi * steps)


class SvdDnn(Arm):
    """Trains dense for ``switch`` steps, then W₁(W₂x) + b of each layer.

    Args:
        name, network, optimizer, loss: as of an :class:`~svdbench.classification.Arm`.
        ranks: of the layers, see :func:`svdbench.lowrank.factor`.
        switch: dense steps before the switch; as many as there will be: never.
        carry: whether the optimiser's moments are carried over; else they start from zero.
        options: further ones of :func:`svdbench.lowrank.factor`.

    Attributes:
        factored: what became of each weight; empty before the switch.
        switch_s: the seconds that the switch took; None before.
        rel_error: ‖W − W₁W₂‖/‖W‖ at the switch, over all weights factored.
        steps: done so far.

    Source: Cai, Ke, Xu, Su, "Fast learning of deep neural networks via singular value
    decomposition", PRICAI 2014.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        *,
        ranks: RankRule,
        switch: int,
        carry: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name, network, optimizer, loss)
        self.ranks, self.switch, self.carry, self.options = ranks, switch, carry, options
        self.factored: list[Factored] = []
        self.switch_s: float | None = None
        self.rel_error: float | None = None
        self.steps = 0

    def train_epoch(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        clock: Clock,
        after_batch: Callable[[], None] | None = None,
    ) -> EpochScores:
        """As of every arm; the seconds of the switch are not among the epoch's."""
        batches = iter(batches)
        parts = []
        if self.steps < self.switch:
            dense = islice(batches, self.switch - self.steps)
            parts.append(super().train_epoch(dense, clock, after_batch))
            self.steps += parts[0].steps
        first = next(batches, None)
        if first is not None:
            if self.switch_s is None:
                self._switch(clock)
            parts.append(super().train_epoch(chain([first], batches), clock, after_batch))
            self.steps += parts[-1].steps
        steps = sum(part.steps for part in parts)
        mean = sum(part.loss * part.steps for part in parts) / steps
        return EpochScores(mean, sum(part.seconds for part in parts), steps)

    def dense(self) -> nn.Module:
        """The network with its factors multiplied back, a copy."""
        return unfactor(self.network)

    def _switch(self, clock: Clock) -> None:
        before = self.network

        def replace() -> None:
            self.network, self.factored = factor(before, self.ranks, **self.options)
            self.optimizer = carry_moments(self.optimizer, before, self.network)
            if not self.carry:
                self.optimizer.state.clear()

        self.switch_s = timed(clock, replace)
        self.rel_error = _truncated(before, self.dense(), self.factored)


@torch.no_grad()
def _truncated(before: nn.Module, after: nn.Module, factored: list[Factored]) -> float | None:
    """‖W − W'‖/‖W‖ over the weights that were factored; None without any."""
    names = [found.weight.name for found in factored if found.rank is not None]
    whole, rest = 0.0, 0.0
    for name in names:
        W = before.get_parameter(name).double()
        whole += float(W.square().sum())
        rest += float((W - after.get_parameter(name)).square().sum())
    return (rest / whole) ** 0.5 if whole else None
