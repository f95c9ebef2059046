"""Data sets in the IDX format of MNIST, read from checked files."""

import math

import numpy as np
import torch
from torch import Tensor

from .base import SplitName
from .files import FileDataset

LABELS, IMAGES = 2049, 2051
PARTS = {"train": "train", "test": "t10k"}


class IdxDataset(FileDataset):
    """Four files: images and labels, to train on and to test."""

    def read(self, split: SplitName) -> tuple[Tensor, Tensor]:
        images = self._values(f"{PARTS[split]}-images-idx3-ubyte.gz")
        labels = self._values(f"{PARTS[split]}-labels-idx1-ubyte.gz")
        pixels = torch.from_numpy(images.astype(np.float32)).div_(255)
        return pixels, torch.from_numpy(labels.astype(np.int64))

    def _values(self, name: str) -> np.ndarray:
        data = self.contents(name)
        try:
            return parse_idx(data)
        except ValueError as error:
            raise self.unusable(name, str(error)) from error


def parse_idx(data: bytes) -> np.ndarray:
    """The array in an IDX file of labels (N,) or images (N, H, W), uint8, read-only.

    Big-endian: a magic number, 2049 for labels and 2051 for images, one 4-byte size
    per dimension, then a byte per value.

    Raises:
        ValueError: another magic number, or more or fewer values than the sizes say.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    magic = int.from_bytes(data[:4], "big")
    if magic not in (LABELS, IMAGES):
        raise ValueError(f"it starts with {magic}, not with {LABELS} (labels) or {IMAGES} (images)")
    head = 4 + 4 * (magic & 0xFF)  # the last byte counts the dimensions
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, head, 4)]
    if len(data) < head or len(data) - head != math.prod(shape):
        values = max(len(data) - head, 0)
        raise ValueError(f"it holds {values} values, and its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
