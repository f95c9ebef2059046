"""Associative recall: values of keys are queried later in the sequence."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from svdbench.arguments import check_whole

from .base import Batch, GeneratedTask

NOT_ASKED = -1  # the answer at steps without a query


class Recall(GeneratedTask):
    """Pairs of a key and a value, then the keys again as queries for their values.

    A sequence begins with ``pairs`` different keys, each followed by its value; in the remaining
    steps every key appears once more among blanks, at random steps in random order. x
    (L, B, 2·symbols + 1) is one-hot: keys, values, the blank. y (L, B) is the value at the step of
    its query and −1 elsewhere. The loss is the cross entropy over the queries, ln(symbols) without
    memory.

    Differences in other work: Zoology draws the steps of the queries by a power law, so that most
    come early, shows random symbols instead of blanks, and has 8,192 symbols.

    Args:
        pairs: K, at most ``symbols``.
        length: L, at least 3·pairs.
        symbols: number of keys, and of values.
        test_size: number of sequences in the test set, and in the validation set.

    Raises:
        ValueError: a size that is too small, or too large for the others.

    Source of the task: Arora et al., Zoology: Measuring and Improving Recall in Efficient
    Language Models, ICLR 2024, arXiv 2312.04927, section 3 (multi-query associative recall).
    """

    name = "recall"
    at_end = False
    loss_unit = "nats a query"
    metric = "values recalled"
    source = (
        "Arora et al., Zoology: Measuring and Improving Recall in Efficient Language Models, "
        "ICLR 2024, arXiv 2312.04927"
    )

    def __init__(
        self, pairs: int = 8, length: int = 64, symbols: int = 32, test_size: int = 500
    ) -> None:
        check_whole(1, pairs=pairs, length=length)
        check_whole(2, symbols=symbols)
        super().__init__(test_size)
        if pairs > symbols:
            raise ValueError(
                f"pairs is {pairs}, but there are only {symbols} keys: give {symbols} at most, or "
                "more symbols"
            )
        if length < 3 * pairs:
            raise ValueError(
                f"length is {length}, but {pairs} pairs and their queries take {3 * pairs} steps: "
                "give a longer length, or fewer pairs"
            )
        self.pairs, self.length, self.symbols = pairs, length, symbols
        self.input_size, self.output_size = 2 * symbols + 1, symbols
        self.baseline, self.chance = math.log(symbols), 1 / symbols
        self.title = f"Recall of {pairs} of {symbols} keys, length {length}"

    def longer(self, factor: int) -> "Recall":
        size = max(1, self.test_size // factor)
        return Recall(self.pairs, factor * self.length, self.symbols, size)

    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        L, K, B, N = self.length, self.pairs, batch_size, self.symbols
        keys = torch.rand(N, B, generator=generator).argsort(0)[:K]
        values = torch.randint(N, (K, B), generator=generator)
        steps = 2 * K + torch.rand(L - 2 * K, B, generator=generator).argsort(0)[:K]
        shown = torch.full((L, B), 2 * N)
        shown[0 : 2 * K : 2], shown[1 : 2 * K : 2] = keys, N + values
        shown.scatter_(0, steps, keys)
        y = torch.full_like(shown, NOT_ASKED).scatter_(0, steps, values)
        return F.one_hot(shown, self.input_size).float(), y

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), y.flatten(), ignore_index=NOT_ASKED)

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        asked = y != NOT_ASKED
        return {"accuracy": (outputs.argmax(-1) == y)[asked].float().mean().item()}
