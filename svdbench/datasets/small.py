"""Small data sets: digits and XOR, which need no files, and cats."""

import io
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import Dataset, DatasetError, SplitName
from .files import FileDataset, PublishedFile

WHITE = 16  # pixels count the dots in squares of 4×4
EVERY = 5


class Digits(Dataset):
    """Handwritten digits of 8×8 pixels, bundled with scikit-learn.

    The test split is every fifth image of each digit, in the order of the file: 355 of
    1,797, the same everywhere, with the digits in the same proportions as in training.
    The same people wrote both splits.
    """

    name = "digits"
    title = "digits 8×8"
    what = "handwritten digits"
    shape = (8, 8)
    examples = (1442, 355)
    licence = "CC BY 4.0"
    comes_with = "scikit-learn"
    source = "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998"

    def read(self, split: SplitName) -> tuple[Tensor, Tensor]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        labels = digits.target.astype(np.int64)
        rank = np.empty_like(labels)  # of an image among those of its digit
        for digit in range(self.classes):
            own = labels == digit
            rank[own] = np.arange(own.sum())
        chosen = (rank % EVERY == EVERY - 1) == (split == "test")
        images = (digits.images[chosen] / WHITE).astype(np.float32)
        return torch.from_numpy(images), torch.from_numpy(labels[chosen])


class XOR(Dataset):
    """x₁ ⊕ x₂ for the four pairs of bits.

    Both splits are all four points, as published: what is asked is how well, and how
    fast, they are learnt by heart.
    """

    name = "xor"
    title = "XOR"
    what = "a truth table"
    shape = (2,)
    examples = (4, 4)
    classes = 2
    licence = "none needed"
    source = "Minsky and Papert, Perceptrons, 1969; 2-20-20-1 in the SVD-DNN report, §4.1"
    comes_with = "svdbench"

    def read(self, split: SplitName) -> tuple[Tensor, Tensor]:
        X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        return X, torch.tensor([0, 1, 1, 0])


REPEATED = 17  # of the test images: the same, pixel for pixel, as training image 146


class Cats(FileDataset):
    """Photographs of 64×64 pixels in RGB: 1 a cat, 0 none.

    Of the training images 72 are cats, of the test images 33 of 50. One of these is a
    training image too. Licence: none known, so the files are neither here nor
    downloaded. Reading them takes h5py: ``pip install svdbench[cats]``.

    Args:
        leave_out_repeated: test on the other 49 images only.
    """

    name = "cats"
    title = "Cats"
    what = "photographs, cat or not"
    shape = (64, 64, 3)
    examples = (209, 50)
    classes = 2
    licence = "unknown"
    source = "Ng and others, Neural Networks and Deep Learning, a course of DeepLearning.AI, 2017"
    files: ClassVar[dict[str, PublishedFile]] = {
        "train_catvnoncat.h5": PublishedFile(
            2572022, "fbe56ab67c3ae28d564e3a644189117976d6b31af0a3ce9bb17dbf22908af242"
        ),
        "test_catvnoncat.h5": PublishedFile(
            616958, "6a9d39ce52fa85953c5834695b8534a30ed8cfd54971fb2f080b5a24d002b951"
        ),
    }

    def __init__(self, data_dir: str | None = None, leave_out_repeated: bool = False) -> None:
        super().__init__(data_dir)
        self.leave_out_repeated = leave_out_repeated

    def read(self, split: SplitName) -> tuple[Tensor, Tensor]:
        data = self.contents(f"{split}_catvnoncat.h5")
        try:
            import h5py
        except ImportError as error:
            raise DatasetError(
                "reading cats needs h5py: pip install 'svdbench[cats]', or use dataset=digits"
            ) from error
        with h5py.File(io.BytesIO(data)) as file:
            images, labels = file[f"{split}_set_x"][:], file[f"{split}_set_y"][:]
        if split == "test" and self.leave_out_repeated:
            images, labels = np.delete(images, REPEATED, 0), np.delete(labels, REPEATED)
        pixels = torch.from_numpy(images.astype(np.float32)).div_(255)
        return pixels, torch.from_numpy(labels.astype(np.int64))
