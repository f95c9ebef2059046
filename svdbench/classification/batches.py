"""Minibatches of a data set that lies in memory, the same for everyone who asks."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# Rows gathered at once: few calls, and the rows are still in the cache when they are used.
GATHERED = 1024


class Batches:
    """An order of all examples for each epoch, cut into batches.

    The order depends on the seed and the epoch's number alone, so that networks which
    are compared meet the same batches whenever they are trained.

    Args:
        X: examples (N, d).
        y: labels (N,).
        batch_size: examples to a batch; the last one of an epoch may have fewer.
        seed: of the orders.
        shuffle: False leaves the examples as they lie, in every epoch.

    Raises:
        ValueError: no examples, another number of labels, or an empty batch.
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
        """Batches of an epoch."""
        return math.ceil(len(self.X) / self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches (B, d), (B,) of epoch ``number``, counted from 0."""
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
