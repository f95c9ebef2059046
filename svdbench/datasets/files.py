"""Data sets that have files: where they are, checked, and downloaded."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import urlsplit

from .base import Dataset, DatasetError

INSTEAD = "or use dataset=digits, which needs no files"


class PublishedFile(NamedTuple):
    """A file as its authors published it.

    Example:
        >>> PublishedFile(sha256="9f86d081…", n_bytes=4).n_bytes
        4
    """

    n_bytes: int
    sha256: str


def data_root(data_dir: str | None = None) -> Path:
    """The folder with a subfolder per data set; it need not exist.

    ``data_dir``, else ``$SVDBENCH_DATA``, else ``svdbench/data`` in the user's cache folder, whose
    place depends on the platform.

    Raises:
        DatasetError: the path is not a folder and can't be made one.
    """
    if own := data_dir or os.environ.get("SVDBENCH_DATA"):
        what = f"the folder of the data sets is {own!r}"
        remedy = "set SVDBENCH_DATA or --data-dir to a folder"
        try:
            root = Path(own).expanduser().absolute()
        except RuntimeError as error:  # the home of nobody
            raise DatasetError(f"{what}, which has an unknown user: {remedy}") from error
        there = next(path for path in (root, *root.parents) if os.path.lexists(path))
        if "\0" in own or not os.path.isdir(there):
            raise DatasetError(f"{what}, but {there} is not a folder: {remedy}")
        return root
    from pooch import os_cache

    return Path(os_cache("svdbench")) / "data"


class FileDataset(Dataset):
    """A data set whose files are in ``<data_root>/<name>/``; downloaded only on request.

    Class attributes:
        files: the published files by name. ``….gz`` and its unpacked file are alternatives; if both
            are there, the packed one is used.
        mirrors: addresses of folders with the files, ending in a slash, in the order to try; none
            if the files may not be redistributed.

    Example:
        >>> class Letters(FileDataset):
        ...     name, title, what = "letters", "Letters", "letters in 16 numbers"
        ...     licence, source = "CC0", "made up"
        ...     shape, examples, classes = (16,), (16_000, 4_000), 26
        ...     files = {"letters.npy": PublishedFile(sha256="9f86d081…", n_bytes=320_128)}
        ...     def read(self, split):
        ...         rows = np.load(BytesIO(self.contents("letters.npy")))
        >>> Letters(data_dir="nowhere").faults()
        {'letters.npy': 'missing'}
    """

    files: ClassVar[dict[str, PublishedFile]]
    mirrors: ClassVar[tuple[str, ...]] = ()

    @property
    def folder(self) -> Path:
        return data_root(self.data_dir) / self.name

    @classmethod
    def published_names(cls) -> list[str]:
        """The names of the files to download, sorted; packed ones where both exist."""
        return sorted(name for name in cls.files if f"{name}.gz" not in cls.files)

    def faults(self) -> dict[str, str]:
        """Faults by published name; empty if all files are present and as published."""
        found = {}
        for name in self.published_names():
            path = self._path(name)
            fault = "missing" if path is None else self._read(path)[1]
            if fault:
                found[name] = fault
        return found

    def contents(self, name: str) -> bytes:
        """The unpacked content of a file, by its published name.

        Raises:
            DatasetError: a file of the data set is missing, or this one is not as
                published.
        """
        paths = {each: self._path(each) for each in self.published_names()}
        missing = [each for each, path in paths.items() if path is None]
        if missing:
            raise DatasetError(
                f"{self.name}: {', '.join(missing)} not found in {self.folder}: "
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
        """The remedy for files that are missing or damaged, by published name."""
        if self.mirrors:
            return f"`svdbench data fetch {self.name}` downloads what is missing or damaged"
        return (
            f"its licence ({self.licence}) does not allow a download: put the published "
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
            return data, f"not the published file: its SHA-256 is {found[:12]}…"
        return data, ""


TIMEOUT_S = 30.0  # without a byte


# As curl's --speed-time and --speed-limit: a server that sends less in any such time is given up.
SPEED_TIME_S = 60.0


LEAST_BYTES_PER_S = 1024


CHUNK_BYTES = 1 << 14


# An archive must arrive as it is, not unpacked on the way.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "svdbench"}


class Bar(Protocol):
    """A progress bar of a file: a part of tqdm's interface."""

    def update(self, n: int) -> object: ...
    def reset(self) -> object: ...
    def close(self) -> object: ...


class Bars(Protocol):
    """Makes the bar of a file, given its name and size in bytes; None shows nothing."""

    def __call__(self, name: str, n_bytes: int) -> Bar | None: ...


def fetch(dataset: FileDataset, bars: Bars = lambda name, n_bytes: None) -> Iterator[str]:
    """Download every file that is missing or damaged; yields its name and host.

    A file is written beside its place, checked by SHA-256, and then moved there, in one
    step: what is in place is whole, whenever this is interrupted.

    Raises:
        DatasetError: no mirror has given the published file; the folder cannot be
            written to; the data set may not be downloaded.
    """
    wanted = dataset.faults()
    if wanted and not dataset.mirrors:
        raise DatasetError(f"cannot fetch {dataset.name}: {dataset.how_to_get(wanted)}, {INSTEAD}")
    for name in wanted:
        yield f"{name} from {_fetch_file(dataset, name, bars)}"


def _fetch_file(dataset: FileDataset, name: str, bars: Bars) -> str:
    """Download from the first mirror that works; returns its host."""
    import pooch
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    published, failures = dataset.files[name], []
    pooch.get_logger().setLevel("WARNING")  # what it would tell, our bar shows
    bar = bars(name, published.n_bytes)
    for mirror in dataset.mirrors:
        host = urlsplit(mirror).netloc
        if bar:
            bar.reset()  # of what the mirror before has sent
        downloader = Download(published.n_bytes, bar)
        try:
            known = f"sha256:{published.sha256}"
            pooch.retrieve(mirror + name, known, name, dataset.folder, downloader=downloader)
            (dataset.folder / name).chmod(0o644)  # not the temporary file's: others may read it
            if bar:
                bar.close()
            return host
        except (RequestException, HTTPError, Unusable, ValueError) as error:
            failures.append(f"{host}: {_why(error)}")
        except OSError as error:
            raise DatasetError(
                f"cannot write {name} to {dataset.folder}: {error.strerror or error}; set "
                f"SVDBENCH_DATA or --data-dir to a folder you can write to, {INSTEAD}"
            ) from error
    listed = ", ".join(dataset.published_names())
    raise DatasetError(
        f"cannot download {name} of {dataset.name} ({'; '.join(failures)}): try again later, or "
        f"put {listed} into {dataset.folder} yourself, {INSTEAD}"
    )


class Unusable(Exception):
    """A server sent something unusable, or too slowly."""


class Download:
    """A downloader for :func:`pooch.retrieve` that neither waits nor reads without end.

    The bytes arrive in a thread of their own: a socket's timeout starts again with every byte,
    in the headers, too, so that only another thread can see that they come too slowly.

    Args:
        n_bytes: the size of the published file; what is longer is not read.
    """

    def __init__(self, n_bytes: int, bar: Bar | None) -> None:
        self.n_bytes, self.bar = n_bytes, bar
        self.received = 0
        self._stop = Event()
        self._error: BaseException | None = None

    def __call__(self, url: str, output_file: str, _pooch: object = None) -> None:
        """Write the content of ``url`` to a file.

        Raises:
            Unusable: it is longer than the published file, or comes too slowly.
            RequestException, urllib3.exceptions.HTTPError: as ``requests`` and ``urllib3`` do.
        """
        worker = Thread(target=self._try, args=(url, output_file), daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                before, began = self.received, time.monotonic()
                worker.join(SPEED_TIME_S)
                rate = (self.received - before) / max(time.monotonic() - began, SPEED_TIME_S)
                if worker.is_alive() and rate < LEAST_BYTES_PER_S:
                    raise Unusable(
                        f"slower than {LEAST_BYTES_PER_S:,} bytes/s for {SPEED_TIME_S:g} s"
                    )
        finally:
            self._stop.set()
        if self._error is not None:
            raise self._error

    def _try(self, url: str, output_file: str) -> None:
        try:
            self._receive(url, output_file)
        except BaseException as error:  # for the thread that waits
            self._error = error

    def _receive(self, url: str, output_file: str) -> None:
        import requests

        # Not decoded: a few bytes may unpack to any number.
        with requests.get(url, headers=HEADERS, timeout=TIMEOUT_S, stream=True) as response:
            response.raise_for_status()
            self._check_size(int(response.headers.get("Content-Length") or 0))
            raw: Any = response.raw
            with open(output_file, "wb") as file:
                for chunk in raw.stream(CHUNK_BYTES, decode_content=False):
                    if self._stop.is_set():
                        return
                    self.received += len(chunk)
                    self._check_size(self.received)
                    file.write(chunk)
                    if self.bar:
                        self.bar.update(len(chunk))

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.n_bytes:
            raise Unusable(f"longer than the published {self.n_bytes:,} bytes")


def _why(error: Exception) -> str:
    """The error of one mirror, in a few words."""
    import urllib3.exceptions
    from requests import exceptions as of

    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, of.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, of.Timeout) or "timed out" in str(error):
        return f"no data for {TIMEOUT_S:g} s"
    if isinstance(error, of.ChunkedEncodingError | urllib3.exceptions.HTTPError):
        return "the connection dropped"
    if isinstance(error, of.SSLError):
        return "untrusted certificate"
    if isinstance(error, of.ProxyError):
        return "refused by the proxy"
    if isinstance(error, of.ConnectionError):
        return "no connection"
    if isinstance(error, of.RequestException):
        return type(error).__name__
    return "not the published file"  # pooch's ValueError
