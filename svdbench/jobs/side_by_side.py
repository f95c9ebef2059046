"""What a job that trains networks side by side begins with: data, sizes, arms, batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from svdbench.classification import check_sizes, mlp, parse_net
from svdbench.datasets import classification
from svdbench.errors import UserError, one_line
from svdbench.jobs.timing import device_of
from svdbench.schemas.side_by_side import SideBySide

Config = TypeVar("Config", bound=SideBySide)
Setting = TypeVar("Setting")
Examples = tuple[Tensor, Tensor]

BATCH, LEAST_BATCHES = 2048, 8


@dataclass(frozen=True)
class Given(Generic[Config, Setting]):
    """What all seeds have in common.

    Attributes:
        settings: what makes the arms, that of the unchanged network first.
        sizes: of the network.
        train, test: examples (N, d) and labels (N,), where they are computed with.
    """

    usual_epochs: ClassVar[int]
    least_steps: ClassVar[int]

    config: Config
    settings: list[Setting]
    sizes: list[int]
    train: Examples
    test: Examples

    @property
    def batch_size(self) -> int:
        small = math.ceil(len(self.train[0]) / LEAST_BATCHES)
        return self.config.batch_size or min(BATCH, small)

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.train[0]) / self.batch_size)

    @property
    def epochs(self) -> int:
        enough = math.ceil(self.least_steps / self.batches)
        return self.config.epochs or max(self.usual_epochs, enough)

    def network(self) -> nn.Module:
        """With weights drawn from torch's generator."""
        X = self.train[0]
        return mlp(self.sizes, self.config.activation).to(X.device, X.dtype)


def problem_of(config: SideBySide, hidden: Sequence[int]) -> tuple[list[int], Examples, Examples]:
    """The sizes of the network, and the training and test examples where they are computed with.

    Args:
        hidden: units of the layers, where ``config.net`` says nothing.

    Raises:
        UserError: a device, a data set or a network that can't be had.
    """
    device = device_of(config)
    try:
        train, test = (
            classification(config.data.name, split, data_dir=config.data.dir)
            for split in ("train", "test")
        )
        features, classes = train.X.shape[1], train.classes
        sizes = parse_net(config.net) if config.net else [features, *hidden, classes]
        check_sizes(sizes, features, classes, config.data.name)
        mlp(sizes, config.activation)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    dtype = getattr(torch, config.dtype.value)

    def placed(X: Tensor, y: Tensor) -> Examples:
        return X.to(device, dtype), y.to(device)

    return sizes, placed(*train[:2]), placed(*test[:2])
