"""Reading a data set: a split in its own shape, or as a table for a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from svdbench.members import DATASETS, refuse_unknown

from .base import SPLITS

if TYPE_CHECKING:  # listing the names must not wait for torch
    from torch import Tensor

    from .base import SplitName

HELD_OUT_SEED = 15_485_863


class Split(NamedTuple):
    """One split of a data set.

    Attributes:
        X: the examples (N, d), flattened, float32 in [0, 1].
        y: their labels (N,), int64, 0 … classes − 1.
        classes: 2 or more.
    """

    X: Tensor
    y: Tensor
    classes: int


def load(name: str, split: SplitName, data_dir: str | None = None) -> tuple[Tensor, Tensor]:
    """Examples in their own shape and labels of one split, from files checked by SHA-256.

    Args:
        name: of a YAML in ``conf/dataset``, as ``"digits"``, which needs no files.
        split: ``"train"`` or ``"test"``.
        data_dir: the folder that has a folder per data set; by default that of the
            environment variable ``SVDBENCH_DATA``, else one in the user's cache.

    Returns:
        Examples (N, *shape), float32 in [0, 1], as images (N, H, W), and labels (N,), int64.

    Raises:
        ValueError: there is no such data set or split.
        svdbench.datasets.base.DatasetError: files are missing or damaged.

    Example:
        >>> images, labels = load("digits", "test")
        >>> images.shape[1:]
        torch.Size([8, 8])
    """
    refuse_unknown("split", [split], SPLITS)
    return DATASETS.load(name, data_dir=data_dir).read(split)


def classification(
    name: str, split: str, *, validation: float = 0.0, data_dir: str | None = None, **options: Any
) -> Split:
    """One split of a data set, whole and in memory; every call reads the files anew.

    Args:
        name: of a YAML in ``conf/dataset``, as ``"digits"``, which needs no files.
        split: ``"train"``, ``"test"``, both as published, or ``"validation"``.
        validation: the part of the training examples to hold out, in [0, 1): the same
            ones always. They are in ``"validation"``, and not in ``"train"``.
        data_dir: the folder that has a folder per data set; by default that of the
            environment variable ``SVDBENCH_DATA``, else one in the user's cache.
        options: others that the YAML has.

    Raises:
        ValueError: there is no such data set, split or option; nothing is held out.
        svdbench.datasets.base.DatasetError: files are missing or damaged.

    Example:
        >>> X, y, classes = classification("digits", "train", validation=0.1)
        >>> X.shape, classes
        (torch.Size([1298, 64]), 10)
    """
    refuse_unknown("split", [split], (*SPLITS, "validation"))
    dataset = DATASETS.load(name, data_dir=data_dir, **options)
    if split == "test":
        X, y = dataset.read("test")
        return Split(X.flatten(1), y, dataset.classes)
    X, y = dataset.read("train")
    kept, held = hold_out(len(y), validation)
    if split == "validation" and not len(held):
        raise ValueError(
            f"no examples of {name} are held out: set validation to a fraction, such as 0.1"
        )
    if len(held):  # else no second copy of them
        chosen = held if split == "validation" else kept
        X, y = X[chosen], y[chosen]
    return Split(X.flatten(1), y, dataset.classes)


def hold_out(n: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Indices of n training examples: those kept, in order, and those held out, in random order.

    The same ones always, by NumPy's legacy generator, whose stream never changes.

    Raises:
        ValueError: the fraction is not in [0, 1).
    """
    import numpy as np
    import torch

    if not 0 <= fraction < 1:
        raise ValueError(f"validation is {fraction}: give a fraction of at least 0 and below 1")
    order = torch.from_numpy(np.random.RandomState(HELD_OUT_SEED).permutation(n))
    count = round(fraction * n)
    return order[count:].sort().values, order[:count]
