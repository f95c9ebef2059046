"""Images read pixel by pixel, in order or permuted, and classified at the end."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from svdbench.arguments import check_whole
from svdbench.datasets.base import hold_out
from svdbench.members import DATASETS

from .base import Batch, Task

PERMUTATION_SEED = 92916


class SequentialImages(Task):
    """Sequential MNIST and similar: one pixel per step, row by row, then the class.

    x (H·W/pool², B, 1) is in [0, 1], and y (B,) the class; the loss is the cross-entropy of the
    last output, ln 10 for a guess among ten classes. An epoch consists of all training images that
    are not held out; the test set is the whole test set of the data set.

    Args:
        dataset: a name in ``conf/dataset``. Its files are read on first use.
        pool: each step is the mean of pool × pool pixels; 1: no pooling.
        validation: the fraction of the training images to hold out, in [0, 1); the same images for
            every seed.
        data_dir: where the data sets are; None: ``$SVDBENCH_DATA``, else the user's cache.

    Raises:
        ValueError: an unknown data set; ``pool`` doesn't divide height and width; ``validation``
            out of range.
    """

    name = "smnist"
    at_end = True
    loss_unit = "nats"
    metric = "images classified right"
    source = "Le, Jaitly and Hinton, A Simple Way to Initialize RNNs of ReLUs, 2015"
    input_size = 1
    manner: ClassVar[str] = "Sequential"
    usual_pool: ClassVar[int] = 1

    def __init__(
        self,
        dataset: str = "mnist",
        pool: int | None = None,
        validation: float = 0.0,
        data_dir: str | None = None,
    ) -> None:
        pool = self.usual_pool if pool is None else pool
        self.dataset = DATASETS.load(dataset, data_dir=data_dir)
        check_whole(1, pool=pool)
        if len(self.dataset.shape) != 2:
            raise ValueError(
                f"{self.dataset.name} has no grey images to read pixel by pixel: use "
                "dataset=digits, mnist or fashion-mnist"
            )
        if any(side % pool for side in self.dataset.shape):
            raise ValueError(
                f"pool is {pool}, but images of {self.dataset.name} have "
                f"{'×'.join(map(str, self.dataset.shape))} pixels: give a divisor of both"
            )
        hold_out(0, validation)  # refuses what is no fraction, before any file is read
        self.pool = pool
        self.validation = validation
        self.length = math.prod(self.dataset.shape) // pool**2
        self.output_size = self.dataset.classes
        self.baseline = math.log(self.dataset.classes)
        self.chance = 1 / self.dataset.classes
        pooled = f", pooled {pool}×{pool}" if pool > 1 else ""
        self.title = f"{self.manner} {self.dataset.title}{pooled}"
        self._sets: dict[str, Batch] = {}
        self._order: Tensor | None = None  # of the images in this epoch
        self._position = 0

    def steps(self) -> Tensor | None:
        """The pixel index of each step, (T,), or None for row order."""
        return None

    @property
    def epoch_size(self) -> int:
        self.prepare()
        return len(self._sets["train"][1])

    def prepare(self) -> None:
        if self._sets:
            return
        images, labels = self.dataset.read("train")
        pixels = self._pixels(images)
        kept, held_out = hold_out(len(labels), self.validation)
        train = kept if len(held_out) else slice(None)  # all: no second copy of them
        test_images, test_labels = self.dataset.read("test")
        self._sets = {
            "test": (_in_steps(self._pixels(test_images)), test_labels),
            "validation": (_in_steps(pixels[held_out]), labels[held_out]),
            "train": (pixels[train], labels[train]),  # (N, T): an image is one piece of memory
        }

    def _pixels(self, images: Tensor) -> Tensor:
        """(N, T) from (N, H, W): pooled, and in the order of the steps."""
        if self.pool > 1:
            images = F.avg_pool2d(images.unsqueeze(1), self.pool)
        pixels, steps = images.flatten(1), self.steps()
        return pixels if steps is None else pixels[:, steps]

    def batch(self, batch_size: int, generator: torch.Generator) -> Batch:
        self.prepare()
        pixels, labels = self._sets["train"]
        if self._order is None or self._position >= len(labels):
            self._order = torch.randperm(len(labels), generator=generator)
            self._position = 0
        chosen = self._order[self._position : self._position + batch_size]
        self._position += len(chosen)
        return _in_steps(pixels[chosen]), labels[chosen]

    def test_set(self) -> Batch:
        self.prepare()
        return self._sets["test"]

    def validation_set(self) -> Batch:
        self.prepare()
        x, y = self._sets["validation"]
        if not len(y):
            raise ValueError("no images are held out: set validation to a fraction, such as 0.1")
        return x, y

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y)

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        return {"accuracy": (outputs.argmax(-1) == y).float().mean().item()}

    def state_dict(self) -> dict[str, Any]:
        """``order``, the images (N,) of this epoch or None before the first, and ``position``."""
        return {"order": self._order, "position": self._position}

    def check_state(self, state: Any) -> None:
        if not (isinstance(state, dict) and self._is_state(**state)):
            raise ValueError(
                f"the state is not of {self.title} with {self.epoch_size:,} training images: "
                "resume with the dataset and validation that it was saved with"
            )

    def _is_state(self, order: Any = None, position: Any = None, **others: Any) -> bool:
        size = self.epoch_size
        if others or type(position) is not int or not 0 <= position <= size:
            return False
        if order is None:
            return position == 0
        plain = type(order) is Tensor and order.dtype == torch.int64 and order.shape == (size,)
        return plain and bool(order.cpu().sort().values.equal(torch.arange(size)))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.check_state(state)
        order = state["order"]
        self._order = None if order is None else order.cpu()
        self._position = state["position"]


class PermutedImages(SequentialImages):
    """Permuted MNIST and similar: like :class:`SequentialImages`, in one fixed random order.

    Step t shows pixel ``RandomState(92916).permutation(T)[t]``, by NumPy's legacy
    generator, whose stream never changes. At 784 steps this is the permutation in the code of
    scoRNN (Helfrich, Willmott and Ye, 2018) and expRNN (Lezcano and Martínez-Rubio, 2019), and so
    that of their published figures. Pooling comes first.
    """

    name = "pmnist"
    manner = "Permuted"

    def steps(self) -> Tensor:
        order = np.random.RandomState(PERMUTATION_SEED).permutation(self.length)
        return torch.from_numpy(order)


class PooledPermutedImages(PermutedImages):
    """Permuted MNIST pooled 2 × 2, in 196 steps: :class:`PermutedImages` for short runs."""

    name = "pmnist_pooled"
    usual_pool = 2


def _in_steps(pixels: Tensor) -> Tensor:
    """(T, B, 1) from (B, T)."""
    return pixels.T.contiguous().unsqueeze(-1)
