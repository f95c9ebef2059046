"""scikit-learn's digits: 1,797 real images of 8×8 that need no download."""

import numpy as np
import torch
from torch import Tensor

from .base import Dataset, SplitName

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
