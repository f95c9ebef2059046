"""The plots of a ``time-rnn`` run: time by hidden size and by length, and the ratio to torch."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from svdbench.reporting.plots import HUES, dress, save
from svdbench.timings.report import draw_times, slowest_first, where

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "torch_rnn"
KINDS = ("spectral", "rnn", "lstm", "gru", "fasth", "reflectors")
# What a size is called along an axis, and before a number.
AXES = {"d": ("n, hidden units", "n"), "length": ("T, steps", "T")}

Draw = Callable[[Axes, "pd.DataFrame", dict[str, dict[str, Any]], str], None]


def draw_all(folder: Path, timed: "pd.DataFrame") -> list[Path]:
    """Write the plots into the run's folder; returns their paths.

    Args:
        timed: the rows of ``summary.csv`` of steps that have a number.
    """
    if timed.empty:
        return []
    about = f"({where(timed.iloc[0])}, B = {timed['m'].iloc[0]})"
    title = f"A loop over T steps, forward and backward  {about}"
    what = _times, title, "time of a step (median, quartile band)"
    figures = {"step_time.png": _figure(timed, "d", "length", *what)}
    if timed["length"].nunique() > 1:
        figures["step_time_by_length.png"] = _figure(timed, "length", "d", *what)
    if BASELINE in set(timed["method"]):
        what = _ratio, title, f"step time / {BASELINE}'s"
        figures[f"ratio_to_{BASELINE}.png"] = _figure(timed, "d", "length", *what)
    return save(folder, figures)


def _figure(
    timed: "pd.DataFrame", x: str, panel: str, draw: Draw, title: str, height: str
) -> Figure:
    """A panel for each value of ``panel``, all with ``x`` across and the same heights."""
    values = sorted(set(timed[panel]))
    width = 4.4 if len(values) > 1 else 6.4
    figure = Figure(figsize=(3.4 + width * len(values), 5.4), layout="constrained", dpi=160)
    styles = _styles(timed)
    grid = figure.subplots(1, len(values), sharey=True, squeeze=False).flatten()
    for axes, value in zip(grid, values, strict=True):
        draw(axes, timed[timed[panel] == value], styles, x)
        dress(axes, sorted(set(timed[x])))
        axes.set_title(f"{AXES[panel][1]} = {value}", loc="left", fontsize=10)
        axes.set_xlabel(AXES[x][0])
    grid[0].set_ylabel(height)
    figure.suptitle(title, x=0.01, ha="left")
    entries: dict[str, Artist] = {}
    for axes in reversed(grid):  # what has no number in the last panel may have in another
        handles, labels = axes.get_legend_handles_labels()
        entries = entries | dict(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()), list(entries), loc="outside right center", frameon=False, fontsize=9
    )
    return figure


def _styles(timed: "pd.DataFrame") -> dict[str, dict[str, Any]]:
    """Colour by kind; where W is made of reflectors, hollow marks where they are the fewest."""
    styles: dict[str, dict[str, Any]] = {}
    kinds = [*KINDS, *sorted(set(timed["kind"]) - set(KINDS))]
    for method, rows in timed.groupby("method"):
        kind = rows["kind"].iloc[0]
        few = not str(method).endswith("_n") and rows["n"].max() > 0
        style: dict[str, Any] = {
            "color": "black" if kind == KINDS[0] else HUES[kinds.index(kind) % len(HUES)],
            "marker": "o" if few else "s",
            "markersize": 5.5,
            "linewidth": 2.4 if kind == KINDS[0] else 1.5,
            "zorder": 5 if kind == KINDS[0] else 3,
        }
        styles[str(method)] = style | ({"markerfacecolor": "white"} if few else {})
    return styles


def _times(axes: Axes, timed: "pd.DataFrame", styles: dict[str, dict[str, Any]], x: str) -> None:
    for method in slowest_first(timed):
        draw_times(axes, timed, method, styles[method], x)
        rows = timed[timed["method"] == method].sort_values(x)
        expected = rows["slides_ops"]
        if expected.notna().all() and len(rows) > 1:
            scaled = expected * (rows["median_s"].iloc[0] / expected.iloc[0])
            axes.plot(rows[x], scaled, ":", color=styles[method]["color"], lw=1.6, zorder=2)
    floor = timed.drop_duplicates(x).sort_values(x)
    if floor["floor_s"].notna().all():
        label = "floor: 6TBn² flop\nat matmul rate"
        mark = "" if len(floor) > 1 else "_"
        axes.plot(floor[x], floor["floor_s"], "--", marker=mark, color="#888888", label=label)
    if timed["slides_ops"].notna().any() and len(floor) > 1:
        label = "slides' expectation,\nfrom the first point"
        axes.plot([], [], ":", color="#555555", lw=1.6, label=label)


def _ratio(axes: Axes, timed: "pd.DataFrame", styles: dict[str, dict[str, Any]], x: str) -> None:
    base = timed[timed["method"] == BASELINE].set_index(x)["median_s"]
    for method in slowest_first(timed):
        rows = timed[(timed["method"] == method) & timed[x].isin(base.index)].sort_values(x)
        if method != BASELINE and len(rows):
            ratio = rows["median_s"].to_numpy() / base.loc[rows[x]].to_numpy()
            axes.plot(rows[x], ratio, label=method, **styles[method])
    axes.axhline(1, color=styles[BASELINE]["color"], lw=2, label=BASELINE)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
