"""The interface of a data set of labelled examples, and reading its splits.

To add one, define a subclass of :class:`Dataset` (of :class:`~svdbench.datasets.files.FileDataset`
if it has files) in a file here and add a YAML of the same name to ``conf/dataset``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from svdbench.members import DATASETS, refuse_unknown

if TYPE_CHECKING:  # names, and where the data is, must not wait for torch
    from torch import Tensor


SplitName = Literal["train", "test"]
SPLITS = ("train", "test")


class DatasetError(ValueError):
    """The files of a data set are missing or damaged. The message is one line: cause, then remedy.

    Example:
        >>> def read(path):
        ...     if not path.is_file():
        ...         raise DatasetError(f"{path} is missing: download it from example.org")
    """


class Dataset(ABC):
    """Labelled examples in a fixed training and test split.

    Define ``read``, which returns the examples (N, *shape) of a split and their labels (N,).

    Args:
        data_dir: the folder with a subfolder per data set; by default that of the environment
            variable ``SVDBENCH_DATA``, else one in the user's cache. Not used by data sets without
            files.

    Class attributes:
        name: in lower case, with hyphens; also the folder of its files.
        title: name in reports.
        what: the examples, in a few words.
        shape: shape of an example: (H, W) for a grey image, (H, W, 3) for RGB, else (d,).
        examples: number of training examples and of test examples.
        classes: number of classes, with labels 0 … classes − 1.
        licence: short name of the licence of the data.
        source: the authors, and where the data were published.
        comes_with: the package that contains it, if it has no files.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import Dataset

            class Wine(Dataset):
                name, title, what = "wine", "Wine", "chemical analyses of Italian wines"
                shape, examples, classes = (13,), (120, 58), 3
                licence, source = "CC BY 4.0", "Aeberhard and Forina 1991, doi:10.24432/C5PC7J"
                comes_with = "scikit-learn"

                def read(self, split):
                    from sklearn.datasets import load_wine
                    X, y = map(torch.from_numpy, load_wine(return_X_y=True))
                    X = ((X - X.amin(0)) / (X.amax(0) - X.amin(0))).float()
                    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
                    rows = order[:120] if split == "train" else order[120:]
                    return X[rows], y[rows].long()
    """

    name: ClassVar[str]
    title: ClassVar[str]
    what: ClassVar[str]
    shape: ClassVar[tuple[int, ...]]
    examples: ClassVar[tuple[int, int]]
    classes: ClassVar[int] = 10
    licence: ClassVar[str]
    source: ClassVar[str]
    comes_with: ClassVar[str] = ""

    def __init__(self, data_dir: str | None = None) -> None:
        self.data_dir = data_dir

    @abstractmethod
    def read(self, split: SplitName) -> tuple[Tensor, Tensor]:
        """The examples (N, *shape), float32 in [0, 1], and their labels (N,), int64.

        Raises:
            DatasetError: a file of the data set, of either split, is missing, or one of
                this split is not the published one.
        """


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
        name: name of a YAML in ``conf/dataset``, such as ``"digits"``, which needs no files.
        split: ``"train"`` or ``"test"``.
        data_dir: the folder with a subfolder per data set; by default that of the environment
            variable ``SVDBENCH_DATA``, else one in the user's cache.

    Returns:
        Examples (N, *shape), float32 in [0, 1], as images (N, H, W), and labels (N,), int64.

    Raises:
        ValueError: an unknown data set or split.
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
    """One split of a data set, whole and in memory; every call reads the files again.

    Args:
        name: name of a YAML in ``conf/dataset``, such as ``"digits"``, which needs no files.
        split: ``"train"``, ``"test"``, both as published, or ``"validation"``.
        validation: the fraction of the training examples to hold out, in [0, 1), always the same
            ones. They are in ``"validation"``, and not in ``"train"``.
        data_dir: the folder with a subfolder per data set; by default that of the environment
            variable ``SVDBENCH_DATA``, else one in the user's cache.
        options: further options of the YAML.

    Raises:
        ValueError: an unknown data set, split or option; or nothing is held out.
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

    They are always the same, from NumPy's legacy generator, whose stream never changes.

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
