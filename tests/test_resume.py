"""Going on with a run: what is finished stays and isn't repeated, what is torn is done again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import run, table
from promises.kills import without_times
from torch import Tensor

from svdbench.errors import Interrupted
from svdbench.record.journal import NAME, Journal
from svdbench.record.lines import RecordError
from svdbench.record.resumption import mixing_versions, read_versions
from svdbench.record.run import RunWriter
from svdbench.record.schema import SAMPLES, SUMMARY
from svdbench.tasks.memory import Addition
from svdbench.training import checkpoint

ROW = {"cell": "c", "status": "ok", "method": "fasth"}


def begin(root: Path, **options: Any) -> RunWriter:
    return RunWriter.create(root, "job", "run", config="d: 1\n", **{"env": {"cpu": "x"}} | options)


def rows(root: Path, name: str = "samples") -> list[str]:
    path = root / "job" / "run" / f"{name}.csv"
    return [row["d"] for row in table(path)] if path.exists() else []


# ------------------------------------------------------------------ the journal


def test_what_is_finished_stays_and_what_is_not_is_taken_back(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        assert not first.resumed
        first.append(SAMPLES, ROW | {"d": 1})
        first.finish("one", slow=["sequential"])
        first.append(SAMPLES, ROW | {"d": 2})
        first.append(SUMMARY, ROW | {"d": 2})
    with begin(tmp_path) as second:
        assert second.resumed
        assert list(second.units) == ["one"]
        assert second.memo == {"slow": ["sequential"]}
        second.append(SUMMARY, ROW | {"d": 3})
        second.finish("two")
    assert rows(tmp_path) == ["1"]
    assert rows(tmp_path, "summary") == ["3"]
    with begin(tmp_path) as third:
        assert set(third.units) == {"one", "two"}


def test_a_unit_without_rows_takes_nothing_back(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        first.append(SAMPLES, ROW | {"d": 1})
        first.finish("one")
    with begin(tmp_path) as second:
        second.finish("two")
    with begin(tmp_path) as third:
        third.append(SAMPLES, ROW | {"d": 3})
    assert rows(tmp_path) == ["1", "3"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        first.append(SAMPLES, ROW | {"d": 1})
        with pytest.raises(RecordError, match="another process: wait for it, or choose"):
            begin(tmp_path)
        first.finish("one")
    assert rows(tmp_path) == ["1"]
    with begin(tmp_path) as second:
        assert list(second.units) == ["one"]


def test_a_torn_line_of_the_journal_was_never_written(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        first.append(SAMPLES, ROW | {"d": 1})
        first.finish("one")
    journal = first.folder / NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-5])
    with begin(tmp_path) as second:
        assert not second.units
        second.append(SAMPLES, ROW | {"d": 2})
    assert rows(tmp_path) == ["2"]


def test_a_unit_whose_rows_never_reached_the_disk_is_done_again(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        for d in (1, 2, 3):
            first.append(SAMPLES, ROW | {"d": d})
            first.finish(f"d = {d}", last=d)
    path = first.folder / "samples.csv"
    path.write_bytes(path.read_bytes()[:-1])  # as a machine that dies may leave it
    with begin(tmp_path) as second:
        assert second.units == {"d = 1", "d = 2"}
        assert second.memo == {"last": 2}
        second.append(SAMPLES, ROW | {"d": 4})
    assert rows(tmp_path) == ["1", "2", "4"]


def test_a_run_that_died_while_it_began_begins_again(tmp_path: Path) -> None:
    folder = tmp_path / "job" / "run"
    folder.mkdir(parents=True)
    Journal(folder).close()
    (folder / "env.json").write_text("{")
    with begin(tmp_path) as again:
        assert not again.resumed
    assert (folder / "config.yaml").read_text() == "d: 1\n"


@pytest.mark.parametrize("name", ["samples.csv", NAME, "config.yaml", "seed-0"])
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path) -> None:
    """Else a run that somebody has sent could have other files of the user's cut short."""
    with begin(tmp_path) as first:
        first.append(SAMPLES, ROW | {"d": 1})
        first.finish("one")
    path, outside = first.folder / name, tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else b""
    with pytest.raises(RecordError, match="is a link"), begin(tmp_path) as second:
        second.append(SAMPLES, ROW | {"d": 2})
    assert outside.is_dir() or outside.read_bytes() == before


@pytest.mark.parametrize("name", ["samples.csv", "summary.csv", "config.yaml", "seed-0"])
def test_nothing_is_written_into_a_pipe(name: str, tmp_path: Path) -> None:
    """Which nobody may read from, so that opening it never ends."""
    begin(tmp_path).close()
    path = tmp_path / "job/run" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(RecordError, match=f"{name} is not a regular file"):
        begin(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (NAME, b"[]\n", "line 1 is not a journal line"),
        (NAME, b'{"job": "job"}\n{"unit": "one", "tables": {}}\n', "line 1 is not a journal line"),
        (NAME, b'{"unit": "one", "tables": {}}\n', "line 1 is not a journal line"),
        (NAME, b"\xff\xfe\n", "line 1 is not a journal line"),
        (NAME, b'{"job": "job", "schema_version": 1}\n', "has schema version 1"),
        (NAME, b'{"job": "job", "schema_version": 99}\n', "has schema version 99"),
        ("config.yaml", b"d: 2\n", "of another configuration"),
        ("config.yaml", b"\xff", "config.yaml is not UTF-8"),
        ("env.json", b"{", "env.json is not JSON"),
        ("env.json", b"[]", "was not written by svdbench"),
        ("samples.csv", b"schema_version,job,other\n" + 600 * b" ", "columns of another version"),
    ],
)
def test_what_does_not_fit_is_refused_and_left(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    with begin(tmp_path) as first:
        first.append(SAMPLES, ROW | {"d": 1})
        first.finish("one")
    path = first.folder / name
    path.write_bytes(content)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir() if path.name != NAME}
    with pytest.raises(RecordError, match=says) as told, begin(tmp_path) as second:
        second.append(SAMPLES, ROW | {"d": 2})
    assert "\n" not in str(told.value)
    after = {path.name: path.read_bytes() for path in first.folder.iterdir() if path.name != NAME}
    assert {name: data[: len(before[name])] for name, data in after.items()} == before


def test_timings_of_two_machines_are_not_mixed(tmp_path: Path) -> None:
    begin(tmp_path).close()
    with pytest.raises(RecordError, match=r"started elsewhere \(cpu was x, is y\)"):
        begin(tmp_path, env={"cpu": "y"}, same=("cpu",))
    with begin(tmp_path, env={"cpu": "y"}) as other:
        assert other.environment == {"cpu": "x"}
        other.append(SAMPLES, ROW)
    lines = [json.loads(line) for line in (other.folder / NAME).read_text().splitlines()]
    assert {"resumed": {"cpu": "y"}} in lines


A, B = {"svdbench": "1.0", "source_hash": "aaa"}, {"svdbench": "1.0", "source_hash": "bbb"}


def test_timings_of_two_versions_are_mixed_only_if_allowed(tmp_path: Path) -> None:
    commit = {"source": {"commit": 40 * "c", "dirty": True}}
    with begin(tmp_path, env=A | commit) as first:
        first.append(SAMPLES, ROW | {"d": 1})
        first.finish("one")
    says = (
        r"was started with svdbench 1.0\+aaa \(commit cccccccc \+ changes\), but this is "
        r"svdbench 1.0\+bbb: .* or continue with --force"
    )
    with pytest.raises(RecordError, match=says):
        begin(tmp_path, env=B, same=("cpu",))
    assert read_versions(first.folder) == ["1.0+aaa"]
    with mixing_versions(True), begin(tmp_path, env=B, same=("cpu",)) as second:
        second.append(SAMPLES, ROW | {"d": 2})
        second.finish("two")
    # It has rows of both by now.
    with begin(tmp_path, env=B, same=("cpu",)) as third:
        third.append(SAMPLES, ROW | {"d": 3})
    assert read_versions(first.folder) == ["1.0+aaa", "1.0+bbb"]
    written = [row["version"] for row in table(first.folder / "samples.csv")]
    assert written == ["1.0+aaa", "1.0+bbb", "1.0+bbb"]


def test_a_training_goes_on_with_another_version(tmp_path: Path) -> None:
    begin(tmp_path, env=A).close()
    with begin(tmp_path, env=B) as second:
        second.append(SAMPLES, ROW)
    assert [row["version"] for row in table(second.folder / "samples.csv")] == ["1.0+bbb"]


def test_a_run_of_before_versions_were_known_is_another_version(tmp_path: Path) -> None:
    begin(tmp_path, env={"svdbench": "0.9"}).close()
    with pytest.raises(RecordError, match=r"started with svdbench 0.9, but this is .*\+bbb"):
        begin(tmp_path, env=B, same=("cpu",))


def test_a_run_that_is_opened_and_left_is_not_changed(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        first.append(SAMPLES, ROW)
        first.finish("one")
    before = contents(first.folder)
    begin(tmp_path, env={"cpu": "y"}).close()
    assert contents(first.folder) == before


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "job" / "run"
    folder.mkdir(parents=True)
    Journal(folder).close()
    with subprocess.Popen(["true"]) as dead:
        pass
    for name in (f".env.json.{dead.pid}.partial", f".env.json.{os.getppid()}.partial"):
        (folder / name).write_text("{")
    begin(tmp_path).close()
    left = [path.name for path in folder.glob(".*")]
    assert left == [f".env.json.{os.getppid()}.partial"]  # which still runs


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_users_own_table_is_left_alone(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        (first.folder / "mine.csv").write_text("a,b\n1,2\n")
    with begin(tmp_path) as second:
        second.append(SAMPLES, ROW | {"d": 1})
    assert (first.folder / "mine.csv").read_text() == "a,b\n1,2\n"


# ------------------------------------------------------------------ really done

WORKER = """
import sys, time
from svdbench.record.schema import SAMPLES, SUMMARY
from svdbench.record.run import RunWriter
root, units = sys.argv[1], int(sys.argv[2])
row = {"cell": "c", "status": "ok", "method": "fasth"}
with RunWriter.create(root, "job", "run", config="d: 1\\n", env={}) as record:
    print("begun", flush=True)
    for d in range(units):
        if f"d = {d}" in record.units:
            continue
        with open(root + "/done.txt", "a") as file:
            file.write(f"{d}\\n")
        for rep in range(20):
            record.append(SAMPLES, row | {"d": d, "round": rep})
        record.append(SUMMARY, row | {"d": d})
        record.finish(f"d = {d}")
"""


def worker(root: Path, units: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(root), str(units)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def killed_until_done(root: Path, units: int, kills: int) -> int:
    """Kill a worker at random moments, at most so often, then let it end; how often it was."""
    moments = random.Random(kills)
    killed = 0
    while killed < kills and len(rows(root, "summary")) < units:
        process = worker(root, units)
        assert process.stdout is not None
        process.stdout.readline()  # it holds the run
        time.sleep(moments.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
    assert worker(root, units).communicate()[1] == b""
    return killed


@pytest.mark.parametrize(
    ("kills", "units"), [(10, 100), pytest.param(300, 3000, marks=pytest.mark.slow)]
)
def test_kills_lose_and_repeat_nothing(kills: int, units: int, tmp_path: Path) -> None:
    killed = killed_until_done(tmp_path, units, kills)
    assert rows(tmp_path, "summary") == [str(d) for d in range(units)]
    assert rows(tmp_path) == [str(d) for d in range(units) for _ in range(20)]
    # Only what was being done when it died is begun again.
    began = (tmp_path / "done.txt").read_text().split()
    assert set(map(int, began)) == set(range(units))
    assert len(began) - units <= killed


def test_two_writers_never_tear_each_others_rows(tmp_path: Path) -> None:
    both = [worker(tmp_path, 300) for _ in range(2)]
    told = [process.communicate()[1].decode() for process in both]
    assert rows(tmp_path) == [str(d) for d in range(300) for _ in range(20)]
    refused = [text for text in told if text]
    assert len(refused) <= 1  # or one came when the other was done
    assert all("is being written by another process" in text for text in refused)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a tiny file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_where_there_is_room(tiny: Path) -> None:

    def fill(record: RunWriter) -> None:
        for d in range(10_000):
            for _ in range(20):
                record.append(SAMPLES, ROW | {"d": d})
            record.finish(f"d = {d}")

    with begin(tiny) as record, pytest.raises(RecordError) as told:
        fill(record)
    done = len(record.units)
    assert str(told.value).endswith(
        "No space left on device: free space on the disk, or choose another folder"
    )
    assert done > 5
    found = rows(tiny)  # whole rows, to the last
    assert found[: 20 * done] == [str(d) for d in range(done) for _ in range(20)]
    subprocess.run(["mount", "-o", "remount,size=256k", str(tiny)], check=True)
    with begin(tiny) as record:
        assert len(record.units) == done
        record.append(SAMPLES, ROW | {"d": "more"})
    assert rows(tiny) == [*found[: 20 * done], "more"]


def test_a_read_only_folder_is_one_line_and_left_as_it_is(tiny: Path) -> None:
    with begin(tiny) as record:
        record.append(SAMPLES, ROW | {"d": 1})
        record.finish("one")
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    with pytest.raises(RecordError, match=r"Read-only file system: choose a writable folder$"):
        begin(tiny)
    subprocess.run(["mount", "-o", "remount,rw", str(tiny)], check=True)
    assert rows(tiny) == ["1"]


# ------------------------------------------------------------------ jobs


@pytest.mark.usefixtures("elsewhere", "known_rates", "one_thread")
class TestCommands:
    TINY = ("time-fasth", "--d", "4,6,8", "--methods", "cwy,sequential", "--budget", "0.05")

    def test_a_run_that_was_cut_short_is_finished(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.timings import session

        begun: list[int] = []
        time_cell = session.time_cell

        def cut(problem: Any, *arguments: Any) -> None:
            begun.append(problem.d)
            if len(begun) == 2:
                raise KeyboardInterrupt
            time_cell(problem, *arguments)

        monkeypatch.setattr(session, "time_cell", cut)
        code, _, err = run([*self.TINY, "--name", "cut"])
        assert code == Interrupted.exit_code
        assert err.endswith("resume with svdbench time-fasth --resume results/time-fasth/cut\n")
        first = Path("results/time-fasth/cut/summary.csv").read_bytes()
        code, out, _ = run(["time-fasth", "--resume", "results/time-fasth/cut"])
        assert code == 0
        assert "resuming: 1 of 3 parts done" in out
        assert begun == [4, 6, 6, 8]
        assert Path("results/time-fasth/cut/summary.csv").read_bytes().startswith(first)
        # The same command again finds nothing to do.
        code, out, _ = run([*self.TINY, "--name", "cut"])
        assert code == 0
        assert "already complete: 3 of 3 parts done" in out
        assert begun == [4, 6, 6, 8]

    def test_other_code_is_refused_and_forced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.record import environment

        typed = [*self.TINY, "--name", "two"]
        sweep = ["time-fasth", *typed[3:], "-m", "sizes.m=2,3", "sizes.d=[4]", "--name", "swept"]
        places = [Path(f"results/time-fasth/{name}") for name in ("two", "swept")]
        for words in (typed, sweep):
            assert run(words).code == 0
        for place in places:  # as if it had been cut short
            journal = (place if place.name == "two" else place / "1") / NAME
            journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))
        (places[1] / "jobs" / "1.json").unlink()
        monkeypatch.setattr(environment, "source_hash", lambda: "another")
        for words, place in zip((typed, sweep), places, strict=True):
            for given in (words, ["time-fasth", "--resume", str(place)]):
                code, _, err = run(given)
                assert code == 2
                assert f"{place} was started with svdbench " in err
                assert err.count("\n") == 1
                assert "+another" in err
        for words in (typed, sweep):
            code, out, err = run([*words, "--force"])
            assert (code, err) == (0, "")
            assert "warning: 2 versions of svdbench made this run" in out
        summary = table(places[1] / "summary.csv")
        assert [row["version"].endswith("+another") for row in summary] == 6 * [False] + 6 * [True]
        page = run(["report", *map(str, places)])
        assert page.code == 0
        for place in places:
            assert "2 versions of svdbench" in (place / "report.html").read_text()

    @pytest.mark.parametrize(
        ("typed", "says"),
        [
            (["time-rnn", "--resume", "RUN"], "svdbench time-fasth --resume RUN"),
            (["time-fasth", "--d", "4", "--resume", "RUN"], "leave out --d,"),
            (["time-fasth", "sizes.m=4", "--resume", "RUN"], "leave out sizes.m=4"),
            (["train", "lstm", "--resume", "RUN"], "leave out lstm"),
            (["train", "--resume", "RUN"], "svdbench time-fasth --resume RUN"),
            (["gradients", "--resume", "RUN"], "svdbench time-fasth --resume RUN"),
            (["time-fasth", "--resume", "nowhere"], "nowhere is not a run that can be resumed"),
            (["train", "--resume", "nowhere"], "nowhere is not a run that can be resumed"),
            (["tune", "--resume", "RUN"], "belongs to another command: use svdbench time-fasth"),
        ],
    )
    def test_what_cannot_be_resumed(self, typed: list[str], says: str, tmp_path: Path) -> None:
        with RunWriter.create("results", "time-fasth", "one", config="d: 4\n", env={}) as made:
            pass
        place = str(made.folder)
        code, _, err = run([word.replace("RUN", place) for word in typed])
        assert code == 2
        assert says.replace("RUN", place) in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize("text", ["", "x", "d: [", "d: 4\n", "- 1\n", "sizes: {d: [0]}\n"])
    def test_a_configuration_that_is_none(self, text: str) -> None:
        with RunWriter.create("results", "time-fasth", "one", config=text, env={}):
            pass
        code, _, err = run(["time-fasth", "--resume", "results/time-fasth/one"])
        assert code == 2
        assert err.count("\n") == 1


TRAIN = ("train", "spectral-rnn", "model.m1=4", "--hidden", "6", "--steps", "8", "--batch", "4")
TRAIN += ("trainer.evaluate_every=2", "task.length=8", "task.test_size=8", "--seeds", "2")


@pytest.mark.usefixtures("elsewhere", "one_thread")
@pytest.mark.parametrize("kept", [True, False])
def test_a_training_ends_bit_identical(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = [*TRAIN, f"trainer.checkpoint={kept}"]
    assert run([*typed, "--name", "whole"]).code == 0
    plain, calls = Addition.loss, []

    def cut(self: Addition, outputs: Tensor, y: Tensor) -> Tensor:
        calls.append(outputs.requires_grad)
        if sum(calls) in (4, 9, 12):  # in both seeds; at a new count each time
            calls.append(True)
            raise KeyboardInterrupt
        return plain(self, outputs, y)

    monkeypatch.setattr(Addition, "loss", cut)
    assert run([*typed, "--name", "cut"]).code == Interrupted.exit_code
    ends = [run(["train", "--resume", "results/train/cut"]).code for _ in range(3)]
    assert ends == [Interrupted.exit_code, Interrupted.exit_code, 0]
    for name in ("samples", "summary"):
        whole, cut_short = (
            without_times(Path(f"results/train/{run}/{name}.csv")) for run in ("whole", "cut")
        )
        assert cut_short == whole
    for seed in (0, 1) if kept else ():
        a, b = (
            checkpoint.load(f"results/train/{run}/seed-{seed}/last.pt")["learner"]
            for run in ("whole", "cut")
        )
        assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
        assert torch.equal(a["generator"], b["generator"])
