"""What reports say: numbers of things, ratios, tables of any width, plots, disturbed machines."""

import errno
import os
import subprocess
import sys
from base64 import b64encode
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command import run
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rich.console import Console

from svdbench.errors import UserError, os_remedy
from svdbench.jobs.compress.report import by_rank, summarise_arms
from svdbench.jobs.gradients.report import edges
from svdbench.jobs.time_fasth.report import conclusions, times_table
from svdbench.members import DRIVERS, METHODS, MODELS, Registry
from svdbench.record.lines import RecordError, read_rows
from svdbench.reporting.metrics import headline
from svdbench.reporting.plots import (
    LEAST_TICKS,
    label_lines,
    label_panels,
    plot_band,
    plot_line,
    save,
    set_log_ticks,
    spread,
)
from svdbench.reporting.render import rich_table
from svdbench.reporting.report import Report, Table
from svdbench.reporting.styles import styles_of
from svdbench.reporting.words import quantity, ratio
from svdbench.timings import report as timings
from svdbench.timings.report import disturbed
from svdbench.training.report import medians, metrics_of, scores

# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("number", "thing", "things", "told"),
    [
        (1, "thread", "", "1 thread"),
        (2, "thread", "", "2 threads"),
        (0, "seed", "", "0 seeds"),
        (1.0, "epoch", "", "1 epoch"),
        (1234, "step", "", "1,234 steps"),
        (1, "batch", "batches", "1 batch"),
        (3, "batch", "batches", "3 batches"),
        (np.int64(1), "row", "", "1 row"),
    ],
)
def test_a_number_of_things(number: float, thing: str, things: str, told: str) -> None:
    assert quantity(number, thing, things) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0412, "0.041×"),
        (0.999, "1.00×"),
        (1.0, "1.00×"),
        (9.996, "10.0×"),
        (99.96, "100×"),
        (1357.0, "1,360×"),
        (2.5e6, "2,500,000×"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
    ],
)
def test_a_ratio(value: float, told: str) -> None:
    assert ratio(value) == told


@given(st.floats(1e-12, 1e12))
def test_no_ratio_has_an_exponent(value: float) -> None:
    told = ratio(value)
    assert "e" not in told
    assert float(told.removesuffix("×").replace(",", "")) == pytest.approx(value, rel=0.06)


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "free space"), (errno.EROFS, "writable"), (errno.EACCES, "writable")],
)
def test_only_a_full_disk_is_to_be_freed(number: int, says: str) -> None:
    remedy = os_remedy(OSError(number, os.strerror(number)))
    assert says in remedy
    assert ("free" in remedy) == (number == errno.ENOSPC)


# --------------------------------------------------------------------- tables


def shown(table: Any, width: int) -> list[str]:
    console = Console(width=width, file=StringIO(), record=True)
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [30, 60, 80, 120, 300])
def test_no_table_cuts_a_number(width: int) -> None:
    numbers = [f"{1.23 * 10**i:,.2f} ms" for i in range(8)]
    table = Table.of("times of all methods", ["method"], [f"d = {2**i}" for i in range(8)])
    for method in ("fasth", "torch_householder_product"):
        table.add(method, *numbers)
    lines = shown(rich_table(table), width)
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
    for number in numbers:
        assert sum(number in line for line in lines) == 2, number
    assert sum("times of all" in line for line in lines) == 1
    if width >= 60:  # a name is whole, and stands in front of each part of its row
        parts = sum("d = " in line for line in lines)
        assert sum("torch_householder_product" in line for line in lines) == parts


def test_a_table_with_room_is_one_table() -> None:
    table = Table.of("t", ["method"], ["a", "b"])
    table.add("fasth", "1", "2")
    assert sum("fasth" in line for line in shown(rich_table(table), 60)) == 1


def test_words_are_wrapped_at_words() -> None:
    table = Table.of("", ["name"], ["minutes"], more_words=["what"])
    table.add("one", "1.5", "a long sentence about what this row is and what it is not")
    lines = shown(rich_table(table), 40)
    assert not any("…" in line for line in lines)
    words = " ".join(" ".join(lines).split())
    assert "sentence" in words
    assert "1.5" in words


# ---------------------------------------------------------------------- plots


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        ([3.0], True),
        ([1.0, 2.0], False),
        ([1.0, np.nan, 2.0, 3.0], True),
        ([np.nan, np.nan], False),
    ],
)
def test_a_point_alone_has_a_marker(values: list[float], marked: bool) -> None:
    axes = Figure().add_subplot()
    line = plot_line(axes, range(len(values)), values, color="black")
    assert (line.get_marker() == "o") == marked
    plot_band(axes, [1], [1.0], [2.0], "black")
    assert axes.collections


def test_a_single_look_fills_a_row_of_the_heat_map() -> None:
    assert list(edges(np.array([4.0]))) == [3.5, 4.5]
    assert list(edges(np.array([1.0, 2.0, 4.0]))) == [0.5, 1.5, 3.0, 5.0]


def test_points_of_a_rank_stand_at_their_rank() -> None:
    rows = [
        {"arm": arm, "method": arm.split()[0], "rank": rank, "seed": 0, "epoch": 1, "split": "test"}
        | {"accuracy": 0.9, "loss": 0.1, "epoch_s": 1.0, "decompose_s": 0.1}
        | {"dataset": "digits", "model": "64-10"}
        for arm, rank in [
            ("stock", np.nan),
            *((f"{m} {r}", r) for m in ("rsvd", "truncsvd", "whitened") for r in (2, 4)),
        ]
    ]
    run_ = pd.DataFrame(rows)
    figure = by_rank(run_, summarise_arms(run_))
    for axes in figure.axes[:2]:
        ticks = set(axes.get_xticks())
        for line in axes.lines:
            if len(line.get_xdata()) == 2 and line.get_marker() not in ("None", "_", "|"):
                assert set(line.get_xdata()) <= ticks


def test_a_full_disk_while_a_plot_is_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Figure, path: Any, **options: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "summary.csv").write_text("kept")
    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match="No space left on device: free space on the disk") as told:
        save(tmp_path, {"a.png": Figure()})
    assert "svdbench report" in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


def test_plots_need_no_backend_of_the_users(tmp_path: Path) -> None:
    code = "import svdbench.cli as a\ntry: a.main(['--version'])\nexcept SystemExit: pass\n"
    code += "import matplotlib; print(matplotlib.get_backend())"
    env = os.environ | {"MPLBACKEND": "bogus"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert found.stdout.split()[-1].lower() == "agg", found.stderr


# --------------------------------------------------------------------- seeds


def test_seeds_are_those_of_a_row() -> None:
    swept = pd.DataFrame({"label": ["seed = 0", "seed = 1"], "seed": [0, 1]})
    assert medians(swept, "; medians of {}") == ""
    both = pd.DataFrame({"label": ["rnn", "rnn", "gru"], "seed": [0, 1, 0]})
    assert medians(both, "; medians of {}") == "; medians of 1 to 2 seeds"
    two = pd.DataFrame({"label": ["rnn", "rnn"], "seed": [0, 1]})
    assert medians(two, "; medians of {}") == "; medians of 2 seeds"


# -------------------------------------------------------------------- floors


def timed(d: int, method: str, kind: str, median: float, floor: float) -> dict[str, Any]:
    return {
        **{"d": d, "method": method, "kind": kind, "status": "ok", "pass": "step"},
        **{"median_s": median, "floor_s": floor, "bytes_floor_s": floor / 2, "vs_best": 2.0},
        **{"of_floor": floor / median, "of_larger_floor": floor / median, "foreign_cores": 0.0},
        **{"m": 32, "device": "cpu", "dtype": "float32", "threads": 1},
    }


STEP = [
    timed(64, "fasth", "wy", 1e-3, 25e-3),
    timed(64, "cayley", "cayley", 2e-3, 25e-3),
    timed(128, "fasth", "wy", 1e-3, 5e-4),
    timed(128, "cayley", "cayley", 2e-3, 5e-4),
]


def test_a_time_below_its_floor_voids_the_floor() -> None:
    step = pd.DataFrame(STEP)
    (line,) = disturbed(step)
    assert line.startswith("warning: at d = 64 the floor is invalid: fasth took 0.040× its time")
    assert [line[:7] for line in conclusions(step)] == ["d = 128"]
    floor = next(line for line in shown(rich_table(times_table(step)), 100) if "12ndm" in line)
    assert floor.split()[2:] == ["void", "500", "µs"]


@pytest.mark.parametrize(
    ("busy", "says"),
    [
        ([1.0] * 5, "warning: at 5 of 6 sizes other processes kept 1.0 cores busy"),
        ([0.9, 1.3, 1.0, 1.0], "warning: at 4 of 6 sizes other processes kept 0.9 to 1.3 cores"),
        ([1.0], "warning: at d = 4 other processes kept 1.0 cores busy"),
    ],
)
def test_many_disturbed_cells_are_one_line(busy: list[float], says: str) -> None:
    cores = [*busy, *[0.0] * (6 - len(busy))]
    rows = [
        timed(4 + i, "fasth", "wy", 1.0, 0.5) | {"foreign_cores": n} for i, n in enumerate(cores)
    ]
    (line,) = disturbed(pd.DataFrame(rows))
    assert line.startswith(says)
    assert line.endswith("repeat it on an idle machine")


def test_the_list_of_runs_leaves_out_what_is_below_its_floor() -> None:
    for rows, told in (
        (STEP, "d = 128: fasth 1.00 ms, then cayley at 2.00×"),
        (STEP[:2], "times below their floor, measured beside other processes"),
    ):
        found = Report("")
        timings.summarise_times(found, pd.DataFrame(rows))
        assert found.headline == told


def test_a_line_of_the_list_has_the_medians_of_the_report() -> None:
    names = ("test_accuracy", "accuracy", "baseline_loss", "relative_loss")
    names += ("steps_to_target", "seconds_to_target", "steps_per_s")
    usual = {"label": "rnn"} | dict.fromkeys(names, np.nan)
    losses = enumerate((0.1, 0.2, 0.9))
    rows = pd.DataFrame([usual | {"seed": seed, "test_loss": loss} for seed, loss in losses])
    for table, told in (
        (rows, "rnn: test loss 0.2"),
        (rows.assign(accuracy=0.5), "rnn: accuracy 50%, test loss 0.2"),
    ):
        values = metrics_of(table, ["rnn"])["rnn"]
        assert headline([("rnn", scores(values))]) == told
        assert {value.seeds for value in values.values()} == {3}


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("version", ["9" * 5000, "²", "٣" * 3, "-1", ""])
def test_a_version_that_is_none_is_one_line(version: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(f"schema_version,job,cell,status\n{version},x,c,ok\n")
    with pytest.raises(RecordError) as told:
        read_rows(path)
    assert len(str(told.value)) < 500
    for words in (["compare", str(tmp_path), str(tmp_path)], ["report", str(tmp_path)]):
        found = run(words)
        assert found.code in (0, 2)
        assert found.err.count("\n") <= 1


@pytest.mark.usefixtures("elsewhere")
def test_a_link_out_of_a_runs_folder_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a,b\nkept-to-myself,2\n")
    folder = tmp_path / "results" / "train" / "x"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    for name in ("loss.png", "summary.csv", "env.json"):
        (folder / name).symlink_to(secret)
    (folder / "loop.png").symlink_to("loop.png")
    found = run(["report", str(folder)])
    assert found.code == 0, found.err
    page = (folder / "report.html").read_text()
    assert "kept-to-myself" not in page
    assert b64encode(secret.read_bytes()).decode() not in page
    assert "summary.csv is a link to somewhere else" in page


@pytest.mark.usefixtures("elsewhere")
def test_a_memo_of_another_kind_is_one_line() -> None:
    words = ["train", "rnn", "--task", "addition", "--steps", "2", "--hidden", "4", "--name", "x"]
    words += ["task.length=5", "trainer.checkpoint=false"]
    assert run(words).code == 0
    journal = Path("results/train/x/progress.jsonl")
    lines = journal.read_text().splitlines()
    lines[1:] = ['{"unit": "seed 7", "tables": {}, "memo": {"endings": {"x": "ok"}}}']
    journal.write_text("\n".join(lines) + "\n")
    found = run(words)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "progress.jsonl is not what train writes" in found.err


@pytest.mark.parametrize("low", [1.0, 1.3, 2.7, 4.9, 8.5])
@pytest.mark.parametrize("span", [1.1, 1.5, 2.0, 4.0, 10.0, 100.0, 1e4])
def test_a_logarithmic_axis_has_a_handful_of_ticks(low: float, span: float) -> None:
    axes = Figure().add_subplot()
    axes.set_yscale("log")
    axes.set_ylim(low, low * span)
    set_log_ticks(axes.yaxis)
    inside = [tick for tick in axes.get_yticks() if low <= tick <= low * span]
    assert LEAST_TICKS <= len(inside) < 16


def test_labels_stand_apart_in_the_order_of_their_lines() -> None:
    axes = Figure(layout="constrained").add_subplot()
    for name, end in (("low", 1.0), ("high", 1.02), ("top", 9.0)):
        axes.plot([1, 2], [1.0, end], label=name)
    axes.plot([1, 1.5], [2.0, 3.0], label="short")
    axes.axhline(1.01, label="level")
    label_lines(axes)
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}  # type: ignore[attr-defined]
    beside = [heights[name] for name in ("low", "level", "high", "top")]
    assert beside == sorted(beside)
    assert min(np.diff(beside)) > 0.02
    assert heights["short"] == 7  # at its last point


def test_a_line_that_the_last_panel_lacks_has_its_label_in_an_earlier_one() -> None:
    grid = list(Figure(layout="constrained").subplots(1, 3))
    for axes in grid:
        axes.plot([1, 2], [1.0, 2.0], label="everywhere")
    for axes in grid[:2]:
        axes.plot([1, 2], [3.0, 4.0], label="early")
    label_panels(grid)
    labels = [[text.get_text() for text in axes.texts] for axes in grid]
    assert labels == [[], ["early"], ["everywhere"]]


@pytest.mark.parametrize("places", [[], [0.5], [0.9, 0.9, 0.9], [0.0, 0.01, 1.0], [0.2] * 12])
def test_spread_places_are_apart_and_inside(places: list[float]) -> None:
    found = sorted(spread(places, 0.08))
    assert all(after - before > 0.08 - 1e-9 for before, after in pairwise(found))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in found)


def test_a_name_has_one_colour_in_every_picture() -> None:
    few, many = styles_of(["fasth", "mine:Mine"]), styles_of(["cayley", "parallel", "fasth"])
    assert few["fasth"] == many["fasth"]
    assert few["fasth"]["color"] == "#000000"
    assert (
        styles_of(["lstm"])["lstm"]["color"] == styles_of(["lstm, start"])["lstm, start"]["color"]
    )


@pytest.mark.parametrize("registry", [METHODS, MODELS, DRIVERS], ids=lambda each: each.folder)
def test_no_two_members_are_told_apart_by_dashes_alone(registry: Registry) -> None:
    looks = [(style["color"], style["marker"]) for style in styles_of(registry.names()).values()]
    assert len(set(looks)) == len(looks)
