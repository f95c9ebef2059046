"""Data sets in the IDX format of MNIST: found, checked by SHA-256, read."""

import gzip
import hashlib
import math
import os
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .base import Dataset, DatasetError, Split

LABELS, IMAGES = 2049, 2051
INSTEAD = "or take dataset=digits, which needs no files"
PARTS = {"train": "train", "test": "t10k"}


class Published(NamedTuple):
    """A file as its authors published it."""

    n_bytes: int
    sha256: str


class IdxDataset(Dataset):
    """Four files, looked for in ``<data_dir>/<name>/`` or ``$SVDBENCH_DATA/<name>/``.

    Class attributes:
        files: what was published, by file name. ``….gz`` and the same unpacked are
            alternatives; the packed one is taken where both are there.
    """

    files: ClassVar[dict[str, Published]]

    def read(self, split: Split) -> tuple[Tensor, Tensor]:
        paths = self._find()
        images = self._values(paths[f"{PARTS[split]}-images-idx3-ubyte"])
        labels = self._values(paths[f"{PARTS[split]}-labels-idx1-ubyte"])
        pixels = torch.from_numpy(images.astype(np.float32)).div_(255)
        return pixels, torch.from_numpy(labels.astype(np.int64))

    def _find(self) -> dict[str, Path]:
        """The four files by name without ``.gz``; all are named if any is missing."""
        needed = sorted({name.removesuffix(".gz") for name in self.files})
        listed = ", ".join(f"{name}.gz" for name in needed)
        root = self.data_dir or os.environ.get("SVDBENCH_DATA")
        if not root:
            raise DatasetError(
                f"{self.name} needs files and neither SVDBENCH_DATA nor data_dir is set: set one "
                f"to a folder with {listed} in its subfolder {self.name}, {INSTEAD}"
            )
        folder = Path(root).expanduser() / self.name
        paths = {}
        for name in needed:
            known = [folder / n for n in (f"{name}.gz", name) if n in self.files]
            there = [path for path in known if path.is_file()]
            if there:
                paths[name] = there[0]
        missing = ", ".join(f"{name}.gz" for name in needed if name not in paths)
        if missing:
            raise DatasetError(
                f"{self.name} lacks {missing} in {folder}: put the published files there, or set "
                f"SVDBENCH_DATA or data_dir to the folder that has {self.name}/, {INSTEAD}"
            )
        return paths

    def _values(self, path: Path) -> np.ndarray:
        """What the file holds, once it is known to be the published one."""
        try:
            data = path.read_bytes()
            fault = _fault(data, self.files[path.name])
            if fault is None:
                return parse_idx(gzip.decompress(data) if path.suffix == ".gz" else data)
        except (OSError, ValueError) as error:
            fault = str(error)
        raise DatasetError(f"cannot use {path}: {fault}; replace it by the original, {INSTEAD}")


def _fault(data: bytes, published: Published) -> str | None:
    """How ``data`` differs from what was published, or None if it does not."""
    if len(data) < published.n_bytes:
        return f"it is cut short, {len(data):,} of {published.n_bytes:,} bytes"
    found = hashlib.sha256(data).hexdigest()
    if found != published.sha256:
        return f"it is not the published file, its SHA-256 is {found[:12]}…"
    return None


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
    values = np.frombuffer(data[head:], np.uint8)
    if len(data) < head or values.size != math.prod(shape):
        raise ValueError(f"it holds {values.size} values, and its header says {shape}")
    return values.reshape(shape)
