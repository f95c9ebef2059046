"""The plots of a ``rank-reveal`` run: loss over the rank of each layer, and over the size."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.reporting import plots
from svdbench.reporting.styles import GREY, MARKS, lines_of
from svdbench.reporting.words import number, size

# More panels than these can't be read.
MOST_LAYERS = 12
NAMES = {
    "kronecker": "Kronecker-whitened, ours",
    "whitened": "activation-whitened, ours",
    "uniform": "uniform",
    "energy": "same energy per layer",
    "minimax": "least largest error (ALDS)",
    "exhaustive": "exhaustive",
}


def by_rank(curves: pd.DataFrame, samples: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Loss against the rank of each layer, means over seeds with their range."""
    layers = list(curves["layer"].unique())[:MOST_LAYERS]
    figure, grid = plots.panels(len(layers), 4, (3.4, 3.0), (3.2, 0.9), sharey=True)
    methods = list(dict.fromkeys(samples["method"]))
    epsilon = float(summary.loc[summary["method"] == "exact", "epsilon"].iloc[0])
    for axes, layer in zip(grid, layers, strict=True):
        own = curves[curves["layer"] == layer]
        _curve(axes, own, epsilon)
        _revealed(axes, own, samples[samples["layer"] == layer], methods)
        shape = samples[samples["layer"] == layer].iloc[0]
        axes.set_title(f"{layer}, {shape['rows']}×{shape['columns']}", loc="left", fontsize=10)
        axes.set_xlabel("rank")
        plots.quiet(axes)
    for axes in grid[::4]:
        axes.set_ylabel("loss with this layer at this rank, nats")
    plots.add_title_and_legend(figure, _about(curves, "loss by the rank of one layer"))
    return figure


def _curve(axes: Axes, own: pd.DataFrame, epsilon: float) -> None:
    by = own.groupby("rank")["loss"]
    mean, dense = by.mean(), float(own["dense_loss"].mean())
    plots.plot_band(axes, mean.index, by.min(), by.max(), GREY, 0.2)
    plots.plot_line(axes, mean.index, mean, color=GREY, lw=1.8, label="loss")
    axes.axhline(dense, color="black", lw=1.4, label="dense")
    axes.axhline(dense + epsilon, color="black", lw=1, ls=":", label=f"dense + {number(epsilon)}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    full = int(own["full"].iloc[0])
    ticks = [2**i for i in range(int(math.log2(full)) + 1)]
    ticks = ticks[:: 1 + len(ticks) // 7]
    plots.fix_ticks(axes.xaxis, [t for t in ticks if t < full / 1.5] + [full])
    plots.name_log_ticks(axes.yaxis, number)


def _revealed(axes: Axes, own: pd.DataFrame, samples: pd.DataFrame, methods: list[str]) -> None:
    """Marks on the mean curve at the ranks that algorithms found, with their range."""
    mean = own.groupby("rank")["loss"].mean()
    styles = lines_of(methods)
    for method, rows in samples.groupby("method", sort=False):
        i = methods.index(str(method))
        ranks = rows["rank"].fillna(rows["full"]).astype(float)
        middle = ranks.mean()
        at = float(np.interp(middle, mean.index, mean))
        axes.errorbar(
            [middle],
            [at],
            xerr=[[middle - ranks.min()], [ranks.max() - middle]],
            color=styles[method]["color"],
            capsize=3 + i,
            ls="none",
            zorder=5 + len(methods) - i,
            **MARKS[i % len(MARKS)],  # several may be at the same rank
            label=f"rank by {method}" if not str(method).startswith("rank") else str(method),
        )


def by_size(points: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Test loss against the part of the weights kept, means over seeds with their range."""
    figure = plots.new_figure(9.6, 5.4)
    axes = figure.add_subplot()
    done = points[points["status"] == "ok"]
    methods = [name for name in NAMES if (done["method"] == name).any()]
    for i, (method, style) in enumerate(lines_of(methods).items()):
        own = done[done["method"] == method]
        seeds = own.groupby("budget")["seed"].nunique()
        own = own[own["budget"].map(seeds) == seeds.max()]  # the same networks everywhere
        by = own.groupby("budget")
        x, loss = by["fraction"].mean() * 100, by["loss"]
        axes.plot(x, loss.mean(), label=NAMES[method], **style, **MARKS[i % len(MARKS)])
        plots.plot_band(axes, x, loss.min(), loss.max(), style["color"], 0.13)
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
    least = axes.get_xlim()[0]
    plots.fix_ticks(axes.xaxis, [t for t in ticks if t >= least], lambda t: f"{size(t)}%")
    plots.name_log_ticks(axes.yaxis, number)
    axes.set_xlabel("parameters kept in the weights")
    axes.set_ylabel("test loss, nats")
    plots.quiet(axes)
    plots.add_title_and_legend(figure, _about(points, "loss by size, without fine-tuning"))
    return figure


def _about(rows: pd.DataFrame, what: str) -> str:
    row, seeds = rows.iloc[0], rows["seed"].nunique()
    return f"{row['dataset']}, {row['model']}: {what}" + (
        f", mean and range of {seeds} seeds" if seeds > 1 else ""
    )
