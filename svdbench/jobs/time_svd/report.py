"""The report of a ``time-svd`` run: time against error, by driver."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric
from svdbench.reporting.plots import fix_ticks, panels, quiet
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import styles_of
from svdbench.reporting.words import fixed, quantity, ratio, seconds, tick
from svdbench.timings.report import Styles, disturbed, summarise_times, times_of

# Drivers count as comparable whose error is at most so many times the best, on every spectrum.
GOOD = 1.01
AUTO, FULL, PEER = "auto", "torch_svd", "torch_svd_lowrank"
NOTE = (
    "time: median on the slowest spectrum; error: the largest Frobenius error over the "
    f"smallest possible at rank k; dim: above {GOOD} on one spectrum"
)
TIME = Metric("time", "time_s", "s", "lower", "median on the slowest spectrum", seconds)
ERROR = Metric(
    "error over the smallest possible",
    *("over_optimal", "×", "lower", "largest of all spectra"),
    partial(fixed, decimals=3),
)
# Markers by who made the driver, and marker sizes of the ranks.
MARKS = {"auto": "*", "torch": "s", "sklearn": "^", "scipy": "D"}
SIZES = (4.5, 7.0, 9.5)
# Errors nearer to the best than this are drawn here: rounding.
LEAST = 1e-6


def report(run: RecordedRun) -> Report:
    summary = run.frame("summary")
    judged = by_driver(summary)
    found = Report("the first k singular triplets", frames={"drivers": judged})
    accurate = judged[judged["good"] & (judged["method"] != AUTO)]
    shape = disturbed(summary, ["m", "n"], lambda row: f"{row['m']} × {row['n']}")
    found.warnings = list(shape)
    found.metrics = times_of(judged, TIME)
    summarise_times(found, accurate, TIME, sizes=("m", "n", "k"))
    found.metrics += [
        ERROR.of(row["over_optimal"], **{name: row[name] for name in ("method", "m", "n", "k")})
        for row in judged.to_dict("records")
    ]
    tables = [shape_table(rows) for _, rows in judged.groupby(["m", "n"])]
    if tables:
        tables[-1].note = NOTE
        found.figures["time_against_error"] = partial(time_against_error, judged)
    found.blocks += [*tables, Lines([*conclusions(judged), *without_number(summary)])]
    return found


def by_driver(summary: pd.DataFrame) -> pd.DataFrame:
    """A row for each driver, shape and rank, over all spectra; drivers without a time are left out.

    ``time_s`` is the largest of the medians, ``over_optimal`` the largest error, ``good``
    whether that is at most ``GOOD``. Who failed on a spectrum has no row.
    """
    cells = ["m", "n", "k", "method"]
    whole = summary.groupby(cells)["status"].transform(lambda status: (status == "ok").all())
    about = {name: (name, "first") for name in ("ours", "exact", "chosen", "dtype", "device")}
    judged = (
        summary[whole]
        .groupby(cells)
        .agg(
            time_s=("median_s", "max"),
            over_optimal=("over_optimal", "max"),
            threads=("threads", "first"),
            spectra=("spectrum", "nunique"),
            **about,
        )
        .reset_index()
    )
    return judged.assign(good=judged["over_optimal"] <= GOOD)


def shape_table(rows: pd.DataFrame) -> Table:
    """A section for each rank of one shape, its drivers from the fastest to the slowest."""
    first = rows.iloc[0]
    title = f"the first k singular triplets of {first['m']} × {first['n']}"
    table = Table.of(title, ["k", "driver"], ["time", "error"])
    for k, own in rows.sort_values(["k", "time_s"]).groupby("k"):
        for row in own.to_dict("records"):
            table.add(
                str(k),
                row["method"],
                TableCell.number(row["time_s"], seconds),
                TableCell.number(row["over_optimal"], ERROR.form),
                style="" if row["good"] else "dim",
            )
        table.end_section()
    return table


def conclusions(judged: pd.DataFrame) -> Iterator[str]:
    """For each shape and rank: the automatic choice against the fastest, and ours against torch."""
    for (m, n, k), cell in judged.groupby(["m", "n", "k"]):
        rows = {row["method"]: row for row in cell.to_dict("records")}
        words = []
        rivals = [row for row in rows.values() if row["good"] and row["method"] != AUTO]
        if AUTO in rows and rivals:
            best = min(rivals, key=lambda row: row["time_s"])
            times = ratio(rows[AUTO]["time_s"] / best["time_s"])
            words.append(
                f"{AUTO} ({rows[AUTO]['chosen']}) takes {times} the time of the fastest "
                f"within {GOOD}, {best['method']}"
            )
        ours = rows.get("randomized")
        for name in (FULL, PEER):
            if ours and name in rows:
                times = ratio(rows[name]["time_s"] / ours["time_s"])
                words.append(f"{name} {times} that of randomized")
        if words:
            yield f"{m} × {n}, k = {k}: {'; '.join(words)}"


def without_number(summary: pd.DataFrame) -> Iterator[str]:
    """The drivers without a time, with the reason, once for each shape and rank."""
    missing = summary[summary["status"] != "ok"]
    for _, rows in missing.groupby(["method", "m", "n", "k"]):
        row = rows.iloc[0]
        yield f"{row['method']} {row['status']} at {place(row)}: {row['reason']}"


def place(row: Any) -> str:
    return f"{row['m']} × {row['n']}, k = {row['k']}, {row['spectrum']}"


def time_against_error(judged: pd.DataFrame) -> Figure:
    shapes = sorted({(row.m, row.n) for row in judged.itertuples()}, key=lambda s: s[0] * s[1])
    ranks = sorted(set(judged["k"]))
    figure, grid = panels(len(shapes), 3, (3.7, 3.4), (3.2, 0.9), sharey=True)
    styles = _styles(judged)
    columns = min(3, len(shapes))
    for i, (axes, (m, n)) in enumerate(zip(grid, shapes, strict=True)):
        _panel(axes, judged[(judged["m"] == m) & (judged["n"] == n)], ranks, styles)
        axes.set_title(f"{m} × {n}", loc="left", fontsize=10)
        if i + columns >= len(shapes):
            axes.set_xlabel("time, slowest spectrum")
        if i % columns == 0:
            axes.set_ylabel("error / smallest possible, worst spectrum")
    row = judged.iloc[0]
    where = (
        row["device"] if row["device"] != "cpu" else f"cpu, {quantity(row['threads'], 'thread')}"
    )
    about = f"{row['dtype']}, {where}; lower left is better"
    title = f"Error and time of the first k singular triplets  ({about})"
    figure.suptitle(title, x=0.01, ha="left")
    handles = _legend(styles, ranks)
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, ranks: list[int], styles: Styles) -> None:
    for method, own in rows.groupby("method"):
        own = own.sort_values("k")
        style = styles[str(method)]
        heights = (own["over_optimal"] - 1).clip(lower=LEAST)
        axes.plot(own["time_s"], heights, color=style["color"], lw=0.9, alpha=0.45)
        for k, x, y in zip(own["k"], own["time_s"], heights, strict=True):
            axes.plot(x, y, linestyle="", markersize=_size(k, ranks, method), **style)
    axes.axhline(GOOD - 1, color="#888888", ls="--", lw=1, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(LEAST / 2, 1)
    fix_ticks(axes.xaxis, _times(*axes.get_xlim()), tick)
    axes.tick_params(axis="x", labelsize=8.5)
    marks = {LEAST: "exact", 1e-4: "1.0001×", 1e-3: "1.001×", 1e-2: "1.01×", 1e-1: "1.1×", 1: "2×"}
    fix_ticks(axes.yaxis, list(marks), lambda y: marks.get(y, ""))
    quiet(axes)


def _times(low: float, high: float) -> list[float]:
    """Round numbers in between, about as many whether that is one decade or four."""
    digits = (1, 2, 5) if high < 20 * low else (1, 3)
    found = [digit * 10.0**power for power in range(-9, 4) for digit in digits]
    return [time for time in found if low <= time <= high]


def _styles(judged: pd.DataFrame) -> Styles:
    """The automatic choice first, hollow around the driver that it chose."""
    methods = sorted(set(judged["method"]), key=lambda name: (name != AUTO, name))
    found: Styles = {}
    for method, style in styles_of(methods).items():
        marker = MARKS.get(method.partition("_")[0], "o")
        found[method] = {"color": style["color"], "marker": marker, "zorder": 3}
        if method == AUTO:
            found[method] |= {"markerfacecolor": "none", "zorder": 5}
    return found


def _size(k: int, ranks: list[int], method: Any) -> float:
    place = ranks.index(k) * (len(SIZES) - 1) // max(len(ranks) - 1, 1)
    return SIZES[place] + (4 if method == "auto" else 0)  # around the driver that it chose


def _legend(styles: Styles, ranks: list[int]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", markersize=7, label=method, **style)
        for method, style in styles.items()
    ]
    handles.append(Line2D([], [], linestyle="", label=" "))
    for k in ranks:
        size = _size(k, ranks, "")
        handles.append(
            Line2D(
                [], [], linestyle="", marker="o", color="#999999", markersize=size, label=f"k = {k}"
            )
        )
    handles.append(Line2D([], [], ls="--", color="#888888", lw=1, label=f"{GOOD}× the best"))
    return handles
