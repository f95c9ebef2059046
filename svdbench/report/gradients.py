"""The report of a ``gradients`` run: how norms differ over t, heat maps and curves."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.report.training import endings, medians
from svdbench.reporting.plots import HUES, plot_line, quiet, save
from svdbench.reporting.words import share

if TYPE_CHECKING:
    import pandas as pd


MEANING = """1 where gradients neither vanish nor explode on their way back through the
sequence; at the start, in the middle and at the end of training
"""


def show_run(folder: Path, console: Console) -> None:
    """Print how the norms of all models differ over t, and draw them."""
    if not (folder / "gradients.csv").exists():  # interrupted before the first look
        return
    norms, summary = norms_of(folder), read_table(folder, "summary")
    console.print(table_of(norms, summary))
    console.print(MEANING, highlight=False)
    ended = endings(summary.assign(label=summary["model"]))
    print_lines(console, (*ended, *caveats(norms), *draw_all(folder, norms, summary)))


def norms_of(folder: Path) -> dict[str, "pd.DataFrame"]:
    """Model ↦ ‖∂L/∂h_t‖, a row for each step of training, a column for each t.

    The median over the seeds that got there; models in the order they were trained.
    """
    rows = read_table(folder, "gradients")
    return {
        str(model): of_model.pivot_table(index="step", columns="t", values="norm", aggfunc="median")
        for model, of_model in rows.groupby("model", sort=False)
    }


def caveats(norms: dict[str, "pd.DataFrame"]) -> list[str]:
    """What the norms don't say."""
    lstm = "an LSTM remembers in its cells: what goes back by them alone is not in its norms"
    return [lstm] if "lstm" in norms else []


def table_of(norms: dict[str, "pd.DataFrame"], summary: "pd.DataFrame") -> Table:
    """A line for each model: first over last norm at the start, the middle and the end."""
    title = f"{summary['task_title'].iloc[0]}: ‖∂L/∂h_1‖ / ‖∂L/∂h_T‖"
    table = new_table(title, ["model"], (*MOMENTS, "‖∂L/∂h_T‖, end", "loss, end"))
    for model, found in norms.items():
        looks = [found.loc[step] for step in moments(found)]
        losses = summary.loc[summary["model"] == model, "relative_loss"].dropna()
        table.add_row(
            model,
            *(_ratio(look.iloc[0], look.iloc[-1]) for look in looks),
            f"{looks[-1].iloc[-1]:.2g}",
            share(losses.median()) if len(losses) else "–",
        )
    return table


def _ratio(first: float, last: float) -> str:
    return f"{first / last:.2g}" if last > 0 else "–"


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
