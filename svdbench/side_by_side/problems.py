"""What networks are trained on, and which: from a configuration, placed on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svdbench.datasets import classification
from svdbench.datasets.text import text_windows
from svdbench.errors import as_user_error
from svdbench.members import DATASETS
from svdbench.running.session import device_of
from svdbench.side_by_side.byte_lm import ByteLmFamily
from svdbench.side_by_side.config import BYTE_LM, CONV, LSTM, FamilyConfig, SideBySide
from svdbench.side_by_side.families import (
    LSTM_WIDTH,
    ConvFamily,
    LstmFamily,
    MlpFamily,
    NetworkFamily,
)
from svdbench.side_by_side.networks import check_sizes, parse_net

Examples = tuple[Tensor, Tensor]
WIDTH, LAYERS, CONTEXT = 128, 4, 128


@dataclass(frozen=True)
class TrainingProblem:
    """A network and the examples of a data set, where they are computed with.

    Attributes:
        family: of the network.
        train, test: examples (N, …) and labels (N,) or (N, T).
        dataset: its name in rows and reports.
        scored: the examples whose scores are those of training: all of ``train``, or of a text
            as many windows as ``test`` has.
    """

    family: NetworkFamily
    train: Examples
    test: Examples
    dataset: str
    scored: Examples


def problem_of(config: SideBySide, hidden: Sequence[int]) -> TrainingProblem:
    """The network and the examples of a configuration, checked.

    Args:
        hidden: units of the layers, where ``config.net`` says nothing.

    Raises:
        UserError: they do not fit each other; the data is not there.
    """
    device = device_of(config)
    dtype = getattr(torch, config.number_type)

    def placed(examples: Tensor, labels: Tensor) -> Examples:
        to = dtype if examples.is_floating_point() else None
        return examples.to(device, to), labels.to(device)

    with as_user_error():
        if isinstance(config, FamilyConfig) and config.net == BYTE_LM:
            family = byte_lm_of(config)
            text = text_windows(config.text, family.context)
            family.build()
            train, test = placed(*text.train), placed(*text.test)
            scored = train[0][: len(test[0])], train[1][: len(test[0])]
            return TrainingProblem(family, train, test, text.name, scored)
        splits = [
            classification(config.data.name, split, data_dir=config.data.dir)
            for split in ("train", "test")
        ]
        made = family_of(config, splits[0].X.shape[1], splits[0].classes, hidden)
        made.build()
    train, test = (placed(split.X, split.y) for split in splits)
    return TrainingProblem(made, train, test, config.data.name, train)


def byte_lm_of(config: FamilyConfig) -> ByteLmFamily:
    width, layers, context = (
        config.width or WIDTH,
        config.layers or LAYERS,
        config.context or CONTEXT,
    )
    return ByteLmFamily(width, layers, context, config.activation)


def family_of(
    config: SideBySide, features: int, classes: int, hidden: Sequence[int]
) -> NetworkFamily:
    """The family of the network for a table of examples (N, features) with so many classes.

    Raises:
        ValueError: the network does not fit the data set.
    """
    if isinstance(config, FamilyConfig) and config.net in (CONV, LSTM):
        shape = DATASETS.class_of(config.data.name).shape
        if len(shape) < 2:
            raise ValueError(
                f"{config.net} is for images, and an example of {config.data.name} is {features} "
                "numbers: give a data set of images, such as mnist, or the sizes of layers"
            )
        if config.net == LSTM:
            return LstmFamily(shape, classes, config.width or LSTM_WIDTH)
        return ConvFamily(shape, classes, activation=config.activation)
    sizes = parse_net(config.net) if config.net else [features, *hidden, classes]
    check_sizes(sizes, features, classes, config.data.name)
    return MlpFamily(sizes, config.activation)
