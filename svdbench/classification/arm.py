"""One of several networks that are trained alike and compared: an arm of an experiment."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.classification.losses import Loss
from svdbench.measure.clock import Clock


@dataclass(frozen=True)
class EpochScores:
    """What an epoch of training came to.

    Attributes:
        loss: the mean over the examples, each as its batch was met.
        seconds: with the making of the batches and all that ``after_batch`` did.
        steps: batches.
    """

    loss: float
    seconds: float
    steps: int


class Arm:
    """A network with its optimiser.

    Args:
        name: of the arm.
        network: trained in place.
        optimizer: of the network's parameters.
        loss: of logits (B, outputs) and labels (B,), the mean of a batch.

    Attributes:
        status, reason: as a row has them; anything but ok ends the arm's training.
    """

    def __init__(self, name: str, network: nn.Module, optimizer: Optimizer, loss: Loss) -> None:
        self.name = name
        self.network = network
        self.optimizer = optimizer
        self.loss = loss
        self.status, self.reason = "ok", ""

    def train_epoch(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        clock: Clock,
        after_batch: Callable[[], None] | None = None,
    ) -> EpochScores:
        """One step of the optimiser for each batch.

        Args:
            batches: one epoch of :class:`~svdbench.classification.batches.Batches`.
            clock: read at both ends, on an idle device.
            after_batch: called after every step, within the time.

        Raises:
            ValueError: there are no batches.
        """
        self.network.train()
        network, loss_of, step = self.network, self.loss, self.optimizer.step
        parameters = list(network.parameters())
        losses: list[Tensor] = []  # stay on the device: asking for a number would wait for it
        sizes: list[int] = []
        clock.sync()
        start = clock.stamp()
        for X, y in batches:
            for parameter in parameters:
                parameter.grad = None
            loss = loss_of(network(X), y)
            loss.backward()
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
