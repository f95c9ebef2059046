"""Training several arms so that they can be compared: same start, same batches, same hour."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from typing import TypeVar

from torch import Tensor, nn

from svdbench.classification.arm import Arm
from svdbench.classification.batches import Batches
from svdbench.measure.clock import Clock

A = TypeVar("A", bound=Arm)
R = TypeVar("R")
Epoch = Iterable[tuple[Tensor, Tensor]]

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
        arms: to be trained.
        batches: which all of them meet.
        epochs: how many.
        train: trains an arm on an epoch, as ``lambda arm, epoch: arm.train_epoch(epoch, clock)``.

    Yields:
        The epoch's number, from 0, the arm, and what ``train`` returned, after each; what
        the caller does then is nobody's time.
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
