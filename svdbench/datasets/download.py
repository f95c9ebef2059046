"""Downloading what is missing of a data set: mirrors in turn, in place only once checked."""

from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

from .base import DatasetError
from .files import INSTEAD, FileDataset

TIMEOUT_S = 30.0  # without a byte
CHUNK_BYTES = 1 << 16
# An archive must arrive as it is, not unpacked on the way.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "svdbench"}


class Bar(Protocol):
    """What shows the progress of a file: the part of tqdm's interface that pooch calls."""

    total: int

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

    published, failures = dataset.files[name], []
    pooch.get_logger().setLevel("WARNING")  # what it would tell, our bar shows
    bar = bars(name, published.n_bytes)
    for mirror in dataset.mirrors:
        host = urlsplit(mirror).netloc
        if bar:
            bar.reset()  # of what the mirror before has sent
        downloader = pooch.HTTPDownloader(
            progressbar=bar or False,
            chunk_size=CHUNK_BYTES,
            timeout=TIMEOUT_S,
            headers=HEADERS,
        )
        try:
            known = f"sha256:{published.sha256}"
            pooch.retrieve(mirror + name, known, name, dataset.folder, downloader=downloader)
            (dataset.folder / name).chmod(0o644)  # not the temporary file's: others may read it
            return host
        except (RequestException, ValueError) as error:
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


def _why(error: Exception) -> str:
    """What went wrong with one mirror, in a few words."""
    from requests import exceptions as of

    if isinstance(error, of.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, of.Timeout) or "timed out" in str(error):
        return f"silent for {TIMEOUT_S:g} s"
    if isinstance(error, of.ChunkedEncodingError):
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
