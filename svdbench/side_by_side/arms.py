"""Arms: networks that start from the same weights and see the same batches, epoch by epoch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.measure.clock import Clock
from svdbench.measure.plan import failure
from svdbench.side_by_side.execution import Execution, TrainingPass
from svdbench.side_by_side.networks import Loss

Epoch = Iterable[tuple[Tensor, Tensor]]  # its batches
Hook = Callable[[], None] | None


@dataclass(frozen=True)
class EpochScores:
    """Loss and time of an epoch of training.

    Attributes:
        loss: the mean over the examples, each as its batch was met.
        seconds: with the making of the batches and all that ``after_batch`` did.
        decompose_s: those of compressing the weights.
        rel_error: ‖W − W_k‖/‖W‖ of the last compression; None where there was none.
    """

    loss: float
    seconds: float
    steps: int
    decompose_s: float = 0.0
    rel_error: float | None = None


class Arm:
    """A network with its optimiser.

    Args:
        loss: of logits (B, …, outputs) and labels (B, …), the mean of a batch.
        execution: how its steps are computed; None: as they are written.

    Attributes:
        status, reason: as a row has them; anything but ok ends the arm's training.
        history: its epochs so far.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        execution: Execution | None = None,
    ) -> None:
        self.name = name
        self.network = network
        self.optimizer = optimizer
        self.loss = loss
        self.execution = execution or Execution()
        self._pass: TrainingPass | None = None
        self.status, self.reason = "ok", ""
        self.history: list[EpochScores] = []

    def train(self, batches: Epoch, clock: Clock) -> EpochScores | None:
        """Train for an epoch of the history; None if the arm has failed, now or before."""
        if self.status != "ok":
            return None
        try:
            done = self._epoch(batches, clock)
        except Exception as error:
            self.status, self.reason = failure(error)
            if not all(bool(p.isfinite().all()) for p in self.network.parameters()):
                self._diverged("a weight is not finite", len(self.history) + 1)
            return None
        self.history.append(done)
        if not math.isfinite(done.loss):
            self._diverged(f"the loss is {done.loss}", len(self.history))
        return done

    def _epoch(self, batches: Epoch, clock: Clock) -> EpochScores:
        return self.train_epoch(batches, clock)

    def _diverged(self, how: str, epoch: int) -> None:
        self.status, self.reason = "nan", f"{how} in epoch {epoch}: lower lr"

    def train_epoch(
        self, batches: Epoch, clock: Clock, after_batch: Hook = None, before_update: Hook = None
    ) -> EpochScores:
        """One step of the optimiser for each batch.

        Args:
            clock: read at both ends, on an idle device.
            after_batch: called after every step, within the time.
            before_update: called once the gradients are there, within the time.
        """
        self.network.train()
        batches, loss_of = self._ready(batches)
        step, parameters = self.optimizer.step, list(self.network.parameters())
        losses: list[Tensor] = []  # stay on the device: asking for a number would wait for it
        sizes: list[int] = []
        clock.sync()
        start = clock.stamp()
        for X, y in batches:
            for parameter in parameters:
                parameter.grad = None
            loss = loss_of(X, y)
            loss.backward()
            if before_update is not None:
                before_update()
            step()
            losses.append(loss.detach())
            sizes.append(len(y))
            if after_batch is not None:
                after_batch()
        end = clock.stamp()
        clock.sync()
        if not losses:
            raise ValueError("there are no batches to train on: give at least one")
        weights = torch.tensor(sizes, dtype=torch.float64)
        mean = torch.stack(losses).double().cpu() @ weights / weights.sum()
        return EpochScores(float(mean), clock.seconds(start, end), len(losses))

    def _ready(self, batches: Epoch) -> tuple[Epoch, TrainingPass]:
        """The batches, and their loss; compiled, if it is to be, where no time is taken."""
        if self._pass is None or self._pass.network is not self.network:
            self._pass = self.execution.pass_of(self.network, self.loss)
        if not self._pass.ready:
            batches = iter(batches)
            first = next(batches, None)
            if first is not None:
                self._compile(self._pass, *first)
                batches = chain([first], batches)
        return batches, self._pass

    def _compile(self, forward: TrainingPass, X: Tensor, y: Tensor) -> None:
        forward.prepare(X, y)


# Rows gathered at once: few calls, and the rows are still in the cache when they are used.
GATHERED = 1024


class Batches:
    """An order of all examples for each epoch, cut into batches.

    The order depends on the seed and the epoch's number alone, so that networks which
    are compared meet the same batches whenever they are trained.

    Args:
        X: examples (N, …).
        y: labels (N,) or (N, T).
        batch_size: examples to a batch; the last one of an epoch may have fewer.
        shuffle: False leaves the examples as they lie, in every epoch.
    """

    def __init__(
        self, X: Tensor, y: Tensor, batch_size: int, seed: int = 0, shuffle: bool = True
    ) -> None:
        if len(X) != len(y) or not len(X):
            raise ValueError(f"there are {len(X)} examples and {len(y)} labels: give one of each")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be 1 or more")
        self.X = X
        self.y = y
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle

    def __len__(self) -> int:
        return math.ceil(len(self.X) / self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches (B, …), (B,) or (B, T) of epoch ``number``, counted from 0."""
        if not self.shuffle:
            yield from self._cut(self.X, self.y)
            return
        several = max(1, GATHERED // self.batch_size) * self.batch_size
        for rows in self._order(number).split(several):
            yield from self._cut(self.X.index_select(0, rows), self.y.index_select(0, rows))

    def _order(self, number: int) -> Tensor:
        # Drawn on the CPU, so that it is the same on every device. The multiplier keeps
        # epoch 1 of seed 0 from being epoch 0 of seed 1.
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + number)
        return torch.randperm(len(self.X), generator=generator).to(self.X.device)

    def _cut(self, X: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(X.split(self.batch_size), y.split(self.batch_size), strict=True)


A = TypeVar("A", bound=Arm)
R = TypeVar("R")
WARM_UP_STEPS = 20


def same_start(network: nn.Module, count: int) -> list[nn.Module]:
    """So many copies of a network, with the weights it has and nothing in common."""
    return [deepcopy(network) for _ in range(count)]


def side_by_side(
    arms: Sequence[A], batches: Batches, epochs: int, train: Callable[[A, Epoch], R]
) -> Iterator[tuple[int, A, R]]:
    """Train epoch by epoch, every arm in each before anyone begins the next.

    A machine drifts (heat, neighbours), so arms trained one after the other are timed on
    different machines. Who is first in an epoch rotates.

    Args:
        train: trains an arm on an epoch, as ``lambda arm, epoch: arm.train_epoch(epoch, clock)``.

    Yields:
        The epoch's number, from 0, the arm, and what ``train`` returned, after each; what
        the caller does then is not timed.
    """
    for number in range(epochs):
        first = number % len(arms)
        for arm in [*arms[first:], *arms[:first]]:
            yield number, arm, train(arm, batches.epoch(number))


def warm_up(arm: Arm, batches: Batches, clock: Clock, steps: int = WARM_UP_STEPS) -> None:
    """A few untimed steps of an arm that is then thrown away.

    The first steps of a process pay for code and memory that all later ones find ready.
    """
    arm.train_epoch(islice(batches.epoch(0), steps), clock)
