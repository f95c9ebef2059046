"""Data sets that have files: where they are, and whether they are the published ones."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

from .base import Dataset, DatasetError

INSTEAD = "or take dataset=digits, which needs no files"


class Published(NamedTuple):
    """A file as its authors published it."""

    n_bytes: int
    sha256: str


def data_root(data_dir: str | None = None) -> Path:
    """The folder that has a folder per data set; it need not exist.

    ``data_dir``, else ``$SVDBENCH_DATA``, else ``svdbench/data`` in the user's cache
    folder, which every platform has in another place.

    Raises:
        DatasetError: it is no folder and can't become one.
    """
    if own := data_dir or os.environ.get("SVDBENCH_DATA"):
        what = f"the folder of the data sets is {own!r}"
        remedy = "set SVDBENCH_DATA or --data-dir to a folder"
        try:
            root = Path(own).expanduser().absolute()
        except RuntimeError as error:  # the home of nobody
            raise DatasetError(f"{what}, and there is no such place: {remedy}") from error
        there = next(path for path in (root, *root.parents) if os.path.lexists(path))
        if "\0" in own or not os.path.isdir(there):
            raise DatasetError(f"{what}, and {there} is no folder: {remedy}")
        return root
    from pooch import os_cache

    return Path(os_cache("svdbench")) / "data"


class FileDataset(Dataset):
    """A data set whose files are in ``<data_root>/<name>/``; they are never downloaded unasked.

    Class attributes:
        files: what was published, by file name. ``….gz`` and the same unpacked are
            alternatives; the packed one is taken where both are there.
        mirrors: addresses, ending in a slash, of the folders that have the files, in
            the order to try; none if nobody may hand them on.
    """

    files: ClassVar[dict[str, Published]]
    mirrors: ClassVar[tuple[str, ...]] = ()

    @property
    def folder(self) -> Path:
        return data_root(self.data_dir) / self.name

    @classmethod
    def published_names(cls) -> list[str]:
        """The files as they are downloaded, sorted: packed ones where there are both."""
        return sorted(name for name in cls.files if f"{name}.gz" not in cls.files)

    def faults(self) -> dict[str, str]:
        """What is wrong, by published name; nothing if all files are there and as published."""
        found = {}
        for name in self.published_names():
            path = self._path(name)
            fault = "missing" if path is None else self._read(path)[1]
            if fault:
                found[name] = fault
        return found

    def contents(self, name: str) -> bytes:
        """What a file holds, unpacked, by its published name.

        Raises:
            DatasetError: a file of the data set is missing, or this one is not as
                published.
        """
        paths = {each: self._path(each) for each in self.published_names()}
        missing = [each for each, path in paths.items() if path is None]
        if missing:
            raise DatasetError(
                f"{self.name} lacks {', '.join(missing)} in {self.folder}: "
                f"{self.how_to_get(missing)}; or set "
                f"SVDBENCH_DATA or data_dir to the folder that has {self.name}/, {INSTEAD}"
            )
        path = paths[name]
        assert path is not None
        data, fault = self._read(path)
        if fault:
            raise self.unusable(name, fault)
        return gzip.decompress(data) if path.suffix == ".gz" else data

    def unusable(self, name: str, fault: str) -> DatasetError:
        """The error for a file that is there, by its published name."""
        return DatasetError(
            f"cannot use {self._path(name)}: {fault}; {self.how_to_get([name])}, {INSTEAD}"
        )

    def how_to_get(self, names: Iterable[str]) -> str:
        """What to do about files that are missing or damaged, by published name."""
        if self.mirrors:
            return f"`svdbench data fetch {self.name}` downloads what is missing or damaged"
        return (
            f"there is no download, as its licence is {self.licence}: put the published "
            f"{', '.join(names)} into {self.folder} yourself"
        )

    def _path(self, name: str) -> Path | None:
        alternatives = [
            self.folder / n for n in (name, name.removesuffix(".gz")) if n in self.files
        ]
        # Not Path.is_file, which fails where the folder may not be looked into.
        return next((path for path in alternatives if os.path.isfile(path)), None)

    def _read(self, path: Path) -> tuple[bytes, str]:
        """The bytes of a file, and how they differ from what was published, or ``""``."""
        published = self.files[path.name]
        try:
            data = path.read_bytes()
        except OSError as error:
            return b"", error.strerror or str(error)
        if len(data) < published.n_bytes:
            return data, f"cut short, {len(data):,} of {published.n_bytes:,} bytes"
        found = hashlib.sha256(data).hexdigest()
        if found != published.sha256:
            return data, f"not the published file, its SHA-256 is {found[:12]}…"
        return data, ""
