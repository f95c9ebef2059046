"""MNIST and Fashion-MNIST, in the IDX format."""

import math
from itertools import starmap
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import SplitName
from .files import FileDataset, PublishedFile

LABELS, IMAGES = 2049, 2051
PARTS = {"train": "train", "test": "t10k"}
KINDS = ("images-idx3", "labels-idx1")


def idx_files(*published: tuple[int, str]) -> dict[str, PublishedFile]:
    """The files by name, given size and SHA-256 of the four that are packed, then unpacked."""
    names = [f"{part}-{what}-ubyte" for part in PARTS.values() for what in KINDS]
    every = [f"{name}.gz" for name in names] + names
    return dict(zip(every, starmap(PublishedFile, published), strict=True))


class IdxDataset(FileDataset):
    """Four files: images of 28×28 pixels and labels, 60,000 to train on and 10,000 to test."""

    shape = (28, 28)
    examples = (60_000, 10_000)

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
        raise ValueError(f"it holds {values} values, but its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


class MNIST(IdxDataset):
    """Handwritten digits, 60,000 to train on and 10,000 to test, of 28×28 pixels.

    Licence, by the stricter of two second-hand accounts: CC BY-SA 3.0.
    """

    name = "mnist"
    title = "MNIST"
    what = "handwritten digits"
    licence = "CC BY-SA 3.0"
    source = "LeCun, Bottou, Bengio and Haffner, Gradient-based learning, Proc. IEEE, 1998"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    files: ClassVar[dict[str, PublishedFile]] = idx_files(
        (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        (47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        (60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        (7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        (10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    )


class FashionMNIST(IdxDataset):
    """Articles of clothing, 60,000 to train on and 10,000 to test, of 28×28 pixels.

    Licence: MIT, © 2017 Zalando SE.
    """

    name = "fashion-mnist"
    title = "Fashion-MNIST"
    what = "articles of clothing"
    licence = "MIT"
    source = "Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017"
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )
    files: ClassVar[dict[str, PublishedFile]] = idx_files(
        (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    )
