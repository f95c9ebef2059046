"""Records: what a row may say, and that it survives whatever happens to the process."""

import csv
import errno
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import svdbench
from svdbench.errors import UserError
from svdbench.files import replace_atomically
from svdbench.record.environment import environment, source_hash
from svdbench.record.lines import RecordError, read_rows
from svdbench.record.run import RunWriter
from svdbench.record.schema import (
    COMMON,
    GOOD_ENDINGS,
    SAMPLES,
    SCHEMA_VERSION,
    STATUSES,
    SUMMARY,
    TRAINING_STATUSES,
    TableSchema,
    cell_id,
    ended_well,
)

# Timings of a shared machine are no failures, and each example makes a folder of its own.
relaxed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ROW = {"cell": "c", "status": "ok", "method": "fasth", "d": 64}


@pytest.fixture
def run(tmp_path: Path) -> RunWriter:
    return RunWriter.create(tmp_path, "time-fasth", "first", config="d: 64\n", env={"python": "3"})


# ------------------------------------------------------------------ schema


def test_tables_carry_what_the_design_asks_for() -> None:
    assert SAMPLES.columns[: len(COMMON)] == SUMMARY.columns[: len(COMMON)] == COMMON
    timing = (
        "method d n m block_size device dtype threads pass median_s q25_s q75_s reps error "
        "orthogonality flops gflops floor_s of_floor peak_bytes vs_best l2 bytes_floor_s "
        "gbytes_per_s of_larger_floor"
    )
    assert set(timing.split()) <= set(SUMMARY.columns)
    assert SAMPLES.columns[-4:] == ("round", "fwd_s", "bwd_s", "step_s")
    for table in (SAMPLES, SUMMARY):
        assert len(set(table.columns)) == len(table.columns)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_good(status: str) -> None:
    SUMMARY.check({**ROW, "status": status})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1}, "no column 'speed'"),
        ({"status": "fine"}, "'fine' is not a status: use one of ok, skipped"),
        ({"status": None}, "None is not a status"),
    ],
)
def test_rows_that_do_not_fit(change: dict[str, Any], message: str, run: RunWriter) -> None:
    with run, pytest.raises(ValueError, match=message):
        run.append(SUMMARY, {**ROW, **change})
    assert not (run.folder / "summary.csv").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text("abcdefgh_", min_size=1, max_size=4)


@relaxed
@given(st.dictionaries(NAMES, JSON, max_size=5), st.randoms(use_true_random=False))
def test_a_cell_id_knows_no_order(what: dict[str, Any], shuffler: random.Random) -> None:
    items = list(what.items())
    shuffler.shuffle(items)
    assert cell_id(**dict(items)) == cell_id(**what)
    assert re.fullmatch("[0-9a-f]{12}", cell_id(**what))


@relaxed
@given(st.dictionaries(NAMES, st.integers(), min_size=1), st.data())
def test_a_cell_id_tells_cells_apart(what: dict[str, int], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(what)))
    assert cell_id(**{**what, key: what[key] + 1}) != cell_id(**what)


def test_a_cell_id_is_forever() -> None:
    # Committed results carry these: a change here orphans them.
    assert cell_id(method="fasth", d=64, sizes=(1, 2.5), extra=None) == "00136e2d97c1"
    with pytest.raises(TypeError):
        cell_id(method=object())


# ------------------------------------------------------------------ a run's folder


def test_a_run_says_at_once_what_and_where_it_is(run: RunWriter, tmp_path: Path) -> None:
    assert run.folder == tmp_path / "time-fasth" / "first"
    assert (run.folder / "config.yaml").read_text() == "d: 64\n"
    assert json.loads((run.folder / "env.json").read_text()) == run.environment == {"python": "3"}


def test_default_names_are_the_time_and_never_meet(tmp_path: Path) -> None:
    runs = [RunWriter.create(tmp_path, "job", env={}).run_id for _ in range(5)]
    assert len(set(runs)) == 5
    assert all(re.fullmatch(r"\d{8}-\d{6}(-\d+)?", name) for name in runs)


def test_results_are_never_overwritten(run: RunWriter, tmp_path: Path) -> None:
    run.close()
    for given_place in ({"name": "first"}, {"folder": run.folder}):
        with pytest.raises(RecordError, match=r"of another configuration: .*, or delete it"):
            RunWriter.create(tmp_path, "time-fasth", env={}, **given_place)
    assert (run.folder / "config.yaml").read_text() == "d: 64\n"
    (tmp_path / "time-fasth" / "empty").mkdir()
    RunWriter.create(tmp_path, "time-fasth", "empty", env={})


def test_a_folder_may_be_given(tmp_path: Path) -> None:
    made = RunWriter.create("elsewhere", "job", env={}, folder=tmp_path / "a" / "b")
    assert made.folder == tmp_path / "a" / "b"
    assert made.run_id == "b"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../up", "a\\b", "a b", "a\n"])
def test_names_that_leave_their_folder_are_refused(name: str, tmp_path: Path) -> None:
    for job, run in ((name, "run"), ("job", name)):
        with pytest.raises(RecordError, match=r"can't name a .*: use letters"):
            RunWriter.create(tmp_path, job, run, env={})
    assert list(tmp_path.iterdir()) == []


@relaxed
@given(st.text(max_size=12) | st.text("./\\-_aZ9~$", max_size=6))
def test_a_name_is_refused_or_a_folder_of_just_that_name(tmp_path: Path, name: str) -> None:
    with suppress(RecordError):
        folder = RunWriter.create(tmp_path, "job", name, env={}).folder
        assert folder.resolve() == (tmp_path / "job").resolve() / name


# ------------------------------------------------------------------ rows


def test_rows_come_back_as_they_went(run: RunWriter) -> None:
    with run:
        run.append(SUMMARY, {**ROW, "reason": "", "median_s": 0.1 + 0.2, "peak_bytes": None})
        run.append(SUMMARY, {**ROW, "status": "failed", "reason": 'a, "b"\n c — é\u2028d'})
        run.append(SAMPLES, {**ROW, "step_s": np.float64(0.1), "round": np.int64(3)})
    first, second = read_rows(run.folder / "summary.csv")
    assert tuple(first) == SUMMARY.columns
    assert float(first["median_s"]) == 0.1 + 0.2
    assert first["peak_bytes"] == first["q25_s"] == ""
    assert (first["schema_version"], first["job"], first["run_id"]) == (
        str(SCHEMA_VERSION),
        "time-fasth",
        "first",
    )
    assert second["reason"] == 'a, "b" c — é d'
    (sample,) = read_rows(run.folder / "samples.csv")
    assert (sample["step_s"], sample["round"]) == ("0.1", "3")


@relaxed
@given(st.text(), st.floats())
def test_any_text_stays_on_its_line(tmp_path: Path, reason: str, value: float) -> None:
    with RunWriter.create(tmp_path, "job", env={}) as run:
        for _ in range(2):
            run.append(SUMMARY, {**ROW, "reason": reason, "error": value})
    path = run.folder / "summary.csv"
    assert path.read_bytes().count(b"\n") == 3
    for row in read_rows(path):
        kept = " ".join(reason.replace("\0", " ").split())
        assert row["reason"] == kept.encode(errors="replace").decode()
        assert row["error"] == repr(value)


def test_a_row_is_in_the_file_before_anything_is_committed(run: RunWriter) -> None:
    run.append(SAMPLES, ROW)
    assert len(read_rows(run.folder / "samples.csv")) == 1
    run.close()
    assert len(read_rows(run.folder / "samples.csv")) == 1


def test_a_row_is_one_write_and_a_commit_reaches_the_disk(
    run: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, synced = [], []
    real = os.write

    def write(file: int, data: bytes) -> int:
        writes.append(data)
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "fsync", synced.append)
    run.append(SAMPLES, ROW)
    run.append(SAMPLES, ROW)
    run.append(SUMMARY, ROW)
    assert [data.count(b"\n") for data in writes] == [2, 1, 2]  # the first has the header
    assert synced == []
    run.commit()
    assert len(synced) == 3  # the journal as well


def test_wherever_a_line_is_torn_the_whole_ones_are_read(run: RunWriter) -> None:
    with run:
        for i in range(3):
            run.append(SUMMARY, {**ROW, "reason": f"reason {i}, é"})
    path = run.folder / "summary.csv"
    data, rows = path.read_bytes(), read_rows(path)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        if size == 0 or data[size - 1 : size] == b"\n":
            got = read_rows(path)
        else:
            with pytest.warns(UserWarning, match="last line is incomplete"):
                got = read_rows(path)
        assert got == rows[: max(whole - 1, 0)]


def test_a_full_disk_leaves_whole_lines_and_one_clear_line(
    run: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append(SUMMARY, ROW)
    real = os.write
    room = [10]

    def write(file: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: room.pop()])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(
        RecordError, match=r"can't write .*summary.csv: No space left.*free"
    ) as told:
        run.append(SUMMARY, ROW)
    assert isinstance(told.value, UserError)
    monkeypatch.setattr(os, "write", real)
    run.append(SUMMARY, ROW)
    assert len(read_rows(run.folder / "summary.csv")) == 2


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for make in (
        lambda: RunWriter.create(tmp_path / "file", "job", env={}),
        lambda: RunWriter.create(tmp_path / "file", "job", "name", env={}),
        lambda: RunWriter.create(tmp_path, "job", env={}, folder=tmp_path / "file"),
    ):
        with pytest.raises(RecordError, match=r"can't write .*: .*writable folder"):
            make()


def _edit(path: Path, change: Callable[[list[list[str]]], None]) -> None:
    with open(path, newline="") as file:
        lines = list(csv.reader(file))
    change(lines)
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def test_what_cannot_be_read_says_why(run: RunWriter, tmp_path: Path) -> None:
    with run:
        run.append(SUMMARY, ROW)
    path = run.folder / "summary.csv"
    for change, message in (
        (lambda lines: lines[1].__setitem__(0, "99"), "schema version 99.*upgrade svdbench"),
        (lambda lines: lines[1].__setitem__(0, "old"), "not a table of svdbench"),
        (lambda lines: lines[1].pop(), "line 2: .* values for .* columns: repair"),
    ):
        _edit(path, change)
        with pytest.raises(RecordError, match=message) as told:
            read_rows(path)
        assert "\n" not in str(told.value)
    path.write_bytes(b"\xff\xfe\n\xff\n")
    with pytest.raises(RecordError, match="not a table of svdbench"):
        read_rows(path)
    with pytest.raises(RecordError, match="No such file"):
        read_rows(tmp_path / "nowhere.csv")


def test_a_spreadsheets_line_ends_are_read_too(run: RunWriter) -> None:
    with run:
        run.append(SUMMARY, ROW)
    path = run.folder / "summary.csv"
    rows = read_rows(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path) == rows


def test_another_job_has_tables_of_its_own(run: RunWriter) -> None:
    training = TableSchema("epochs", ("model", "loss"))
    with run:
        run.append(training, {"cell": "c", "status": "ok", "model": "rnn", "loss": 0.5})
    (row,) = read_rows(run.folder / "epochs.csv")
    assert (row["model"], row["loss"]) == ("rnn", "0.5")


# ------------------------------------------------------------------ environment


def test_the_environment_is_json_and_private() -> None:
    found = environment()
    text = json.dumps(found)
    for key in ("python", "torch", "triton", "numpy", "platform", "cpu", "threads", "blas", "gpus"):
        assert key in found
    assert found["cores_visible"] >= 1
    assert found["memory_bytes"] > 1 << 20
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert platform.node() not in found.values()
    source = found["source"]
    assert source is None or re.fullmatch("[0-9a-f]{40}", source["commit"])


def test_the_source_is_told_apart_by_its_files(tmp_path: Path) -> None:
    package = tmp_path / "svdbench"  # as a wheel has it, without links and without git
    shutil.copytree(Path(svdbench.__file__).parent, package)

    def found() -> str:
        code = "from svdbench.record.environment import source_hash; print(source_hash())"
        command = [sys.executable, "-c", code]
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert found() == source_hash()
    (package / "notes.txt").write_text("nothing that is run")
    assert found() == source_hash()
    for name in ("kernels/wy.py", "conf/measure/quick.yaml"):
        before = found()
        with open(package / name, "a") as file:
            file.write("\n")
        assert found() != before


def test_a_timeout_of_a_training_is_a_result_and_of_a_timing_none() -> None:
    for status in TRAINING_STATUSES:
        assert ended_well({"status": status, "seed": 0}) == (status in GOOD_ENDINGS)
        assert ended_well({"status": status, "seed": ""}) == (status == "ok")
        assert ended_well({"status": status}) == (status == "ok")


def test_what_a_system_does_not_have_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from svdbench.record import environment as module

    def nothing(*_: Any, **__: Any) -> Any:
        raise OSError("not here")

    for owner, name in ((os, "getloadavg"), (os, "sysconf"), (subprocess, "run")):
        monkeypatch.setattr(owner, name, nothing)
    monkeypatch.setattr(module, "_read", lambda path: None)
    monkeypatch.setattr(module, "_CPU", Path("/nowhere"))
    found = environment()
    for key in ("load_average", "memory_bytes", "governor", "caches", "cores_physical", "source"):
        assert found[key] is None
    json.dumps(found)


def test_a_run_is_described_by_default(tmp_path: Path) -> None:
    run = RunWriter.create(tmp_path, "job")
    assert json.loads((run.folder / "env.json").read_text())["python"] == sys.version.split()[0]


def test_recording_starts_without_torch_and_pandas() -> None:
    code = "import sys, svdbench.record.run; print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_file_that_is_not_finished_leaves_the_old_one_and_nothing_else(
    error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with replace_atomically(path) as partial:
            partial.write_text("half of the n")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
