"""``svdbench data``: the list, and downloads from a server that has its bad days."""

import hashlib
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import pooch
import pytest
from command import assert_mistake, run
from rich.progress import Progress

from svdbench.datasets import files as download
from svdbench.datasets.base import DatasetError, SplitName
from svdbench.datasets.files import FileDataset, PublishedFile
from svdbench.datasets.mnist import MNIST
from svdbench.jobs.data.run import RichBar

pytestmark = pytest.mark.usefixtures("elsewhere")

NO_FOLDERS = ["~no_such_user/x", "file", "file/x", "loop", "loop/x", "a\0b"]


@pytest.mark.parametrize("place", NO_FOLDERS)
@pytest.mark.parametrize(
    "line",
    [["data", "list"], ["data", "path"], ["data", "fetch", "mnist"], ["data", "fetch", "all"]],
)
def test_what_can_be_no_folder_is_one_line(
    line: list[str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    Path("loop").symlink_to("loop")
    says = "the folder of the data sets is" if "\0" not in place else "has a NUL character"
    assert_mistake(run([*line, "--data-dir", place]), says)
    if "\0" not in place:  # which no environment can hold
        monkeypatch.setenv("SVDBENCH_DATA", place)
        assert_mistake(run(line), "set SVDBENCH_DATA or --data-dir to a folder")


@pytest.mark.parametrize("place", ["~no_such_user/x", "file", "loop"])
def test_a_training_without_a_folder_of_data_is_one_line(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    Path("loop").symlink_to("loop")
    monkeypatch.setenv("SVDBENCH_DATA", place)
    for line in (["train", "lstm", "--task", "smnist"], ["accelerate", "mnist"]):
        assert_mistake(run(line), "the folder of the data sets is")


CONTENT = {"a.bin": bytes(range(256)) * 2000, "b.bin": b"b" * 1000}
FILES = {
    name: PublishedFile(len(data), hashlib.sha256(data).hexdigest())
    for name, data in CONTENT.items()
}


class Server(ThreadingHTTPServer):
    """Serves ``/<manner>/<name>`` in that manner; knows what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.closing = threading.Event()

    def mirror(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{quote(manner)}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        _, manner, name = unquote(self.path).split("/")
        data = CONTENT[name]
        if manner == "gone":
            self.send_error(404)
            return
        if manner == "silent":
            self.server.closing.wait()
            return
        if manner == "dripping headers":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
            self.drip(data)
            return
        if manner == "wrong":
            data = data[::-1]
        if manner == "long":
            data += b"."
        self.send_response(200)
        if manner not in ("unsized", "endless"):  # then the connection's end is the file's
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if manner in ("dropping", "unsized"):
            self.wfile.write(data[: len(data) // 2])
        elif manner == "stalling":
            self.wfile.write(data[: len(data) // 2])
            self.server.closing.wait()
        elif manner == "slow":
            for i in range(0, len(data), len(data) // 4):
                self.wfile.write(data[i : i + len(data) // 4])
                self.wfile.flush()
        elif manner == "dripping":
            self.drip(data)
        elif manner == "endless":
            with suppress(ConnectionError):
                while not self.server.closing.is_set():
                    self.wfile.write(data)
        else:
            self.wfile.write(data)

    def drip(self, data: bytes) -> None:
        """A byte at a time, so that no wait for one is long."""
        with suppress(ConnectionError):
            for byte in data:
                if self.server.closing.wait(0.02):
                    return
                self.wfile.write(bytes([byte]))

    def log_message(self, *_: Any) -> None:
        """No line per request on standard error."""


class Two(FileDataset):
    """Two files, and whatever mirrors a test gives."""

    name = "two"
    title = "two files"
    what = "bytes"
    shape = (1,)
    examples = (1, 1)
    licence = "none"
    source = "made here"
    files: ClassVar[dict[str, PublishedFile]] = FILES

    def read(self, split: SplitName) -> Any:
        return self.contents("a.bin"), self.contents("b.bin")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def two(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Two:
    monkeypatch.setattr(Two, "mirrors", (server.mirror("good"),))
    return Two(str(tmp_path / "data"))


# Manners that end only as somebody loses patience, and with what.
TRYING = {
    "silent": "TIMEOUT_S",
    "stalling": "TIMEOUT_S",
    "dripping": "SPEED_TIME_S",
    "dripping headers": "SPEED_TIME_S",
}


@dataclass
class Mirrors:
    """Mirrors of these manners: little patience with those that try it, and as always elsewhere.

    A busy machine's good mirror has its time.
    """

    server: Server
    manners: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        for manner in self.manners:
            with pytest.MonkeyPatch.context() as patch:
                if manner in TRYING:
                    patch.setattr(download, TRYING[manner], 0.5)
                yield self.server.mirror(manner)


def use(monkeypatch: pytest.MonkeyPatch, server: Server, *manners: str) -> None:
    monkeypatch.setattr(Two, "mirrors", Mirrors(server, manners))


def left(dataset: FileDataset) -> list[str]:
    """What lies in its folder, unfinished downloads too."""
    return sorted(p.name for p in dataset.folder.iterdir()) if dataset.folder.is_dir() else []


class TestFetch:
    def test_everything_arrives_once(self, two: Two, server: Server) -> None:
        assert two.faults() == {"a.bin": "missing", "b.bin": "missing"}
        told = list(download.fetch(two))
        assert [line.split()[0] for line in told] == ["a.bin", "b.bin"]
        assert "127.0.0.1" in told[0]
        assert two.read("train") == tuple(CONTENT.values())
        assert left(two) == ["a.bin", "b.bin"]
        assert (two.folder / "a.bin").stat().st_mode & 0o777 == 0o644  # others may read it
        assert two.faults() == {}
        assert list(download.fetch(two)) == []
        assert len(server.asked) == 2

    def test_only_what_is_missing_or_damaged_is_asked_for(self, two: Two, server: Server) -> None:
        two.folder.mkdir(parents=True)
        (two.folder / "a.bin").write_bytes(CONTENT["a.bin"])
        (two.folder / "b.bin").write_bytes(CONTENT["b.bin"][:-1])
        with pytest.raises(DatasetError, match=r"cut short, 999 of 1,000 bytes; `svdbench data f"):
            two.read("train")
        list(download.fetch(two))
        assert server.asked == ["/good/b.bin"]
        assert two.faults() == {}

    @pytest.mark.parametrize(
        ("manner", "says"),
        [
            ("gone", "HTTP 404"),
            ("wrong", "not the published file"),
            ("dropping", "the connection dropped"),
            ("unsized", "not the published file"),
            ("silent", "no data for 0.5 s"),
            ("stalling", "no data for 0.5 s"),
            ("dripping", "slower than 1,024 bytes/s for 0.5 s"),
            ("dripping headers", "slower than 1,024 bytes/s for 0.5 s"),
            ("long", "longer than the published 512,000 bytes"),
            ("endless", "longer than the published 512,000 bytes"),
        ],
    )
    def test_a_bad_mirror_leaves_nothing_and_the_next_is_tried(
        self, two: Two, server: Server, monkeypatch: pytest.MonkeyPatch, manner: str, says: str
    ) -> None:
        use(monkeypatch, server, manner)
        with pytest.raises(DatasetError) as caught:
            list(download.fetch(two))
        message = str(caught.value)
        assert "\n" not in message
        assert f"cannot download a.bin of two (127.0.0.1:{server.server_port}: {says})" in message
        assert str(two.folder) in message
        assert "dataset=digits" in message
        assert left(two) == []
        use(monkeypatch, server, manner, "good")
        list(download.fetch(two))
        assert two.faults() == {}

    def test_a_failed_download_does_not_touch_what_is_there(
        self, two: Two, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        two.folder.mkdir(parents=True)
        (two.folder / "a.bin").write_bytes(b"mine")
        use(monkeypatch, server, "wrong", "dropping")
        with pytest.raises(
            DatasetError,
            match=r"not the published file.*; .* the connection "
            r"dropped",
        ):
            list(download.fetch(two))
        assert (two.folder / "a.bin").read_bytes() == b"mine"
        assert left(two) == ["a.bin"]

    def test_a_slow_mirror_is_waited_for(
        self, two: Two, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(monkeypatch, server, "slow")
        list(download.fetch(two))
        assert two.faults() == {}

    def test_without_a_network(self, two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens here
            port = taken.getsockname()[1]
            monkeypatch.setattr(Two, "mirrors", (f"http://127.0.0.1:{port}/",))
            with pytest.raises(DatasetError) as caught:
                list(download.fetch(two))
        assert "no connection" in str(caught.value)
        assert "put a.bin, b.bin into" in str(caught.value)

    def test_nowhere_to_write(self, two: Two, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("a file where the folder should be")
        with pytest.raises(
            DatasetError, match=r"data is not a folder: set SVDBENCH_DATA or --data-dir"
        ):
            list(download.fetch(two))

    def test_no_mirrors(self, two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Two, "mirrors", ())
        with pytest.raises(
            DatasetError,
            match=r"its licence \(none\) does not allow a download: put the published a\.bin, "
            r"b",
        ):
            list(download.fetch(two))

    def test_an_interrupted_download_leaves_nothing(self, two: Two) -> None:
        class Interrupting:
            total = 0

            def update(self, n: int) -> None:
                raise KeyboardInterrupt

            def reset(self) -> None: ...
            def close(self) -> None: ...

        with pytest.raises(KeyboardInterrupt):
            list(download.fetch(two, lambda name, n_bytes: Interrupting()))
        assert left(two) == []

    def test_progress_is_shown(
        self, two: Two, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(monkeypatch, server, "dropping", "good")
        progress = Progress(disable=True)
        seen: list[float] = []

        class Seen(RichBar):
            def update(self, n: int) -> None:
                super().update(n)
                seen.append(progress.tasks[self.task].completed)

        list(download.fetch(two, lambda name, n_bytes: Seen(progress, name, n_bytes)))
        assert [task.description for task in progress.tasks] == ["a.bin", "b.bin"]
        for task, data in zip(progress.tasks, CONTENT.values(), strict=True):
            assert task.completed == task.total == len(data)
            assert not task.visible
        assert len(set(seen)) > 4
        restarts = sum(after < before for before, after in pairwise(seen))
        assert restarts >= 2  # for the second mirror, and the second file


class TestCommand:
    @pytest.fixture(autouse=True)
    def _small_mnist(self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """MNIST is two small files, on a server in this process."""
        monkeypatch.setattr(MNIST, "files", FILES)
        monkeypatch.setattr(MNIST, "mirrors", (server.mirror("gone"), server.mirror("good")))
        monkeypatch.setenv("SVDBENCH_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("COLUMNS", "80")

    def test_path(self, tmp_path: Path) -> None:
        assert run(["data", "path"]) == (0, f"{tmp_path / 'data'}\n", "")
        assert run(["data", "path", "--data-dir", "/else"]).out == "/else\n"

    def test_list(self, tmp_path: Path) -> None:
        def row(name: str) -> str:
            code, out, _ = run(["data", "list"])
            assert code == 0
            assert all(len(line) <= 80 for line in out.splitlines()[:15])
            return next(line for line in out.splitlines() if line.split()[:1] == [name])

        for built_in in ("digits", "xor"):
            assert row(built_in).rstrip().endswith("built in")
        assert row("cats").split()[-2:] == ["unknown", "no"]
        assert row("mnist").split()[-1] == "no"
        folder = tmp_path / "data" / "mnist"
        folder.mkdir(parents=True)
        (folder / "a.bin").write_bytes(CONTENT["a.bin"])
        assert row("mnist").split()[-2:] == ["in", "part"]
        (folder / "b.bin").write_bytes(b"c" * 1000)
        assert row("mnist").split()[-1] == "damaged"
        out = run(["data", "list"]).out
        assert "mnist: b.bin (not the published file: its SHA-256 is" in out
        assert "`svdbench data fetch mnist`" in out
        assert (
            f"put the published test_catvnoncat.h5, train_catvnoncat.h5 into {folder.parent}" in out
        )
        (folder / "b.bin").write_bytes(CONTENT["b.bin"])
        assert row("mnist").split()[-1] == "yes"

    def test_fetch(self, tmp_path: Path) -> None:
        code, out, err = run(["data", "fetch", "mnist", "digits"])
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0].startswith("mnist: a.bin from 127.0.0.1")
        assert lines[2] == f"mnist: complete, in {tmp_path / 'data' / 'mnist'}"
        assert lines[3] == "digits: needs no files; it is part of scikit-learn"
        assert len(lines) == 4
        assert "already here" in run(["data", "fetch", "mnist"]).out
        own = tmp_path / "own"
        assert run(["data", "fetch", "mnist", "--data-dir", str(own)]).code == 0
        assert (own / "mnist" / "b.bin").read_bytes() == CONTENT["b.bin"]

    def test_fetch_all(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.datasets.mnist import FashionMNIST

        monkeypatch.setattr(FashionMNIST, "files", FILES)
        monkeypatch.setattr(FashionMNIST, "mirrors", (server.mirror("good"),))
        code, out, _ = run(["data", "fetch", "all"])
        assert code == 0
        assert out.count("complete") == 2
        assert "cats: its licence" in out

    def test_mistakes(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        assert_mistake(run(["data", "fetch", "minst"]), "did you mean 'mnist'")
        assert_mistake(run(["data", "fetch", "cats"]), "put the published test_catvnoncat.h5")
        assert_mistake(run(["data", "fetch"]), "Missing argument 'NAME'")
        monkeypatch.setattr(MNIST, "mirrors", (server.mirror("gone"),))
        answer = run(["data", "fetch", "mnist"])
        assert_mistake(answer, "HTTP 404")
        assert "dataset=digits" in answer.err

    def test_interrupted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(pooch, "retrieve", interrupt)
        code, _, err = run(["data", "fetch", "mnist"])
        assert code == 130
        assert err == "svdbench: interrupted; complete files are kept\n"

    def test_pooch_keeps_quiet(self, capfd: pytest.CaptureFixture[str]) -> None:
        run(["data", "fetch", "mnist"])
        assert capfd.readouterr() == ("", "")
        assert pooch.get_logger().level == logging.WARNING
