"""The report of a ``gradients`` run: how norms differ over t, heat maps and curves."""

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric, MetricValue, headline
from svdbench.reporting.plots import (
    add_title_and_legend,
    label_panels,
    panels,
    plot_line,
    quiet,
)
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import lines_of
from svdbench.reporting.words import integer, number, share
from svdbench.training.report import LAST, MEDIAN, failures, medians, metrics_of, scores

# Evaluations of which there are curves: the first, the middle and the last.
MOMENTS = ("start", "middle", "end")
MEANING = (
    "1 where gradients neither vanish nor explode on their way back through the sequence; "
    "at the start, in the middle and at the end of training"
)
LSTM = "an LSTM also passes gradients through its cell state alone; these are not in its norms"
# Of norms below the largest, these are shown; a gradient that has shrunk by more is gone.
DECADES = 8
RATIOS = [
    Metric(f"first over last norm at the {moment}", f"ratio_{moment}", "×", "", MEDIAN, number)
    for moment in MOMENTS
]
NORM = "‖∂L/∂h$_t$‖"

# Model ↦ ‖∂L/∂h_t‖, a row for each step of training, a column for each t.
Norms = dict[str, pd.DataFrame]


def report(run: RecordedRun) -> Report:
    if not run.has("summary"):  # interrupted before the first evaluation
        return Report("gradients")
    summary = run.frame("summary")
    summary = summary.assign(label=summary["model"])
    if not run.has("gradients"):
        values = metrics_of(summary, summary["label"].unique())
        line = headline((label, scores(own)) for label, own in values.items())
        return Report(
            "gradients", line, metrics=[v for own in values.values() for v in own.values()]
        )
    rows = run.frame("gradients")
    norms = median_norms(rows)
    task = summary["task_title"].iloc[0]
    ratios = {model: ratios_of(model, norm, summary) for model, norm in norms.items()}
    found = Report(
        f"{task}: ‖∂L/∂h_1‖ / ‖∂L/∂h_T‖",
        headline((model, own[2:]) for model, own in ratios.items()),
        frames={"gradients": rows, "summary": summary},
        metrics=[value for own in ratios.values() for value in own],
    )
    found.blocks = [
        norms_table(norms, summary, ratios, found.title),
        Lines([*failures(summary), *[LSTM] * ("lstm" in norms)]),
    ]
    shown = limits(norms)
    title = f"{task}: norm of the gradient at each state{medians(summary, '; medians of {}')}"
    losses = summary.groupby("model")["relative_loss"].median().dropna().to_dict()
    found.figures = {
        "heat_map": partial(heat_maps, norms, shown, title, losses),
        "norms": partial(curves, norms, shown, title),
    }
    return found


def median_norms(rows: pd.DataFrame) -> Norms:
    """Medians over the seeds that got there; models in the order in which they were trained."""
    return {
        str(model): of_model.pivot_table(index="step", columns="t", values="norm", aggfunc="median")
        for model, of_model in rows.groupby("model", sort=False)
    }


def ratios_of(model: str, norm: pd.DataFrame, summary: pd.DataFrame) -> list[MetricValue]:
    """First over last norm at the start, in the middle and at the end; then the last loss."""
    rows = summary[summary["model"] == model]
    of: dict[str, Any] = {"seeds": rows["seed"].nunique(), "model": model}
    found = []
    for metric, step in zip(RATIOS, moments(norm), strict=True):
        first, last = norm.loc[step].iloc[0], norm.loc[step].iloc[-1]
        found.append(metric.of(first / last if last > 0 else math.nan, **of))
    return [*found, LAST.of(rows["relative_loss"].median(), **of)]


def norms_table(
    norms: Norms, summary: pd.DataFrame, ratios: dict[str, list[MetricValue]], title: str
) -> Table:
    """A line for each model: first over last norm at the start, the middle and the end."""
    columns = (*MOMENTS, "‖∂L/∂h_T‖, end", "loss, end", "seeds")
    table = Table.of(title, ["model"], columns, note=MEANING)
    for model, found in norms.items():
        *at, loss = ratios[model]
        last = found.loc[moments(found)[-1]].iloc[-1]
        seeds = integer(summary.loc[summary["model"] == model, "seed"].nunique())
        table.add(model, *at, TableCell.number(last, number), loss, seeds)
    return table


def moments(table: pd.DataFrame) -> list[int]:
    """Steps of training at which there are curves: the first, the middle and the last one."""
    steps = list(table.index)
    return [steps[0], steps[(len(steps) - 1) // 2], steps[-1]]


def limits(norms: Norms) -> tuple[float, float]:
    """Lowest and highest norm to show, the same for all models."""
    values = np.concatenate([table.to_numpy(float).ravel() for table in norms.values()])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 1e-3, 1.0
    highest = float(values.max()) * 1.1
    return max(float(values.min()) / 1.1, highest / 10**DECADES), highest


def heat_maps(
    norms: Norms, shown: tuple[float, float], title: str, losses: dict[str, float]
) -> Figure:
    """A panel for each model: t across, training downwards, one scale of colours for all."""
    columns = len(norms) if len(norms) <= 3 else math.ceil(math.sqrt(len(norms)))
    figure, grid = panels(len(norms), columns, (4.0, 3.2), (1.6, 0.9), sharex=True, sharey=True)
    colours = colormaps["viridis"].with_extremes(bad="#cccccc", under="#1b0030")
    for axes, (model, table) in zip(grid, norms.items(), strict=True):
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
    figure.supxlabel("t, step of the sequence", fontsize=10)
    figure.supylabel("step of training", fontsize=10)
    bar = figure.colorbar(image, ax=figure.axes, extend="min", aspect=30)
    bar.set_label(f"{NORM}  (grey: exactly 0)")
    add_title_and_legend(figure, title)
    return figure


def edges(places: "np.ndarray") -> "np.ndarray":
    """The edges of cells at ``places``: half-way between them; of one, ½ around it."""
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    middles = (places[:-1] + places[1:]) / 2
    return np.concatenate([[2 * places[0] - middles[0]], middles, [2 * places[-1] - middles[-1]]])


def curves(norms: Norms, shown: tuple[float, float], title: str) -> Figure:
    """All models over t, in a panel for each of three moments of training."""
    figure, grid = panels(len(MOMENTS), len(MOMENTS), (4.2, 4.6), (1.2, 0.0), sharey=True)
    styles = lines_of(list(norms))
    for i, (axes, name) in enumerate(zip(grid, MOMENTS, strict=True)):
        steps = {model: moments(table)[i] for model, table in norms.items()}
        for model, table in norms.items():
            values = table.loc[steps[model]]
            plot_line(axes, table.columns, values.where(values > 0), label=model, **styles[model])
        least, most = min(steps.values()), max(steps.values())
        when = (
            f"step {integer(least)}"
            if least == most
            else f"steps {integer(least)} to {integer(most)}"
        )
        axes.set_title(f"{name}, {when}", loc="left", fontsize=10)
        axes.set_yscale("log")
        axes.set_ylim(shown[0] / 1.5, shown[1] * 1.5)
        axes.set_xlabel("t, step of the sequence")
        quiet(axes)
    grid[0].set_ylabel(NORM)
    figure.suptitle(title, x=0.01, ha="left")
    label_panels(grid)
    return figure
