"""Downloading what is missing of a data set: mirrors in turn, in place only once checked."""

import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any, Protocol
from urllib.parse import urlsplit

from .base import DatasetError
from .files import INSTEAD, FileDataset

TIMEOUT_S = 30.0  # without a byte
# As curl's --speed-time and --speed-limit: a server that sends less in any such time is given up.
SPEED_TIME_S = 60.0
LEAST_BYTES_PER_S = 1024
CHUNK_BYTES = 1 << 14
# An archive must arrive as it is, not unpacked on the way.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "svdbench"}


class Bar(Protocol):
    """What shows the progress of a file: a part of tqdm's interface."""

    def update(self, n: int) -> object: ...
    def reset(self) -> object: ...
    def close(self) -> object: ...


class Bars(Protocol):
    """Makes the bar of a file, given its name and size in bytes; None shows nothing."""

    def __call__(self, name: str, n_bytes: int) -> Bar | None: ...


def fetch(dataset: FileDataset, bars: Bars = lambda name, n_bytes: None) -> Iterator[str]:
    """Download every file that is missing or damaged; yields its name and whence it came.

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
    """Try the mirrors in turn; the host of the one that gave the file."""
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
                f"SVDBENCH_DATA or --data-dir to a folder you may write to, {INSTEAD}"
            ) from error
    listed = ", ".join(dataset.published_names())
    raise DatasetError(
        f"cannot download {name} of {dataset.name} ({'; '.join(failures)}): try again later, or "
        f"put {listed} into {dataset.folder} yourself, {INSTEAD}"
    )


class Unusable(Exception):
    """What a server sends is of no use, or comes too slowly."""


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
        """Write what is at ``url`` to a file.

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
    """What went wrong with one mirror, in a few words."""
    import urllib3.exceptions
    from requests import exceptions as of

    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, of.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, of.Timeout) or "timed out" in str(error):
        return f"silent for {TIMEOUT_S:g} s"
    if isinstance(error, of.ChunkedEncodingError | urllib3.exceptions.HTTPError):
        return "the connection dropped"
    if isinstance(error, of.SSLError):
        return "no trusted certificate"
    if isinstance(error, of.ProxyError):
        return "refused by the proxy"
    if isinstance(error, of.ConnectionError):
        return "no connection"
    if isinstance(error, of.RequestException):
        return type(error).__name__
    return "another file than the published one"  # pooch's ValueError
