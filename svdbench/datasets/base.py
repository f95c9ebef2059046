"""What a data set of labelled images has to say of itself.

Adding one is a file here with a subclass of :class:`Dataset` and a YAML of the
same name in ``conf/dataset``; nothing else is edited.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

Split = Literal["train", "test"]
SPLITS = ("train", "test")


class DatasetError(ValueError):
    """The files of a data set are missing or damaged. One line: the cause, then the remedy."""


class Dataset(ABC):
    """Grey images with labels, in a training and a test split that never change.

    Args:
        data_dir: the folder that has a folder per data set, by default that of the
            environment variable ``SVDBENCH_DATA``; not used by those that come with
            a package.

    Class attributes:
        name: in lower case, with hyphens; also the folder of its files.
        title: as reports write it.
        shape: (H, W) of an image.
        classes: how many labels there are, 0 … classes − 1.
        source: who made it, and where it was published.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    shape: ClassVar[tuple[int, int]]
    classes: ClassVar[int] = 10
    source: ClassVar[str]

    def __init__(self, data_dir: str | None = None) -> None:
        self.data_dir = data_dir

    @abstractmethod
    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        """The images (N, H, W), float32 in [0, 1], and their labels (N,), int64.

        Raises:
            DatasetError: a file of the data set, of either split, is missing, or one of
                this split is not the published one.
        """
