"""The truth table of XOR: four points, the smallest task that no linear map solves."""

import torch
from torch import Tensor

from .base import Dataset, SplitName


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
