"""How the norm of ∂L/∂h_t goes over t: heat maps over training, and curves."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from svdbench.report.training_plots import medians
from svdbench.reporting.plots import HUES, plot_line, quiet, save
from svdbench.reporting.words import share

if TYPE_CHECKING:
    import pandas as pd

# Looks of which there are curves: first, middle and last.
MOMENTS = ("start", "middle", "end")
OURS = "spectral_rnn"
# What is shown below the largest norm; a gradient that has shrunk by more is gone.
DECADES = 8
NORM = "‖∂L/∂h$_t$‖"

Norms = dict[str, "pd.DataFrame"]


def draw_all(folder: Path, norms: Norms, summary: "pd.DataFrame") -> list[Path]:
    """Write the heat maps and the curves into the run's folder; returns their paths.

    Args:
        norms: model ↦ norms, a row for each step of training, a column for each t.
        summary: a row for each model and seed.
    """
    shown = limits(norms)
    title = f"{summary['task_title'].iloc[0]}: norm of the gradient at each state"
    title += medians(summary.assign(label=summary["model"]), "; medians of {}")
    losses = summary.groupby("model")["relative_loss"].median().dropna().to_dict()
    figures = {
        "heat_map.png": heat_maps(norms, shown, title, losses),
        "norms.png": curves(norms, shown, title),
    }
    return save(folder, figures)


def limits(norms: Norms) -> tuple[float, float]:
    """Lowest and highest norm to show, the same for all models."""
    values = np.concatenate([table.to_numpy(float).ravel() for table in norms.values()])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 1e-3, 1.0
    highest = float(values.max()) * 1.1
    return max(float(values.min()) / 1.1, highest / 10**DECADES), highest


def moments(table: "pd.DataFrame") -> list[int]:
    """Steps of training at which curves are drawn: the first, the middle and the last look."""
    steps = list(table.index)
    return [steps[0], steps[(len(steps) - 1) // 2], steps[-1]]


def heat_maps(
    norms: Norms, shown: tuple[float, float], title: str, losses: dict[str, float]
) -> Figure:
    """A panel for each model: t across, training downwards, one scale of colours for all."""
    columns = len(norms) if len(norms) <= 3 else math.ceil(math.sqrt(len(norms)))
    lines = -(-len(norms) // columns)
    size = (1.6 + 4.0 * columns, 0.9 + 3.2 * lines)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    colours = colormaps["viridis"].with_extremes(bad="#cccccc", under="#1b0030")
    image: Any = None
    for axes, (model, table) in zip(grid, norms.items(), strict=False):
        values = table.to_numpy(float)
        image = axes.pcolormesh(
            edges(table.columns.to_numpy(float)),
            edges(table.index.to_numpy(float)),
            np.ma.masked_where(~(values > 0), values),
            norm=LogNorm(*shown),
            cmap=colours,
            rasterized=True,
        )
        loss = f", last loss {share(losses[model])} of baseline" if model in losses else ""
        axes.set_title(f"{model}{loss}", loc="left", fontsize=10)
        axes.spines[:].set_visible(False)
        axes.tick_params(labelbottom=True)
    grid[0].invert_yaxis()  # shared by all
    for axes in grid[len(norms) :]:
        axes.set_axis_off()
    figure.supxlabel("t, step of the sequence", fontsize=10)
    figure.supylabel("step of training", fontsize=10)
    figure.suptitle(title, x=0.01, ha="left")
    bar = figure.colorbar(image, ax=list(grid), extend="min", aspect=30)
    bar.set_label(f"{NORM}  (grey: exactly 0)")
    return figure


def edges(places: "np.ndarray") -> "np.ndarray":
    """Where the cells at ``places`` begin and end: half-way between them; of one, ½ around it."""
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    middles = (places[:-1] + places[1:]) / 2
    return np.concatenate([[2 * places[0] - middles[0]], middles, [2 * places[-1] - middles[-1]]])


def curves(norms: Norms, shown: tuple[float, float], title: str) -> Figure:
    """All models over t, in a panel for each of three moments of training."""
    figure = Figure(figsize=(12.6, 4.6), layout="constrained", dpi=150)
    grid = figure.subplots(1, len(MOMENTS), sharey=True)
    for i, (axes, name) in enumerate(zip(grid, MOMENTS, strict=True)):
        steps = {model: moments(table)[i] for model, table in norms.items()}
        for j, (model, table) in enumerate(norms.items()):
            values = table.loc[steps[model]]
            style: dict[str, Any] = {"color": HUES[j % len(HUES)], "lw": 1.5}
            style |= {"ls": "--"} if j >= len(HUES) else {}
            style |= {"color": "black", "lw": 2.4, "zorder": 5} if model == OURS else {}
            plot_line(axes, table.columns, values.where(values > 0), label=model, **style)
        least, most = min(steps.values()), max(steps.values())
        when = f"step {least:,}" if least == most else f"steps {least:,} to {most:,}"
        axes.set_title(f"{name}, {when}", loc="left", fontsize=10)
        axes.set_yscale("log")
        axes.set_ylim(shown[0] / 1.5, shown[1] * 1.5)
        axes.set_xlabel("t, step of the sequence")
        quiet(axes)
    grid[0].set_ylabel(NORM)
    figure.suptitle(title, x=0.01, ha="left")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure
