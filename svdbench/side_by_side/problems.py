"""What networks are trained on, and which: from a configuration, placed on the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svdbench.datasets import classification
from svdbench.datasets.text import text_windows
from svdbench.errors import as_user_error
from svdbench.members import DATASETS, TASKS
from svdbench.running.session import device_of, load
from svdbench.side_by_side.byte_lm import ByteLmFamily
from svdbench.side_by_side.config import (
    BYTE_LM,
    CONV,
    NATS,
    RECURRENT,
    FamilyConfig,
    SideBySide,
)
from svdbench.side_by_side.families import ConvFamily, MlpFamily, NetworkFamily
from svdbench.side_by_side.networks import check_sizes, parse_net
from svdbench.side_by_side.recurrent import HIDDEN, row_reader, sequence_reader
from svdbench.tasks.base import Batch, Task

Examples = tuple[Tensor, Tensor]
WIDTH, LAYERS, CONTEXT = 128, 4, 128
# Labels of a batch by default; of a task, sequences of a batch and of the training set.
BATCH, TASK_BATCH, SEQUENCES = 2048, 50, 10_000
# The options of tasks that say how long their sequences are.
LENGTHS = ("length", "lag")


@dataclass(frozen=True)
class TrainingProblem:
    """A network and the examples of a data set, where they are computed with.

    Attributes:
        family: of the network.
        train, test: examples (N, …) and labels (N, …).
        dataset: its name in rows and reports.
        scored: the examples whose scores are those of training: all of ``train``, or of a text or
            a task as many as ``test`` has.
        batch_size: examples of a batch by default.
        epochs: by default; None: as many as is usual for the job.
        task: whose sequences the examples are.
    """

    family: NetworkFamily
    train: Examples
    test: Examples
    dataset: str
    scored: Examples
    batch_size: int = BATCH
    epochs: int | None = None
    task: Task | None = None

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers, not classes, so that there is no accuracy."""
        return self.test[1].is_floating_point()

    @property
    def loss_unit(self) -> str:
        return NATS if self.task is None else self.task.loss_unit


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
        X, y = (
            part.to(device, dtype if part.is_floating_point() else None)
            for part in (examples, labels)
        )
        return X, y

    with as_user_error():
        if isinstance(config, FamilyConfig) and config.task_name is not None:
            task = task_of(config)
            assert config.network is not None
            reader = sequence_reader(
                config.network, task, config.width or HIDDEN, config.activation
            )
            reader.build()
            draw = torch.Generator().manual_seed(config.seed)
            drawn = task.batch(config.sequences or SEQUENCES, draw), task.test_set()
            train, test = (placed(*by_sequence(task, each)) for each in drawn)
            return TrainingProblem(
                *(reader, train, test, task.title, _as_many(train, test)),
                batch_size=TASK_BATCH,
                task=task,
            )
        if isinstance(config, FamilyConfig) and config.net == BYTE_LM:
            family = byte_lm_of(config)
            text = text_windows(config.text, family.context)
            family.build()
            train, test = placed(*text.train), placed(*text.test)
            return TrainingProblem(
                *(family, train, test, text.name, _as_many(train, test)),
                batch_size=max(1, BATCH // family.context),
                epochs=1,  # a text is read once
            )
        splits = [
            classification(config.data.name, split, data_dir=config.data.dir)
            for split in ("train", "test")
        ]
        made = family_of(config, splits[0].X.shape[1], splits[0].classes, hidden)
        made.build()
    train, test = (placed(split.X, split.y) for split in splits)
    return TrainingProblem(made, train, test, config.data.name, train)


def _as_many(train: Examples, test: Examples) -> Examples:
    """The first examples of training, as many as there are to test."""
    X, y = train
    return X[: len(test[0])], y[: len(test[0])]


def task_options(config: FamilyConfig) -> dict[str, Any]:
    """The options of the task of a configuration, with the length that is asked for.

    Raises:
        ValueError: its sequences have one length only.
    """
    name = config.task_name
    assert name is not None
    own = dict(config.task.get(name, {}))
    if config.length is None:
        return own
    key = next((key for key in LENGTHS if key in TASKS.options_of(name)), None)
    if key is None:
        raise ValueError(f"sequences of {name} have one length only: leave length out")
    return own | {key: config.length}


def task_of(config: FamilyConfig) -> Task:
    """The task of a configuration, with its files.

    Raises:
        UserError, ValueError: its options do not fit; its sequences grow in training.
    """
    name = config.task_name
    assert name is not None
    task: Task = load(TASKS, name, {**config.task, name: task_options(config)})
    if task.training_length != task.length:
        raise ValueError(
            f"sequences of {name} are short at first, and a training set needs one length: add "
            f"task.{name}.curriculum=false"
        )
    task.prepare()
    return task


def by_sequence(task: Task, drawn: Batch) -> Examples:
    """A batch of a task, x (T, N, inputs) and y, as examples (N, T, inputs) and labels (N, …)."""
    x, y = drawn
    return x.transpose(0, 1).contiguous(), y if task.at_end else y.transpose(0, 1).contiguous()


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
    if isinstance(config, FamilyConfig) and config.net in (CONV, *RECURRENT):
        shape = DATASETS.class_of(config.data.name).shape
        if len(shape) < 2:
            raise ValueError(
                f"{config.net} is for images, and an example of {config.data.name} is {features} "
                "numbers: give a data set of images, such as mnist, or the sizes of layers"
            )
        if config.net in RECURRENT:
            width = config.width or HIDDEN
            return row_reader(config.net, shape, classes, width, config.activation)
        return ConvFamily(shape, classes, activation=config.activation)
    sizes = parse_net(config.net) if config.net else [features, *hidden, classes]
    check_sizes(sizes, features, classes, config.data.name)
    return MlpFamily(sizes, config.activation)
