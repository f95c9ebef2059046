"""Adding and copying: tasks that need a long memory."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from svdbench.arguments import check_whole

from .base import Batch, GeneratedTask

TOLERANCE = 0.04


class Addition(GeneratedTask):
    """Values uniform on [0, 1) and a marker; the answer is the sum of the two marked.

    x (L, B, 2) holds value and marker, which is 1 at one step of the first half (steps
    0 … ⌊L/2⌋ − 1) and at one of the second, and 0 elsewhere; y (B, 1). The loss is the
    mean squared error of the last output, with the baseline 1/6: the variance of the sum, which is
    the error of always answering 1. (One published code takes half the sum, for which that error is
    1/24.)

    ``accuracy`` counts answers within 0.04, as in Hochreiter and Schmidhuber; always answering 1
    scores 2·0.04 − 0.04².

    Args:
        length: L, at least 2.
        test_size: number of sequences in the test set, and in the validation set.

    Raises:
        ValueError: one of them is too small.
    """

    name = "addition"
    at_end = True
    loss_unit = "squared error"
    metric = f"answers within {TOLERANCE} of the sum"
    source = (
        "Hochreiter and Schmidhuber, Long Short-Term Memory, 1997; as in "
        "Arjovsky, Shah and Bengio, Unitary Evolution RNNs, ICML 2016"
    )
    input_size = 2
    output_size = 1
    baseline = 1 / 6
    chance = 2 * TOLERANCE - TOLERANCE**2

    def __init__(self, length: int = 100, test_size: int = 1000) -> None:
        check_whole(2, length=length)  # a marker in each half
        super().__init__(test_size)
        self.length = length
        self.title = f"Adding, length {length}"

    def longer(self, factor: int) -> "Addition":
        return Addition(factor * self.length, max(1, self.test_size // factor))

    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        L, B = self.length, batch_size
        values = torch.rand(L, B, generator=generator)
        first = torch.randint(0, L // 2, (1, B), generator=generator)
        second = torch.randint(L // 2, L, (1, B), generator=generator)
        marked = torch.cat([first, second])
        markers = torch.zeros(L, B).scatter_(0, marked, 1.0)
        total = values.gather(0, marked).sum(0)
        return torch.stack([values, markers], -1), total.unsqueeze(-1)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(outputs, y)

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        return {"accuracy": ((outputs - y).abs() < TOLERANCE).float().mean().item()}


SYMBOLS = 8  # a₀ … a₇


BLANK, DELIMITER = 8, 9


TO_COPY = 10


class Copying(GeneratedTask):
    """Ten symbols, to be repeated after a lag of T steps.

    A sequence has T + 20 steps: ten symbols uniform over a₀ … a₇, then blanks a₈, except for the
    delimiter a₉ at step T + 10, counted from 1; the answer begins at the next step. x
    (T + 20, B, 10) is one-hot; y (T + 20, B) is a₈ and, in the last ten steps, the symbols, so nine
    outputs are enough. The loss is the cross-entropy over all steps; the baseline, which knows when
    to answer but not what, is 10 ln 8/(T + 20).

    Differences in other work: Shcherbakov et al. 2019 plot a mean squared error, and their baseline
    assumes seven symbols, a₁ … a₇; expRNN's code sets the delimiter one step late.

    Args:
        lag: T, at least 1.
        test_size: number of sequences in the test set, and in the validation set.

    Raises:
        ValueError: one of them is too small.
    """

    name = "copy"
    at_end = False
    loss_unit = "nats a step"
    metric = f"symbols right in the last {TO_COPY} steps"
    source = (
        "Hochreiter and Schmidhuber, Long Short-Term Memory, 1997; as in "
        "Arjovsky, Shah and Bengio, Unitary Evolution RNNs, ICML 2016"
    )
    input_size = SYMBOLS + 2
    output_size = SYMBOLS + 1
    chance = 1 / SYMBOLS

    def __init__(self, lag: int = 200, test_size: int = 1000) -> None:
        check_whole(1, lag=lag)
        super().__init__(test_size)
        self.lag = lag
        self.length = lag + 2 * TO_COPY
        self.baseline = TO_COPY * math.log(SYMBOLS) / self.length
        self.title = f"Copying, lag {lag}"

    def longer(self, factor: int) -> "Copying":
        return Copying(factor * self.lag, max(1, self.test_size // factor))

    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        symbols = torch.randint(SYMBOLS, (TO_COPY, batch_size), generator=generator)
        shown = torch.full((self.length, batch_size), BLANK)
        shown[:TO_COPY] = symbols
        shown[-TO_COPY - 1] = DELIMITER
        y = torch.full_like(shown, BLANK)
        y[-TO_COPY:] = symbols
        return torch.eye(self.input_size)[shown], y

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), y.flatten())

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        right = outputs[-TO_COPY:].argmax(-1) == y[-TO_COPY:]
        return {"accuracy": right.float().mean().item()}
