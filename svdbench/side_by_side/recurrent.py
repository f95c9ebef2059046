"""Recurrent networks that read sequences step by step, or images row by row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from svdbench.lowrank.layers.recurrent_training import as_trained
from svdbench.members import refuse_unknown
from svdbench.side_by_side.families import NetworkFamily, scaled_width
from svdbench.side_by_side.networks import CountRight, Loss, loss_for
from svdbench.tasks.base import Task

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
# What torch's RNN may apply.
RNN_ACTIVATIONS = ("relu", "tanh")
HIDDEN = 128


class SequenceReader(nn.Module):
    """A recurrent layer and a linear one: outputs for sequences X (N, T, inputs).

    Outputs are (N, outputs), of the last state, or (N, T, outputs), of every one.

    Args:
        rnn: one of torch, with ``batch_first``.
        at_end: whether only the last state is read out.
        rows: of flat images (N, d), which are read row by row; None for sequences.
    """

    def __init__(
        self, rnn: nn.RNNBase, outputs: int, at_end: bool = True, rows: int | None = None
    ) -> None:
        super().__init__()
        self.rnn = rnn
        self.readout = nn.Linear(rnn.hidden_size, outputs)
        self.at_end, self.rows = at_end, rows

    def forward(self, X: Tensor) -> Tensor:
        sequences = X if self.rows is None else X.unflatten(1, (self.rows, -1))
        states, _ = as_trained(self.rnn, sequences)
        outputs: Tensor = self.readout(states[:, -1] if self.at_end else states)
        return outputs


@dataclass(frozen=True)
class RecurrentFamily(NetworkFamily):
    """A recurrent layer of torch and one linear layer, for a task or for images row by row.

    An RNN is h ← φ(W h + M x + b), with W orthogonal at first: the recurrence of the Spectral-RNN
    with a free W. LSTM and GRU begin as torch initialises them.

    Args:
        cell: lstm, gru or rnn.
        inputs: of a step.
        outputs: as many as there are classes, or numbers to be found.
        hidden: units.
        activation: φ of an RNN, relu or tanh.
        task: whose sequences are read, and whose loss it has.
        rows: of flat images, where there is no task.

    Example:
        >>> RecurrentFamily("lstm", 28, 10, rows=28).scaled(0.25).label
        'lstm-28-32-10'
    """

    cell: str
    inputs: int
    outputs: int
    hidden: int = HIDDEN
    activation: str = "relu"
    task: Task | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        refuse_unknown("recurrent network", [self.cell], list(CELLS))
        if self.cell == "rnn" and self.activation not in RNN_ACTIVATIONS:
            raise ValueError(f"activation is {self.activation}: for rnn, give relu or tanh")

    @property
    def label(self) -> str:
        return f"{self.cell}-{self.inputs}-{self.hidden}-{self.outputs}"

    def build(self) -> nn.Module:
        options = {"nonlinearity": self.activation} if self.cell == "rnn" else {}
        rnn = CELLS[self.cell](self.inputs, self.hidden, batch_first=True, **options)
        if self.cell == "rnn":
            nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"))
        at_end = self.task is None or self.task.at_end
        return SequenceReader(rnn, self.outputs, at_end, self.rows)

    def scaled(self, share: float) -> "RecurrentFamily":
        return replace(self, hidden=scaled_width(self.hidden, share))

    @property
    def loss(self) -> Loss:
        task = self.task
        if task is None:
            return loss_for(self.outputs)
        return lambda outputs, y: task.loss(*_as_in_tasks(task, outputs, y))

    @property
    def count_right(self) -> CountRight:
        task = self.task
        if task is None:
            return super().count_right

        def counted(outputs: Tensor, y: Tensor) -> float:
            return task.metrics(*_as_in_tasks(task, outputs, y))["accuracy"] * y.numel()

        return counted


def _as_in_tasks(task: Task, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and labels with the steps first, as tasks have them."""
    return (outputs, y) if task.at_end else (outputs.transpose(0, 1), y.transpose(0, 1))


def row_reader(
    cell: str, shape: Sequence[int], classes: int, hidden: int = HIDDEN, activation: str = "relu"
) -> RecurrentFamily:
    """The family of a network that reads images row by row.

    Args:
        shape: of an image: (height, width), or (height, width, channels).
    """
    inputs = math.prod(shape[1:])
    return RecurrentFamily(cell, inputs, classes, hidden, activation, rows=shape[0])


def sequence_reader(
    cell: str, task: Task, hidden: int = HIDDEN, activation: str = "relu"
) -> RecurrentFamily:
    """The family of a network for a task.

    Example:
        >>> from svdbench.tasks.memory import Addition
        >>> sequence_reader("lstm", Addition(50), 64).label
        'lstm-2-64-1'
    """
    return RecurrentFamily(cell, task.input_size, task.output_size, hidden, activation, task=task)
