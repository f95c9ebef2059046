"""The interface of a sequence task, and tasks that draw their examples at random.

To add a task, define a subclass of :class:`Task` with a ``name`` in any file of this folder and add
a YAML of that name to ``conf/task``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from svdbench.arguments import check_whole

Batch = tuple[Tensor, Tensor]


class Task(ABC):
    """Sequences x (T, B, input_size), float32, with their targets y.

    Define ``batch``, ``test_set``, ``validation_set``, ``loss`` and ``metrics``; a task that draws
    its examples derives from :class:`GeneratedTask`, which makes both sets from ``batch``.

    Samples are drawn on the CPU with a CPU generator, so that they are the same on every device.
    ``loss`` and ``metrics`` are means over the B sequences, so parts of a batch are weighted by
    their size.

    Class attributes:
        name: as in ``conf/task``.
        at_end: whether only the last output counts. If so, outputs are (B, output_size) and the
            batch is the first dimension of y; otherwise outputs are (T, B, output_size) and it is
            the second.
        loss_unit: unit of ``loss`` and ``baseline``.
        metric: what ``accuracy`` counts, in words.
        source: where the task comes from.

    Attributes:
        title: the task and its size, for reports.
        input_size, output_size: sizes of the input and the output of a step.
        length: number of steps T.
        baseline: the loss of the best answer without memory.
        chance: the accuracy of that answer.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import GeneratedTask

            class Parity(GeneratedTask):
                name, at_end = "parity", True
                loss_unit, metric, source = "nats", "sequences", "Minsky and Papert 1969"
                input_size, output_size, baseline, chance = 1, 2, 0.693, 0.5

                def __init__(self, length=8, test_size=200):
                    super().__init__(test_size)
                    self.length, self.title = length, f"parity of {length} bits"

                def batch(self, batch_size, generator):
                    x = torch.randint(2, (self.length, batch_size, 1), generator=generator)
                    return x.float(), x.sum(0).squeeze(-1) % 2

                def loss(self, outputs, y):
                    return torch.nn.functional.cross_entropy(outputs, y)

                def metrics(self, outputs, y):
                    return {"accuracy": (outputs.argmax(-1) == y).float().mean().item()}
    """

    name: ClassVar[str]
    at_end: ClassVar[bool]
    loss_unit: ClassVar[str]
    metric: ClassVar[str]
    source: ClassVar[str]

    title: str
    input_size: int
    output_size: int
    length: int
    baseline: float
    chance: float

    @property
    def epoch_size(self) -> int | None:
        """Number of sequences in an epoch; None if they are drawn on demand."""
        return None

    @property
    def training_length(self) -> int:
        """Number of steps of the next minibatch: below ``length`` early in a curriculum."""
        return self.length

    def prepare(self) -> None:
        """Read and check the files of the task, if it has any.

        Raises:
            svdbench.datasets.base.DatasetError: a file is missing or damaged.
        """
        return None

    @abstractmethod
    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        """The next minibatch of training sequences, and their answers.

        Depends on the generator alone: the same state of generator and task gives the same
        minibatch. A task with epochs returns each of its sequences once per epoch, in an order
        drawn from the generator at the start of the epoch; the last minibatch of an epoch may be
        smaller than ``batch_size``. In a curriculum, minibatches of short sequences may be larger.
        """

    @abstractmethod
    def test_set(self) -> Batch:
        """The test sequences and their answers: always the same, made once."""

    @abstractmethod
    def validation_set(self) -> Batch:
        """The same for sequences used neither for training nor for testing.

        Raises:
            ValueError: none are held out.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The scalar to minimise."""

    @abstractmethod
    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        """``accuracy``, a fraction."""

    def longer(self, factor: int) -> "Task":
        """The same task on sequences ``factor`` times as long, for testing.

        Raises:
            ValueError: sequences have one length only.
        """
        raise ValueError(f"sequences of {self.name} have one length only: leave extrapolate out")

    def training_score(self, outputs: Tensor, y: Tensor) -> float | None:
        """The score of a minibatch's outputs that controls a curriculum; None without a curriculum.

        The mean over the sequences; :meth:`adapt` is called with it after the step.
        """
        return None

    def adapt(self, score: float) -> None:
        """Change the following minibatches, in a curriculum."""
        return None

    def split(self, x: Tensor, y: Tensor, size: int) -> Iterator[Batch]:
        """x and y in parts of ``size`` sequences, for sets too large to run at once."""
        return zip(x.split(size, 1), y.split(size, 0 if self.at_end else 1), strict=True)

    def state_dict(self) -> dict[str, Any]:
        """The position in the epoch; empty for a task without epochs."""
        return {}

    def check_state(self, state: Any) -> None:
        """Raise ValueError for a state that does not fit :meth:`load_state_dict`.

        Raises:
            ValueError: it was not taken from this task.
        """
        if state != {}:
            raise ValueError(f"{self.name} has no epochs, but the state is of a task that has")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`.

        Raises:
            ValueError: it was not taken from this task.
        """
        self.check_state(state)


# Far from the small numbers that training is seeded with.
TEST_SEED, VALIDATION_SEED = 7_368_787, 15_485_863


class GeneratedTask(Task):
    """A task without epochs: ``batch`` draws examples; the fixed sets have seeds of their own.

    Args:
        test_size: number of sequences in the test set, and in the validation set.

    Example:
        >>> class Ones(GeneratedTask):
        ...     loss = staticmethod(lambda outputs, y: torch.nn.functional.mse_loss(outputs, y))
        ...     metrics = staticmethod(lambda outputs, y: {})
        ...     def batch(self, batch_size, generator):
        ...         return torch.ones(5, batch_size, 1), torch.ones(batch_size, 1)
        >>> Ones(test_size=7).test_set()[0].shape
        torch.Size([5, 7, 1])
    """

    def __init__(self, test_size: int) -> None:
        check_whole(1, test_size=test_size)
        self.test_size = test_size
        self._fixed: dict[int, Batch] = {}

    def test_set(self) -> Batch:
        return self._drawn(TEST_SEED)

    def validation_set(self) -> Batch:
        return self._drawn(VALIDATION_SEED)

    def _drawn(self, seed: int) -> Batch:
        if seed not in self._fixed:
            generator = torch.Generator().manual_seed(seed)
            self._fixed[seed] = self.batch(self.test_size, generator)
        return self._fixed[seed]
