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
from svdbench.datasets.files import FileDataset, PublishedFile, data_root
from svdbench.datasets.mnist import IdxDataset, parse_idx
from svdbench.datasets.small import Cats
from svdbench.members import DATASETS
from svdbench.tasks.images import SequentialImages

REMEDY = "dataset=digits"


def idx(values: np.ndarray) -> bytes:
    magic = {1: 2049, 3: 2051}[values.ndim]
    return struct.pack(f">{1 + values.ndim}i", magic, *values.shape) + values.tobytes()


def published(data: bytes) -> PublishedFile:
    return PublishedFile(len(data), hashlib.sha256(data).hexdigest())


class Tiny(IdxDataset):
    """A data set of its own files, in the manner of MNIST."""

    name = "tiny-images"
    title = "tiny"
    what = "bytes in order"
    shape = (3, 2)
    examples = (6, 4)
    licence = "secret"
    source = "made here"
    files: ClassVar[dict[str, PublishedFile]] = {}


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
    assert "its licence (secret) does not allow a download" in message
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


def test_where_the_files_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    in_cache = data_root()
    assert in_cache.is_relative_to(root)  # the user's, on any platform
    assert in_cache.parts[-2:] == ("svdbench", "data")
    assert str(in_cache / "tiny-images") in refused(None)
    monkeypatch.setenv("SVDBENCH_DATA", "~/own")
    assert data_root() == root / "home" / "own"
    assert data_root(str(root)) == root
    assert data_root("relative").is_absolute()


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


def test_a_file_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    message = refused(root)
    assert "train-images-idx3-ubyte.gz" in message
    assert "Permission denied" in message


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
    assert DATASETS.names() == ["cats", "digits", "fashion_mnist", "mnist", "xor"]
    assert DATASETS.load("fashion-mnist").name == DATASETS.load("fashion_mnist").name
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        datasets.load("minst", "train")
    with pytest.raises(ValueError, match="did you mean 'test'"):
        datasets.load("digits", "tests")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DATASETS.names())
def test_each_says_what_it_is(name: str) -> None:
    dataset = DATASETS.load(name)
    assert dataset.name.replace("-", "_") == name
    for said in (dataset.title, dataset.what, dataset.source, dataset.licence):
        assert said
    assert dataset.classes >= 2
    assert isinstance(dataset, FileDataset) != bool(dataset.comes_with)
    if isinstance(dataset, FileDataset):
        assert all(mirror.endswith("/") for mirror in dataset.mirrors)
        assert all(len(file.sha256) == 64 for file in dataset.files.values())
    if isinstance(dataset, IdxDataset):
        packed = {file for file in dataset.files if file.endswith(".gz")}
        assert len(packed) == 4
        assert {file.removesuffix(".gz") for file in packed} == set(dataset.files) - packed


@pytest.mark.parametrize("name", DATASETS.names())
def test_each_is_a_table_for_a_classifier(name: str) -> None:
    dataset = DATASETS.load(name)
    if isinstance(dataset, FileDataset):
        needs_files(dataset.name)
    tables = {split: datasets.classification(name, split) for split in ("train", "test")}
    for (X, y, classes), (split, n) in zip(
        tables.values(), zip(tables, dataset.examples, strict=True), strict=True
    ):
        own, labels = datasets.load(name, split)  # type: ignore[arg-type]
        assert own.shape == (n, *dataset.shape)
        assert X.dtype == own.dtype == torch.float32
        assert torch.equal(X, own.flatten(1))
        assert y.dtype == torch.int64
        assert torch.equal(y, labels)
        assert X.min() == 0
        assert X.max() == 1
        assert classes == dataset.classes
        assert torch.equal(y.unique(), torch.arange(classes))


def test_listing_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from svdbench.members import DATASETS as D; "
        "from svdbench.members import TASKS as T; D.names(), T.names(); "
        "from svdbench.datasets.files import data_root; data_root(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def needs_files(name: str) -> None:
    root = os.environ.get("SVDBENCH_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"SVDBENCH_DATA is unset or has no {name}/")


def test_a_part_is_held_out() -> None:
    whole = datasets.classification("digits", "train")
    train = datasets.classification("digits", "train", validation=0.2)
    held = datasets.classification("digits", "validation", validation=0.2)
    assert len(held.y) == len(held.X) == round(0.2 * len(whole.y))
    every = torch.cat([train.X, held.X])
    assert torch.equal(every.unique(dim=0), whole.X.unique(dim=0))  # they are all different
    assert len(every) == len(whole.X)
    again = datasets.classification("digits", "validation", validation=0.2)
    assert torch.equal(again.X, held.X)
    test = datasets.classification("digits", "test", validation=0.2)
    assert len(test.y) == 355


def test_what_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="no examples of digits are held out"):
        datasets.classification("digits", "validation")
    with pytest.raises(ValueError, match=r"validation is 1\.0"):
        datasets.classification("digits", "train", validation=1.0)
    with pytest.raises(ValueError, match="did you mean 'validation'"):
        datasets.classification("digits", "validate")
    with pytest.raises(ValueError, match="option of digits"):
        datasets.classification("digits", "train", leave_out_repeated=True)


def test_xor() -> None:
    X, y, classes = datasets.classification("xor", "train")
    assert (X[:, 0] != X[:, 1]).long().tolist() == y.tolist()
    assert len(X.unique(dim=0)) == 4
    assert classes == 2


def test_cats_without_the_image_that_is_in_training_too() -> None:
    needs_files("cats")
    train = datasets.classification("cats", "train")
    test = datasets.classification("cats", "test")
    clean = datasets.classification("cats", "test", leave_out_repeated=True)
    assert train.y.bincount().tolist() == [137, 72]
    assert test.y.bincount().tolist() == [17, 33]
    assert clean.y.bincount().tolist() == [17, 32]
    repeated = (torch.cdist(test.X, train.X) == 0).nonzero().tolist()
    assert (test.X[17] == train.X[146]).all()
    assert repeated in ([[17, 146]], [])  # cdist may round
    assert not (clean.X[:, None, :100] == train.X[None, :, :100]).all(-1).any()


def test_cats_are_read_from_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    files = {}
    (tmp_path / "cats").mkdir()
    for split in ("train", "test"):
        path = tmp_path / "cats" / f"{split}_catvnoncat.h5"
        with h5py.File(path, "w") as file:
            file[f"{split}_set_x"], file[f"{split}_set_y"] = images, np.arange(50) % 2
        files[path.name] = published(path.read_bytes())
    monkeypatch.setattr(Cats, "files", files)
    X, y = Cats(str(tmp_path)).read("test")
    assert X.shape == (50, 64, 64, 3)
    assert X[:, 5, 6, 2].mul(255).round().tolist() == list(range(50))
    assert y.tolist() == [0, 1] * 25
    X, y = Cats(str(tmp_path), leave_out_repeated=True).read("test")
    assert len(X) == len(y) == 49
    assert 17 not in X[:, 0, 0, 0].mul(255).round()
    assert len(Cats(str(tmp_path), leave_out_repeated=True).read("train")[1]) == 50
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DatasetError, match=r"svdbench\[cats\]"):
        Cats(str(tmp_path)).read("test")


def test_what_is_not_a_grey_image_is_no_sequence() -> None:
    for name in ("cats", "xor"):
        with pytest.raises(ValueError, match=f"{name} has no grey images"):
            SequentialImages(name)


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
    needs_files(name)
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
