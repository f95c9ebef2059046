"""An arm of ``svdbench accelerate``: a network that changes as it is trained."""

from collections.abc import Callable, Iterator
from itertools import chain, islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.jobs.accelerate.arms.base import ArmPlan, ArmState, LowRankArm, overrides
from svdbench.jobs.accelerate.costs import StepSchedule, training_bytes
from svdbench.jobs.accelerate.moments import add_product_decay
from svdbench.lowrank import Factored
from svdbench.measure.clock import Clock, ProcessClock, timed
from svdbench.side_by_side.arms import Arm, Batches, Epoch, EpochScores, Hook
from svdbench.side_by_side.execution import Execution, TrainingPass
from svdbench.side_by_side.networks import Loss

# The cost of a step in the stage that an arm has just entered.
StageCost = Callable[["StagedArm"], float]


class StagedArm(Arm):
    """Trains a network that a :class:`LowRankArm` changes at its times; without one, dense.

    Args:
        name, network, loss: as of an :class:`~svdbench.side_by_side.Arm`.
        make: makes the optimiser of a network's parameters.
        method: what changes the network.
        plan: of the method.
        schedule: of the steps.
        product_decay: λ of a decay of the product of factors, see :func:`add_product_decay`.
        cost: of a step after a change that was not foreseen.
        execution: how steps are computed.

    Attributes:
        factored: for each weight, its rank or why it stays dense; empty before the first change.
        switch_s: the seconds that changes took; None before the first.
        switched_s: those of the last epoch; None where there was none.
        rel_error: ‖W − W₁W₂‖/‖W‖ at the first change, over all weights truncated.
        steps: so far.
        used_s: seconds of training so far, see :func:`used_seconds`.
        compile_s: those of compiling, which are no part of them.
        measured_s: nor are these, of finding out what a step costs after a change.
        later_products: multiplications of a step after changes that were not foreseen.
        train_bytes: the most of parameters and optimiser so far.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        make: Callable[[nn.Module], Optimizer],
        loss: Loss,
        *,
        method: LowRankArm | None,
        plan: ArmPlan,
        schedule: StepSchedule,
        product_decay: float = 0.0,
        cost: StageCost = lambda arm: 1.0,
        execution: Execution | None = None,
    ) -> None:
        super().__init__(name, network, make(network), loss, execution)
        self.make, self.method, self.plan, self.schedule = make, method, plan, schedule
        self.product_decay, self.cost = product_decay, cost
        self.factored: list[Factored] = []
        self.switch_s: float | None = None
        self.switched_s: float | None = None
        self.rel_error: float | None = None
        self.steps, self.stage = 0, 0
        self.used_s, self.compile_s, self.measured_s, self.train_bytes = 0.0, 0.0, 0.0, 0
        self.state = ArmState()
        self.device = next(network.parameters()).device
        self.asked_s = 0.0
        self.later_products: list[float] = []
        self._wants_change = False
        self._stream: Iterator[tuple[Tensor, Tensor]] | None = None

    def seconds(self) -> float:
        """Of all epochs so far, of the changes, and of asking whether to change."""
        return sum(d.seconds for d in self.history) + (self.switch_s or 0.0) + self.asked_s

    def train_epoch(
        self, batches: Epoch, clock: Clock, after_batch: Hook = None, before_update: Hook = None
    ) -> EpochScores:
        """As of every arm; the seconds of changes are not among the epoch's."""
        batches, parts = iter(batches), []
        began, self.switched_s = self._spent(), None
        while True:
            left = self._left()
            if left == 0:
                first = next(batches, None)
                if first is None:
                    break
                self._change(clock)
                batches = chain([first], batches)
                continue
            before = self.steps
            some = batches if left is None else islice(batches, left)
            parts.append(self._train_stage(some, clock, after_batch, before_update))
            if left is None or self.steps - before < left:
                break
        self._ask(clock)
        self.used_s += self._spent() - began
        steps = sum(part.steps for part in parts)
        mean = sum(part.loss * part.steps for part in parts) / steps
        return EpochScores(mean, sum(part.seconds for part in parts), steps)

    def round(self, batches: Batches, share: float) -> Iterator[tuple[Tensor, Tensor]]:
        """The next batches, up to a part of the budget: epoch after epoch of the same order."""
        if self._stream is None:
            self._stream = endless(batches)
        return islice(self._stream, max(1, self.schedule.steps_at(share) - self.steps))

    def advance(self, stage: int, clock: Clock) -> None:
        """Make all changes up to a stage, without a step between them."""
        while self.stage < stage:
            self._change(clock)

    def dense(self) -> nn.Module:
        """The network as it would be used: a copy with its factors multiplied back."""
        return self.network if self.method is None else self.method.dense(self.network)

    def _left(self) -> int | None:
        """Steps left in this stage; None: it is the last."""
        if self._wants_change:
            return 0
        if self.stage >= len(self.schedule.costs) - 1:
            return None
        return self.schedule.ends[self.stage] - self.steps

    def _train_stage(
        self, batches: Epoch, clock: Clock, after_batch: Hook, before_update: Hook
    ) -> EpochScores:
        follows = self.method is not None and overrides(self.method, "before_step")
        counted = 0

        def begin() -> None:
            assert self.method is not None
            self.state.done = self.schedule.spent(self.steps + counted)
            self.method.before_step(self.network, self.state)

        def done() -> None:
            nonlocal counted
            counted += 1
            if follows:
                begin()
            if after_batch is not None:
                after_batch()

        if follows:
            begin()
        after = done if follows else after_batch
        decays = self.product_decay or (self.method and overrides(self.method, "before_update"))

        def update() -> None:
            self._decay()
            if before_update is not None:
                before_update()

        found = super().train_epoch(batches, clock, after, update if decays else before_update)
        self.steps += found.steps
        self.train_bytes = max(self.train_bytes, training_bytes(self.network, self.optimizer))
        return found

    def _spent(self) -> float:
        return used_seconds(self.device) - self.compile_s - self.measured_s

    def _compile(self, forward: TrainingPass, X: Tensor, y: Tensor) -> None:
        before = used_seconds(self.device)
        super()._compile(forward, X, y)
        self.compile_s += used_seconds(self.device) - before

    def _decay(self) -> None:
        if self.product_decay:
            add_product_decay(self.network, self.product_decay)
        if self.method is not None:
            self.method.before_update(self.network, self.plan)

    def _change(self, clock: Clock) -> None:
        before, method, number = self.network, self.method, self.stage
        assert method is not None

        def replace() -> None:
            self.network = method.changed(before, self.plan, number)
            self.optimizer = method.optimizer(
                self.optimizer, before, self.network, self.plan, self.make
            )

        took = timed(clock, replace)
        self.switched_s = (self.switched_s or 0.0) + took
        self.switch_s = (self.switch_s or 0.0) + took
        self.stage += 1
        if not number:
            self.factored = method.check(before, self.plan)
            if method.truncates:
                self.rel_error = _relative_change(before, method.dense(self.network))
        if self._wants_change:
            self._wants_change = False
            start = used_seconds(self.device)
            cost = self.cost(self)
            self.measured_s += used_seconds(self.device) - start
            self.schedule.change_now(self.steps, cost)

    def _ask(self, clock: Clock) -> None:
        """Ask whether the method wants to change now."""
        method = self.method
        self.state.epoch += 1
        last = self.stage >= len(self.schedule.costs) - 1
        asks = method is not None and last and overrides(method, "wants_change")
        if method is None or not asks or self.switch_s is not None:
            return

        def ask() -> None:
            self._wants_change = method.wants_change(self.network, self.state)

        self.asked_s += timed(clock, ask)


def endless(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch after the other."""
    number = 0
    while True:
        yield from batches.epoch(number)
        number += 1


def used_seconds(device: torch.device) -> float:
    """Process seconds over the number of threads; on a GPU, seconds as they pass."""
    return ProcessClock(device).stamp()


@torch.no_grad()
def _relative_change(before: nn.Module, after: nn.Module) -> float | None:
    """‖W − W'‖/‖W‖ over the weights that are different; None without any."""
    whole, rest = 0.0, 0.0
    own = dict(after.named_parameters())
    for name, parameter in before.named_parameters():
        if parameter.ndim < 2 or name not in own or own[name].shape != parameter.shape:
            continue
        W = parameter.double()
        lost = float((W - own[name]).square().sum())
        if lost:
            whole += float(W.square().sum())
            rest += lost
    return (rest / whole) ** 0.5 if whole else None
