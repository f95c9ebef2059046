"""``make bench-adapter``: its figures, with PEFT and without."""

import csv
import json
import sys
from pathlib import Path

import pytest
from promises.adapter import PARTS, THREADS, compare, main

pytestmark = pytest.mark.usefixtures("one_thread")


def test_nothing_is_measured_without_peft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.chdir(tmp_path)
    main([])
    assert "PEFT cannot be imported" in capsys.readouterr().out
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    with open(path, encoding="utf-8") as file:
        measured = [row["measured"] for row in csv.DictReader(file)]
    assert measured == [""] * len(PARTS) * (len(THREADS) + 1)


def test_small_layers(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    figures = compare(24, 4, 1.0, 1.0, tmp_path, seconds=0.0)
    assert [figure.what.split(": ")[1] for figure in figures] == [
        *("time, 1 thread", "time, 2 threads", "memory")
    ]
    one, two, memory = (figure.measured for figure in figures)
    assert one > 0
    assert two is None or two > 0  # None while other processes are busy
    assert memory > 0
    assert json.loads((tmp_path / "env.json").read_text())["threads"]
