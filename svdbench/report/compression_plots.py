"""The plots of a ``compress`` run: scores and time by epoch, and differences by rank."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from svdbench.report.compression_arms import STOCK, Compared
from svdbench.reporting.plots import HUES, plot_band, plot_line, quiet, save, tick_digits
from svdbench.reporting.words import share, tick
from svdbench.statistics.intervals import mean_interval

if TYPE_CHECKING:
    import pandas as pd

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))
# With more arms, bands hide each other.
MOST_BANDS = 6
# Instead of zero and less, which a logarithmic axis hasn't.
LEAST = 1e-9
Styles = dict[str, dict[str, Any]]


def draw_all(folder: Path, run: "pd.DataFrame", arms: list[Compared]) -> list[Path]:
    """Write the plots into the run's folder; returns their paths."""
    figures = {"training.png": by_epoch(run, arms)}
    if len({arm.rank for arm in arms if arm.name != STOCK}) > 1:
        figures["rank.png"] = by_rank(run, arms)
    return save(folder, figures)


def _styles(arms: list[Compared]) -> Styles:
    """Stock is black and thick; one hue a method, or a rank where there are several."""
    others = [arm for arm in arms if arm.name != STOCK]
    methods = list(dict.fromkeys(arm.method for arm in others))
    ranks = sorted({arm.rank for arm in others})
    styles: Styles = {STOCK: {"color": "black", "lw": 2.2, "zorder": 2}}
    for arm in others:
        i, j = methods.index(arm.method), ranks.index(arm.rank)
        hue, dash = (i, i) if len(ranks) == 1 else (j, i)
        styles[arm.name] = {
            "color": HUES[hue % len(HUES)],
            "ls": DASHES[dash % len(DASHES)],
            "lw": 1.6,
            "zorder": 3 + i,
        }
    return styles


def by_epoch(run: "pd.DataFrame", arms: list[Compared]) -> Figure:
    """Test error and loss, means over seeds with 95 % bands; time of an epoch, quartiles."""
    figure = Figure(figsize=(13.0, 4.4), layout="constrained", dpi=150)
    grid = figure.subplots(1, 3)
    styles = _styles(arms)
    run = run.assign(error=1 - run["accuracy"])
    for axes, column in zip(grid, ("error", "loss", "epoch_s"), strict=True):
        for arm in arms:
            rows = run[run["arm"] == arm.name].groupby("epoch")[column]
            band = _quartiles(rows) if column == "epoch_s" else _interval(rows)
            style = styles[arm.name]
            epochs, middle = list(rows.groups), band[1]
            plot_line(axes, epochs, middle, label=arm.name, **style)
            if len(arms) <= MOST_BANDS:
                plot_band(axes, epochs, band[0], band[2], style["color"])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        quiet(axes)
    for axes in grid[:2]:
        axes.set_yscale("log")
        means = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        means = means[means > 0]
        if len(means):  # not by the bands: a wide one would flatten the rest
            axes.set_ylim(means.min() / 1.4, means.max() * 1.4)
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=tick_digits(high / low)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    grid[0].set_ylim(top=min(1.0, grid[0].get_ylim()[1]))
    names = ("test error", "test loss, nats", "time of an epoch (median, quartile band)")
    forms = (share, lambda y: f"{y:g}", lambda y: tick(y) if y else "0")
    for axes, name, form in zip(grid, names, forms, strict=True):
        axes.set_title(name, loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _, form=form: form(y)))
    grid[2].set_ylim(bottom=0)
    figure.suptitle(_title(run), x=0.01, ha="left")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure


Band = tuple[list[float], list[float], list[float]]


def _interval(rows: Any) -> Band:
    """Means of each epoch with their intervals; those of one seed have no width."""
    found: Band = ([], [], [])
    for _, values in rows:
        one = mean_interval(list(values))
        wide = one.count > 1
        found[0].append(max(one.low, LEAST) if wide else one.mean)
        found[1].append(one.mean)
        found[2].append(one.high if wide else one.mean)
    return found


def _quartiles(rows: Any) -> Band:
    low, middle, high = (list(rows.quantile(share)) for share in (0.25, 0.5, 0.75))
    return low, middle, high


def by_rank(run: "pd.DataFrame", arms: list[Compared]) -> Figure:
    """How far error and loss are from stock's at each rank, with 95 % intervals."""
    figure = Figure(figsize=(10.5, 4.4), layout="constrained", dpi=150)
    grid = figure.subplots(1, 2)
    others = [arm for arm in arms if arm.name != STOCK]
    methods = list(dict.fromkeys(arm.method for arm in others))
    ranks = sorted({arm.rank for arm in others})
    for axes, name, scale in zip(grid, ("error", "loss"), (100, 1), strict=True):
        for i, method in enumerate(methods):
            own = sorted((a for a in others if a.method == method), key=lambda arm: arm.rank)
            found = [getattr(arm, f"{name}_difference") for arm in own]
            half = [scale * one.halfwidth if np.isfinite(one.halfwidth) else 0 for one in found]
            axes.errorbar(
                [ranks.index(arm.rank) for arm in own],
                [scale * one.mean for one in found],
                yerr=half,
                label=method,
                color=HUES[i % len(HUES)],
                marker="osD^vP*X"[i % 8],
                # Points of several methods may coincide: the later are smaller and hollow less.
                ms=10 - 6 * i / max(1, len(methods) - 1),
                markerfacecolor="none" if i < len(methods) - 1 else None,
                lw=1.5,
                capsize=8 - 5 * i / max(1, len(methods) - 1),
            )
        axes.axhline(0, color="black", lw=1.5, label="stock")
        axes.set_xticks(range(len(ranks)), [f"{rank:g}" for rank in ranks])
        axes.set_xlabel("rank of the weights")
        quiet(axes)
    grid[0].set_ylabel("test error − stock's, points")
    grid[1].set_ylabel("test loss − stock's, nats")
    figure.suptitle(_title(run), x=0.01, ha="left")
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _title(run: "pd.DataFrame") -> str:
    row, seeds = run.iloc[0], run["seed"].nunique()
    bands = f"mean of {seeds} seeds, 95 % intervals" if seeds > 1 else "one seed"
    return f"{row['dataset']}, {row['model']}: {bands}"
