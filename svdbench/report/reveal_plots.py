"""The plots of a ``rank-reveal`` run: exact curves of each layer, and frontiers."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from svdbench.reporting.plots import HUES, MARKS, plot_band, plot_line, quiet, save

if TYPE_CHECKING:
    import pandas as pd

MOST_LAYERS = 12
NAMES = {
    "kronecker": "Kronecker-whitened, ours",
    "whitened": "activation-whitened, ours",
    "uniform": "uniform",
    "energy": "same energy per layer",
    "minimax": "least largest error (ALDS)",
    "exhaustive": "exhaustive",
}


def draw_all(folder: Path, tables: Mapping[str, "pd.DataFrame"]) -> list[Path]:
    """Write the plots into the run's folder; returns their paths."""
    figures = {}
    if "curves" in tables:
        figures["curves.png"] = by_rank(tables["curves"], tables["samples"], tables["summary"])
    if "frontier" in tables and (tables["frontier"]["status"] == "ok").any():
        figures["frontier.png"] = by_size(tables["frontier"], tables["summary"])
    return save(folder, figures)


def by_rank(curves: "pd.DataFrame", samples: "pd.DataFrame", summary: "pd.DataFrame") -> Figure:
    """Loss against the rank of each layer, means over seeds with their range."""
    layers = list(curves["layer"].unique())[:MOST_LAYERS]
    columns = min(len(layers), 4)
    rows = math.ceil(len(layers) / columns)
    figure = Figure(figsize=(3.2 + 3.4 * columns, 0.9 + 3.0 * rows), layout="constrained", dpi=150)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    epsilon = float(summary.loc[summary["method"] == "exact", "epsilon"].iloc[0])
    for axes, layer in zip(grid, layers, strict=False):
        own = curves[curves["layer"] == layer]
        _curve(axes, own, epsilon)
        _revealed(axes, own, samples[samples["layer"] == layer])
        shape = samples[samples["layer"] == layer].iloc[0]
        axes.set_title(f"{layer}, {shape['rows']}×{shape['columns']}", loc="left", fontsize=10)
        axes.set_xlabel("rank")
        quiet(axes)
    for axes in grid[len(layers) :]:
        axes.set_axis_off()
    for axes in grid[: len(layers) : columns]:
        axes.set_ylabel("loss with this layer at the rank, nats")
    figure.suptitle(_title(curves, "exact curves"), x=0.01, ha="left")
    found: dict[str, Any] = {}
    for axes in grid[: len(layers)]:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        found.values(), found.keys(), loc="outside right upper", frameon=False, fontsize=9
    )
    return figure


def _curve(axes: Axes, own: "pd.DataFrame", epsilon: float) -> None:
    by = own.groupby("rank")["loss"]
    mean, dense = by.mean(), float(own["dense_loss"].mean())
    plot_band(axes, mean.index, by.min(), by.max(), HUES[0], 0.2)
    plot_line(axes, mean.index, mean, color=HUES[0], lw=1.8, label="loss")
    axes.axhline(dense, color="black", lw=1.4, label="dense")
    axes.axhline(dense + epsilon, color="black", lw=1, ls=":", label=f"dense + {epsilon:g}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    full = int(own["full"].iloc[0])
    ticks = [2**i for i in range(int(math.log2(full)) + 1)]
    ticks = ticks[:: 1 + len(ticks) // 7]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if t < full / 1.5] + [full]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    _numbers(axes)


def _revealed(axes: Axes, own: "pd.DataFrame", samples: "pd.DataFrame") -> None:
    """Marks on the mean curve at the ranks that algorithms found, with their range."""
    mean = own.groupby("rank")["loss"].mean()
    for i, (method, rows) in enumerate(samples.groupby("method", sort=False)):
        ranks = rows["rank"].fillna(rows["full"]).astype(float)
        middle = ranks.mean()
        at = float(np.interp(middle, mean.index, mean))
        axes.errorbar(
            [middle],
            [at],
            xerr=[[middle - ranks.min()], [ranks.max() - middle]],
            color=HUES[1 + i % (len(HUES) - 1)],
            marker=MARKS[i % len(MARKS)],
            ms=7,
            capsize=3,
            ls="none",
            zorder=5,
            label=f"rank by {method}" if not str(method).startswith("rank") else str(method),
        )


def by_size(points: "pd.DataFrame", summary: "pd.DataFrame") -> Figure:
    """Test loss against the part of the weights kept, means over seeds with their range."""
    figure = Figure(figsize=(9.6, 5.4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    done = points[points["status"] == "ok"]
    for i, method in enumerate(name for name in NAMES if (done["method"] == name).any()):
        own = done[done["method"] == method]
        seeds = own.groupby("budget")["seed"].nunique()
        own = own[own["budget"].map(seeds) == seeds.max()]  # the same networks everywhere
        by = own.groupby("budget")
        x, loss = by["fraction"].mean() * 100, by["loss"]
        style: dict[str, Any] = {"color": HUES[i % len(HUES)], "marker": MARKS[i % len(MARKS)]}
        ours = method in ("kronecker", "whitened")
        axes.plot(x, loss.mean(), label=NAMES[method], lw=2.2 if ours else 1.3, ms=5, **style)
        plot_band(axes, x, loss.min(), loss.max(), style["color"], 0.13)
    dense = done.drop_duplicates("seed")["dense_loss"].mean()
    axes.axhline(dense, color="black", lw=1.4, label="dense")
    chosen = summary[summary["method"] == "frontier"]
    if len(chosen):
        axes.plot(
            [100 * chosen["kept"].mean()],
            [chosen["loss"].mean()],
            marker="*",
            ms=15,
            ls="none",
            color="black",
            zorder=6,
            label="chosen by frontier",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [2, 3, 5, 10, 20, 30, 50, 100]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if t >= axes.get_xlim()[0]]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} %"))
    axes.xaxis.set_minor_locator(NullLocator())
    _numbers(axes)
    axes.set_xlabel("numbers in the weights that are kept")
    axes.set_ylabel("test loss, nats")
    quiet(axes)
    figure.suptitle(_title(points, "frontiers, without fine-tuning"), x=0.01, ha="left")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _title(rows: "pd.DataFrame", what: str) -> str:
    row, seeds = rows.iloc[0], rows["seed"].nunique()
    return f"{row['dataset']}, {row['model']}: {what}" + (
        f", mean and range of {seeds} seeds" if seeds > 1 else ""
    )


def _numbers(axes: Axes) -> None:
    """A logarithmic axis of losses as plain numbers."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
