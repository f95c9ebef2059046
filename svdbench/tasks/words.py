"""Words of a finite group: the state-tracking task."""

import math
import re
from functools import cache
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from svdbench.arguments import check_whole

from .base import Batch, GeneratedTask

Permutation = tuple[int, ...]

# The curriculum: sequences grow by half once this share of last products is right, in the mean
# that keeps nine tenths of itself at each step; short ones come in batches of up to so many times
# the size.
THRESHOLD, MEMORY, GROWTH, MOST_TIMES = 0.9, 0.9, 1.5, 8
FIRST_LENGTH = 2


class Words(GeneratedTask):
    """Running products of elements of a group: y_t = x_t ∘ y_{t−1}.

    x (L, B, letters) is one-hot, uniform over the letters; y (L, B) is the index of the product of
    the first t letters, one of |G| classes. The loss is the cross entropy over all steps, ln |G|
    without memory. ``accuracy`` is over the last quarter of the steps, where a model that looks
    back only a few steps is at chance.

    Training begins with words of two letters. Whenever the running mean of the minibatches'
    accuracy at the last letter reaches 90 %, words grow by half, up to L. Validation and test words
    have L letters throughout.

    Args:
        group: "parity", "Z" and an order (cyclic), "S" or "A" and a degree from 3 to 5 (symmetric
            and alternating), for example "S5".
        letters: "all" elements, or "generators": two for S and A, one and the identity for Z.
        length: L, at least 2.
        curriculum: whether training begins with short words.
        test_size: number of sequences in the test set, and in the validation set.

    Raises:
        ValueError: an unknown group or letters, or a size that is too small.

    Source of the task: Merrill, Petty and Sabharwal, The Illusion of State in State-Space
    Models, ICML 2024.
    """

    name = "words"
    at_end = False
    loss_unit = "nats a step"
    metric = "products right in the last quarter"
    source = "Merrill, Petty and Sabharwal, The Illusion of State in State-Space Models, ICML 2024"

    def __init__(
        self,
        group: str = "S5",
        letters: str = "all",
        length: int = 32,
        curriculum: bool = True,
        test_size: int = 500,
    ) -> None:
        check_whole(2, length=length)
        super().__init__(test_size)
        if letters not in ("all", "generators"):
            raise ValueError(f"letters is {letters!r}: choose from all, generators")
        self.group, self.letters, self.length, self.curriculum = group, letters, length, curriculum
        self.table, generators = group_table(group)
        order = len(self.table)
        self.alphabet = torch.arange(order) if letters == "all" else torch.tensor(generators)
        self.input_size, self.output_size = len(self.alphabet), order
        self.baseline, self.chance = math.log(order), 1 / order
        kind = "" if letters == "all" else ", generators"
        self.title = f"Words of {group}{kind}, length {length}"
        self._length, self._running = min(FIRST_LENGTH, length) if curriculum else length, 0.0

    @property
    def training_length(self) -> int:
        return self._length

    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        times = min(self.length // self._length, MOST_TIMES)
        return self._words(self._length, times * batch_size, generator)

    def longer(self, factor: int) -> "Words":
        """The same task with words ``factor`` times as long, without a curriculum."""
        size = max(1, self.test_size // factor)
        return Words(self.group, self.letters, factor * self.length, False, size)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), y.flatten())

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        last = math.ceil(len(y) / 4)
        right = outputs[-last:].argmax(-1) == y[-last:]
        return {"accuracy": right.float().mean().item()}

    def training_score(self, outputs: Tensor, y: Tensor) -> float | None:
        if self._length == self.length:
            return None
        return (outputs[-1].argmax(-1) == y[-1]).float().mean().item()

    def adapt(self, score: float) -> None:
        self._running = MEMORY * self._running + (1 - MEMORY) * score
        if self._running > THRESHOLD:
            longer = max(self._length + 1, math.floor(GROWTH * self._length))
            self._length, self._running = min(longer, self.length), 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"length": self._length, "running": self._running}

    def check_state(self, state: Any) -> None:
        keys = {"length", "running"}
        if not isinstance(state, dict) or state.keys() != keys:
            raise ValueError("the state of the task is of another task")
        length, running = state["length"], state["running"]
        if type(length) is not int or not 1 <= length <= self.length:
            raise ValueError(f"the task's length is not one from 1 to {self.length}")
        if not isinstance(running, float) or not 0 <= running <= 1:
            raise ValueError("the task's running accuracy is not a number from 0 to 1")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        self._length, self._running = state["length"], state["running"]

    def _drawn(self, seed: int) -> Batch:
        if seed not in self._fixed:
            generator = torch.Generator().manual_seed(seed)
            self._fixed[seed] = self._words(self.length, self.test_size, generator)
        return self._fixed[seed]

    def _words(self, length: int, count: int, generator: torch.Generator) -> Batch:
        drawn = torch.randint(len(self.alphabet), (length, count), generator=generator)
        products, product = [], torch.zeros(count, dtype=torch.int64)  # the identity is number 0
        for letter in self.alphabet[drawn]:
            product = self.table[letter, product]
            products.append(product)
        return F.one_hot(drawn, self.input_size).float(), torch.stack(products)


@cache
def group_table(group: str) -> tuple[Tensor, tuple[int, ...]]:
    """The indices of all products a ∘ b, (|G|, |G|), and of generators; the identity is 0.

    Args:
        group: as in :class:`Words`.

    Raises:
        ValueError: an unknown group.
    """
    elements, generators = _permutations(group)
    number = {element: i for i, element in enumerate(elements)}
    table = [[number[_product(a, b)] for b in elements] for a in elements]
    return torch.tensor(table), tuple(number[g] for g in generators)


def _permutations(group: str) -> tuple[list[Permutation], list[Permutation]]:
    """The elements as permutations, the identity first, and generators."""
    kind = "Z2" if group == "parity" else group
    match = re.fullmatch(r"([ZSA])([1-9][0-9]{0,2})", kind)
    family, n = (match[1], int(match[2])) if match else ("", 0)
    if family == "Z" and 2 <= n <= 120:
        powers = [tuple((i + k) % n for i in range(n)) for k in range(n)]
        return powers, powers[:2]
    if family in ("S", "A") and 3 <= n <= 5:
        every = list(permutations(range(n)))
        cycle, swap = (*range(1, n), 0), (1, 0, *range(2, n))
        three = (1, 2, 0, *range(3, n))
        if family == "S":
            return every, [cycle, swap]
        even = [p for p in every if _even(p)]
        # A cycle over all of an odd number, or over all but the first of an even one, is even.
        long = cycle if n % 2 else (0, *range(2, n), 1)
        return even, [three] if n == 3 else [long, three]
    raise ValueError(
        f"group is {group!r}: choose parity, Z and an order from 2 to 120, or S or A and a degree "
        "from 3 to 5, such as S5"
    )


def _product(a: Permutation, b: Permutation) -> Permutation:
    """a ∘ b: b first."""
    return tuple(a[i] for i in b)


def _even(p: Permutation) -> bool:
    inversions = sum(p[i] > p[j] for j in range(len(p)) for i in range(j))
    return inversions % 2 == 0
