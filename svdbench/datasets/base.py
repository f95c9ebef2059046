"""The interface of a data set of labelled examples.

Adding one is a file here with a subclass of :class:`Dataset` (of
:class:`~svdbench.datasets.files.FileDataset` where it has files) and a YAML of the same
name in ``conf/dataset``; nothing else is edited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:  # saying where the data is must not wait for torch
    from torch import Tensor

SplitName = Literal["train", "test"]
SPLITS = ("train", "test")


class DatasetError(ValueError):
    """The files of a data set are missing or damaged. One line: the cause, then the remedy.

    Example:
        >>> def read(path):
        ...     if not path.is_file():
        ...         raise DatasetError(f"{path} is missing: download it from example.org")
    """


class Dataset(ABC):
    """Examples with labels, in a training and a test split that never change.

    Define ``read``, which returns the examples (N, *shape) of a split and their labels (N,).

    Args:
        data_dir: the folder that has a folder per data set, by default that of the
            environment variable ``SVDBENCH_DATA``, else one in the user's cache; not
            used by those that have no files.

    Class attributes:
        name: in lower case, with hyphens; also the folder of its files.
        title: as reports write it.
        what: its examples, in a few words.
        shape: of an example: (H, W) of a grey image, (H, W, 3) of one in RGB, (d,) else.
        examples: how many there are to train on and to test.
        classes: how many labels there are, 0 … classes − 1.
        licence: of the data, by its usual short name.
        source: who made it, and where it was published.
        comes_with: whence it comes if it has no files.

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
