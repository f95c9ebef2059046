"""A recurrent network that classifies images, read row by row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from svdbench.side_by_side.families import NetworkFamily, scaled_width
from svdbench.side_by_side.networks import Loss, loss_for

HIDDEN = 128


class RowReader(nn.Module):
    """Logits (N, classes) of flat images (N, d), from the last state of an LSTM over the rows.

    Args:
        shape: of an image: (height, width), or (height, width, channels).
    """

    def __init__(self, shape: Sequence[int], hidden: int, classes: int) -> None:
        super().__init__()
        self.rows = shape[0]
        self.rnn = nn.LSTM(math.prod(shape[1:]), hidden, batch_first=True)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, X: Tensor) -> Tensor:
        states, _ = self.rnn(X.unflatten(1, (self.rows, -1)))
        logits: Tensor = self.readout(states[:, -1])
        return logits


@dataclass(frozen=True)
class LstmFamily(NetworkFamily):
    """An LSTM that reads an image row by row, and one linear layer.

    Args:
        shape: of an image: (height, width), or (height, width, channels).
        classes: logits.
        hidden: units of the LSTM.

    Example:
        >>> LstmFamily((28, 28), 10).scaled(0.25).label
        'lstm-28-32-10'
    """

    shape: Sequence[int]
    classes: int
    hidden: int = HIDDEN

    @property
    def label(self) -> str:
        return f"lstm-{math.prod(self.shape[1:])}-{self.hidden}-{self.classes}"

    def build(self) -> nn.Module:
        return RowReader(self.shape, self.hidden, self.classes)

    def scaled(self, share: float) -> "LstmFamily":
        return replace(self, hidden=scaled_width(self.hidden, share))

    @property
    def loss(self) -> Loss:
        return loss_for(self.classes)
