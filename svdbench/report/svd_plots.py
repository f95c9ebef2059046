"""The plot of a ``time-svd`` run: time against error over the best, a panel for each shape."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from svdbench.reporting.plots import HUES, quiet, save
from svdbench.reporting.words import tick

if TYPE_CHECKING:
    import pandas as pd

# Ours stand out; those of one library have one mark.
STYLES: dict[str, tuple[str, str]] = {
    "auto": ("black", "*"),
    "randomized": (HUES[0], "o"),
    "gram": (HUES[5], "o"),
    "torch_svd": (HUES[1], "s"),
    "torch_svd_lowrank": (HUES[4], "s"),
    "torch_svd_lowrank_oversampled": (HUES[6], "s"),
    "sklearn_randomized": (HUES[2], "^"),
    "scipy_svds": (HUES[3], "D"),
}
SIZES = (4.5, 7.0, 9.5)
# Errors nearer to the best than this are drawn here: rounding.
LEAST = 1e-6


def draw_all(folder: Path, judged: "pd.DataFrame", good: float) -> list[Path]:
    """Write ``time_against_error.png`` into the run's folder; returns its path, if there is one.

    Args:
        judged: a row for each driver, shape and rank.
        good: the error over the best from which on a driver is not comparable.
    """
    if judged.empty:
        return []
    shapes = sorted({(row.m, row.n) for row in judged.itertuples()}, key=lambda s: s[0] * s[1])
    ranks = sorted(set(judged["k"]))
    columns = min(3, len(shapes))
    lines = math.ceil(len(shapes) / columns)
    figure = Figure(figsize=(3.2 + 3.7 * columns, 0.9 + 3.4 * lines), layout="constrained", dpi=160)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axes, (m, n) in zip(grid, shapes, strict=False):
        _panel(axes, judged[(judged["m"] == m) & (judged["n"] == n)], ranks, good)
        axes.set_title(f"{m} × {n}", loc="left", fontsize=10)
    for i, axes in enumerate(grid):
        if i >= len(shapes):
            axes.set_visible(False)
        elif i + columns >= len(shapes):
            axes.set_xlabel("time, slowest spectrum")
        if i % columns == 0:
            axes.set_ylabel("error over the best, worst spectrum")
    row = judged.iloc[0]
    where = row["device"] if row["device"] != "cpu" else f"cpu, threads: {row['threads']:.0f}"
    title = f"The first k singular triplets  ({row['dtype']}, {where}; left and low is good)"
    figure.suptitle(title, x=0.01, ha="left")
    figure.legend(
        handles=_legend(judged, ranks, good), loc="outside right center", frameon=False, fontsize=9
    )
    return save(folder, {"time_against_error.png": figure})


def _panel(axes: Axes, rows: "pd.DataFrame", ranks: list[int], good: float) -> None:
    for method, own in rows.groupby("method"):
        own = own.sort_values("k")
        style = _style(str(method))
        heights = (own["over_optimal"] - 1).clip(lower=LEAST)
        axes.plot(own["time_s"], heights, color=style["color"], lw=0.9, alpha=0.45)
        for k, x, y in zip(own["k"], own["time_s"], heights, strict=True):
            axes.plot(x, y, linestyle="", markersize=_size(k, ranks, method), **style)
    axes.axhline(good - 1, color="#888888", ls="--", lw=1, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(LEAST / 2, 1)
    axes.xaxis.set_major_locator(FixedLocator(_times(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
    marks = {LEAST: "exact", 1e-4: "1.0001×", 1e-3: "1.001×", 1e-2: "1.01×", 1e-1: "1.1×", 1: "2×"}
    axes.yaxis.set_major_locator(FixedLocator(list(marks)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: marks.get(y, "")))
    axes.yaxis.set_minor_locator(NullLocator())
    quiet(axes)


def _times(low: float, high: float) -> list[float]:
    """Round numbers in between, about as many whether that is one decade or four."""
    digits = (1, 2, 5) if high < 20 * low else (1, 3)
    found = [digit * 10.0**power for power in range(-9, 4) for digit in digits]
    return [time for time in found if low <= time <= high]


def _style(method: str) -> dict[str, Any]:
    color, mark = STYLES.get(method, (HUES[7], "P"))
    hollow = {"markerfacecolor": "none"} if method == "auto" else {}
    return {"color": color, "marker": mark, "zorder": 5 if method == "auto" else 3, **hollow}


def _size(k: int, ranks: list[int], method: Any) -> float:
    place = ranks.index(k) * (len(SIZES) - 1) // max(len(ranks) - 1, 1)
    return SIZES[place] + (4 if method == "auto" else 0)  # around the driver that it chose


def _legend(judged: "pd.DataFrame", ranks: list[int], good: float) -> list[Line2D]:
    methods = [name for name in STYLES if name in set(judged["method"])]
    methods += sorted(set(judged["method"]) - set(methods))
    handles = [
        Line2D([], [], linestyle="", markersize=7, label=method, **_style(method))
        for method in methods
    ]
    handles.append(Line2D([], [], linestyle="", label=" "))
    for k in ranks:
        size = _size(k, ranks, "")
        handles.append(
            Line2D(
                [], [], linestyle="", marker="o", color="#999999", markersize=size, label=f"k = {k}"
            )
        )
    handles.append(Line2D([], [], ls="--", color="#888888", lw=1, label=f"{good}× the best"))
    return handles
