"""Data sets: what they hold, and what is said when their files are missing or damaged."""

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from svdbench import datasets
from svdbench.datasets.base import DatasetError
from svdbench.datasets.idx import IdxDataset, Published, parse_idx
from svdbench.datasets.registry import GROUP, load_dataset

REMEDY = "dataset=digits"


def idx(values: np.ndarray) -> bytes:
    magic = {1: 2049, 3: 2051}[values.ndim]
    return struct.pack(f">{1 + values.ndim}i", magic, *values.shape) + values.tobytes()


def published(data: bytes) -> Published:
    return Published(len(data), hashlib.sha256(data).hexdigest())


class Tiny(IdxDataset):
    """A data set of its own files, in the manner of MNIST."""

    name = "tiny-images"
    title = "tiny"
    shape = (3, 2)
    source = "made here"
    files: ClassVar[dict[str, Published]] = {}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Tiny's four files, 6 images to train and 4 to test."""
    folder = tmp_path / "tiny-images"
    folder.mkdir()
    files = {}
    for part, n in (("train", 6), ("t10k", 4)):
        images = np.arange(n * 6, dtype=np.uint8).reshape(n, 3, 2)
        for name, values in (
            (f"{part}-images-idx3-ubyte", images),
            (f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8)),
        ):
            packed = gzip.compress(idx(values), mtime=0)
            files |= {f"{name}.gz": published(packed), name: published(idx(values))}
            (folder / f"{name}.gz").write_bytes(packed)
    monkeypatch.setattr(Tiny, "files", files)
    monkeypatch.delenv("SVDBENCH_DATA", raising=False)
    return tmp_path


def refused(root: Path | None, split: str = "train") -> str:
    """The message, one line, that names the remedy."""
    with pytest.raises(DatasetError) as caught:
        Tiny(None if root is None else str(root)).read(split)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert REMEDY in message
    assert "download" not in message  # there is none
    return message


def test_files_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = Tiny(str(root)).read("test")
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(images, torch.arange(24.0).view(4, 3, 2) / 255)
    assert labels.tolist() == [0, 1, 2, 3]
    assert len(Tiny(str(root)).read("train")[1]) == 6
    monkeypatch.setenv("SVDBENCH_DATA", str(root))
    assert torch.equal(Tiny().read("test")[0], images)


def test_unpacked_files_are_read_too(root: Path) -> None:
    before = Tiny(str(root)).read("train")
    for path in (root / "tiny-images").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    after = Tiny(str(root)).read("train")
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_no_folder_is_known(root: Path) -> None:
    message = refused(None)
    assert "SVDBENCH_DATA" in message
    assert "train-images-idx3-ubyte.gz" in message


def test_missing_files_are_named(root: Path) -> None:
    folder = root / "tiny-images"
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    message = refused(root)  # of the other split: better now than after the training
    assert "t10k-labels-idx1-ubyte.gz" in message
    assert "train-images" not in message
    assert str(folder) in message
    assert "train-images" in refused(root / "elsewhere")


def test_a_truncated_file_is_named(root: Path) -> None:
    path = root / "tiny-images" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    message = refused(root)
    assert str(path) in message
    assert "cut short" in message


def test_a_damaged_file_is_named(root: Path) -> None:
    path = root / "tiny-images" / "train-labels-idx1-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    message = refused(root)
    assert str(path) in message
    assert "SHA-256" in message
    Tiny(str(root)).read("test")  # which is as it was


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "starts with 0"),
        (b"\x00\x00\x0d\x03" + bytes(12), "2051"),  # of floats
        (idx(np.zeros((2, 3, 2), np.uint8))[:-1], "11 values"),
        (idx(np.zeros(4, np.uint8)) + b"\x00", "5 values"),
        (idx(np.zeros((2, 3, 2), np.uint8))[:10], "0 values"),
    ],
    ids=["empty", "magic", "short", "long", "header"],
)
def test_what_is_not_idx_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        parse_idx(data)
    name = "train-images-idx3-ubyte"
    (root / "tiny-images" / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
    sums = {f"{name}.gz": published(gzip.compress(data, mtime=0))}
    monkeypatch.setattr(Tiny, "files", Tiny.files | sums)
    assert says in refused(root)


def test_names_and_splits() -> None:
    assert GROUP.names() == ["digits", "fashion_mnist", "mnist"]
    assert load_dataset("fashion-mnist").name == load_dataset("fashion_mnist").name
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        datasets.load("minst", "train")
    with pytest.raises(ValueError, match="did you mean 'test'"):
        datasets.load("digits", "tests")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", GROUP.names())
def test_each_says_what_it_is(name: str) -> None:
    dataset = load_dataset(name)
    assert dataset.name.replace("-", "_") == name
    assert dataset.title
    assert dataset.source
    if isinstance(dataset, IdxDataset):
        packed = {file for file in dataset.files if file.endswith(".gz")}
        assert len(packed) == 4
        assert {file.removesuffix(".gz") for file in packed} == set(dataset.files) - packed
        assert all(len(file.sha256) == 64 for file in dataset.files.values())


def test_listing_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from svdbench.datasets.registry import GROUP as D; "
        "from svdbench.tasks.registry import GROUP as T; D.names(), T.names(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits() -> None:
    images, labels = datasets.load("digits", "train")
    test_images, test_labels = datasets.load("digits", "test")
    assert images.shape == (1442, 8, 8)
    assert test_images.shape == (355, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.min() == 0
    assert images.max() == 1
    # The same share of each digit, and no image in both splits.
    share = test_labels.bincount() / (test_labels.bincount() + labels.bincount())
    assert (share - 0.2).abs().max() < 0.01
    every = torch.cat([images, test_images]).flatten(1)
    assert len(every.unique(dim=0)) == len(every) == 1797
    assert torch.equal(datasets.load("digits", "train", data_dir="none/needed")[0], images)


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)]
)
def test_the_published_files(name: str, mean: float, std: float) -> None:
    root = os.environ.get("SVDBENCH_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"SVDBENCH_DATA is unset or has no {name}/")
    images, labels = datasets.load(name, "train")
    assert images.shape == (60_000, 28, 28)
    assert images.mean().item() == pytest.approx(mean, abs=1e-4)
    assert images.std().item() == pytest.approx(std, abs=1e-4)
    test_images, test_labels = datasets.load(name, "test")
    assert test_images.shape == (10_000, 28, 28)
    if name == "mnist":
        assert labels[:5].tolist() == [5, 0, 4, 1, 9]
        assert test_labels.bincount()[:3].tolist() == [980, 1135, 1032]
    else:
        assert labels.bincount().tolist() == [6000] * 10
