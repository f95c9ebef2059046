"""Finding the data sets: every YAML in ``conf/dataset`` is one, named like its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svdbench.registry import Group, plain, refuse_unknown

if TYPE_CHECKING:  # listing the names must not wait for torch
    from torch import Tensor

    from .base import Dataset, SplitName

GROUP = Group("dataset", "data set", "svdbench.datasets.base.Dataset")


def load_dataset(name: str, **overrides: Any) -> Dataset:
    """The data set ``name``, with hyphens or underscores; reads no file yet.

    Raises:
        ValueError: there is no such data set or option.
    """
    dataset: Dataset = GROUP.load(plain(name), **overrides)
    return dataset


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
    from .base import SPLITS

    refuse_unknown("split", [split], SPLITS)
    return load_dataset(name, data_dir=data_dir).read(split)
