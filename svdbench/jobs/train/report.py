"""The report of training runs: a table, reasons, curves, and maps of a sweep.

A run is a folder with tables, or a folder of such folders: one for each model, or one
for each combination of a sweep.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from svdbench.record.reader import RecordedRun
from svdbench.record.schema import PLACE
from svdbench.reporting import plots
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.styles import lines_of
from svdbench.reporting.words import setting, share
from svdbench.training.report import accuracies, failures, headline, medians

# More lines than these can't be told apart; a sweep of so many has its heat map.
MOST_LINES = 24


def report(run: RecordedRun) -> Report:
    samples, summary, swept = read_runs(run)
    if summary.empty:
        return Report("trainings")
    of = medians(summary, "; medians of {}")
    title = f"{summary['task_title'].iloc[0]}: loss / baseline, steps and seconds to the target{of}"
    labels = best_first(summary)
    line = headline(summary, labels)
    if swept and summary["model"].nunique() == 1:  # which the labels don't name
        line = f"{summary['model'].iloc[0]}, {line}"
    found = Report(title, line)
    found.blocks = [Lines([title], "strong"), results_table(summary, swept)]
    if len(labels) > 1:  # the endings of a single run were shown while it ran
        found.blocks.append(Lines(failures(summary)))
    found.figures = figures(samples, summary, swept)
    found.frames = {"samples": samples, "summary": summary}
    return found


def read_runs(run: RecordedRun) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """``samples.csv`` and ``summary.csv`` of all runs of a folder, and the keys of a sweep.

    Both tables have ``label``, the name of a row's line in a plot: its model, where there
    are several, and the values of the keys, as ``model.m1``, in which runs of one model
    differ. The keys are the third part, and further columns, of text, of the tables.
    """
    runs = run.parts
    settings = [
        {key: value for key, value in one.settings.items() if key not in PLACE} for one in runs
    ]
    swept = _swept(settings)
    models = [
        str(keys.get("model_name") or one.frame("summary")["model"].iloc[0])
        for one, keys in zip(runs, settings, strict=True)
    ]
    several = len(set(models)) > 1
    tables: dict[str, list[pd.DataFrame]] = {"samples": [], "summary": []}
    for one, keys, model in zip(runs, settings, models, strict=True):
        values = {key: setting(keys.get(key)) for key in swept}
        words = [f"{short(key)} = {value}" for key, value in values.items()]
        label = ", ".join([model] * (several or not words) + words)
        for name, found in tables.items():
            if one.has(name):
                found.append(one.frame(name).assign(label=label, **values))
    samples, summary = (
        pd.concat(found, ignore_index=True) if found else pd.DataFrame()
        for found in tables.values()
    )
    return samples, summary, swept


def _swept(settings: list[dict[str, Any]]) -> list[str]:
    """The keys in which runs of one model differ, in the order of the configuration.

    Of keys that always have the same value, as m₂ = m₁, the first stands for all.
    """
    found: dict[str, list[Any]] = {}
    for model in {keys.get("model_name") for keys in settings}:
        runs = [keys for keys in settings if keys.get("model_name") == model]
        for key in runs[0]:
            values = [run.get(key) for run in settings]
            if any(run.get(key) != runs[0][key] for run in runs) and values not in found.values():
                found[key] = values
    return list(found)


def short(key: str) -> str:
    """The last part of a key, as ``m1`` of ``model.m1``."""
    return key.rpartition(".")[2]


def best_first(summary: pd.DataFrame) -> list[str]:
    """Labels in the order of their steps to the target; where it wasn't reached, of their loss."""
    columns = ["steps_to_target", "relative_loss"]
    return list(summary.groupby("label")[columns].median().sort_values(columns).index)


# ---------------------------------------------------------------------------- the table


def results_table(summary: pd.DataFrame, swept: list[str]) -> Table:
    """A line for each model or combination, best first; medians over seeds, and a range."""
    several = summary["model"].nunique() > 1 or not swept
    columns = ("params", "last", "test", "accuracy", "steps", "seconds", "steps/s")
    table = Table.of("", ["model"] * several, (*map(short, swept), *columns))
    for label in best_first(summary):
        rows = summary[summary["label"] == label]
        table.add(
            *map(str, rows["model"].iloc[:1] if several else ()),
            *(rows[key].iloc[0] for key in swept),
            f"{rows['n_params'].iloc[0]:,}",
            _median_share(rows["relative_loss"]) + _range(rows["relative_loss"]),
            _median_share(rows["test_loss"] / rows["baseline_loss"]),
            _median_share(accuracies(rows)),
            _steps_to_target(rows),
            _median(rows["seconds_to_target"], ".3g"),
            _median(rows["steps_per_s"], ".3g"),
        )
    return table


def _median_share(values: "pd.Series[float]") -> str:
    values = values.dropna()
    return "–" if values.empty else share(values.median(), 2)


def _range(values: "pd.Series[float]") -> str:
    """Lowest and highest in percent, on a line below the median."""
    ends = (share(value, 2).removesuffix(" %") for value in (values.min(), values.max()))
    return "\n" + "–".join(ends) if values.count() > 1 else ""


def _median(values: "pd.Series[float]", form: str) -> str:
    values = values.dropna()
    return "–" if values.empty else format(values.median(), form)


def _steps_to_target(rows: pd.DataFrame) -> str:
    """The median, and how many seeds reached it where not all did."""
    reached = rows["steps_to_target"].notna().sum()
    some = f" ({reached}/{len(rows)})" if 0 < reached < len(rows) else ""
    return _median(rows["steps_to_target"], ",.0f") + some


# ---------------------------------------------------------------------------- the figures


def figures(
    samples: pd.DataFrame, summary: pd.DataFrame, swept: list[str]
) -> dict[str, Callable[[], Figure]]:
    """Curves of loss and of accuracy, where there are classes; a map of a sweep of two keys."""
    if samples.empty:
        return {}
    seen = samples[samples["loss"].notna() & (samples["split"] == samples["split"].iloc[0])]
    found: dict[str, Callable[[], Figure]] = {}
    if 0 < seen["label"].nunique() <= MOST_LINES:
        found["loss"] = partial(curves, seen, summary, "relative_loss")
        if summary["loss_unit"].iloc[0].startswith("nats"):  # a cross-entropy, so classes
            found["accuracy"] = partial(curves, seen, summary, "accuracy")
    if len(swept) == 2:
        found["sweep"] = partial(heat_map, summary, *swept)
    return found


def curves(samples: pd.DataFrame, summary: pd.DataFrame, column: str) -> Figure:
    """A column of the evaluations against steps, and against seconds of training."""
    labels = best_first(summary)
    styles = lines_of(sorted(labels))
    figure = plots.new_figure(11.5, 5.0)
    grid = figure.subplots(1, 2, sharey=True)
    across = {"step": "iterations", "elapsed_s": "seconds of training"}
    for axes, (x, name) in zip(grid, across.items(), strict=True):
        for label in labels:
            rows = samples[samples["label"] == label]
            seeds = [one.sort_values("step") for _, one in rows.groupby("seed")]
            each = [(seed[x].to_numpy(float), seed[column].to_numpy(float)) for seed in seeds]
            _line(axes, each, label, styles[label])
        axes.set_xlabel(name)
        axes.set_xlim(left=0)
        plots.quiet(axes)
        {"relative_loss": _dress_loss, "accuracy": _dress_accuracy}[column](axes, summary)
    first = summary.iloc[0]
    what = {"relative_loss": "loss / baseline", "accuracy": first["metric"]}[column]
    grid[0].set_ylabel(f"{what}, {samples['split'].iloc[0]} set")
    of = medians(summary, "; median of {}, lowest to highest")
    figure.suptitle(f"{first['task_title']}: {what.partition(',')[0]}{of}", x=0.01, ha="left")
    plots.label_lines(grid[-1])
    return figure


def _line(
    axes: Axes, each: list[tuple["np.ndarray", "np.ndarray"]], label: str, style: dict[str, Any]
) -> None:
    """The median of several curves over their range; one that has ended keeps its last value."""
    grid = np.unique(np.concatenate([x for x, _ in each]))
    values = np.stack([np.interp(grid, x, y) for x, y in each])
    middle = np.median(values, 0)
    plots.plot_line(axes, grid, middle, label=label, **style)
    axes.plot(grid[-1], middle[-1], "o", ms=3.5, color=style["color"], zorder=style["zorder"])
    if len(each) > 1:
        plots.plot_band(axes, grid, values.min(0), values.max(0), style["color"])


def _dress_loss(axes: Axes, summary: pd.DataFrame) -> None:
    axes.set_yscale("log")
    axes.axhline(1, color="black", ls=":", lw=1.3, label="baseline")
    target = summary["target"].iloc[0]
    if target == target:
        axes.axhline(target, color="#2a7f2a", ls=":", lw=1.3, label=f"target, {share(target)}")
    plots.name_log_ticks(axes.yaxis, share)


def _dress_accuracy(axes: Axes, summary: pd.DataFrame) -> None:
    axes.axhline(summary["chance"].iloc[0], color="black", ls=":", lw=1.3, label="chance")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 0.9, 1]))
    plots.name_ticks(axes.yaxis, lambda y: f"{100 * y:g} %")


def heat_map(summary: pd.DataFrame, down: str, across: str) -> Figure:
    """The last loss over two keys, the median of the seeds; a panel for each model."""
    losses = summary["relative_loss"].dropna()
    norm = LogNorm(max(losses.min(), 1e-9) / 1.2, losses.max() * 1.2)
    tables = dict(_by_two_keys(summary, down, across))
    lines = max(len(table) for table in tables.values())
    columns = max(len(table.columns) for table in tables.values())
    figure = plots.new_figure(2.2 + len(tables) * (1.0 + 0.95 * columns), 1.8 + 0.6 * lines)
    grid = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (model, table) in zip(grid, tables.items(), strict=True):
        image = axes.imshow(table, norm=norm, cmap="cividis_r", aspect="auto", origin="lower")
        for (i, j), loss in np.ndenumerate(table.to_numpy(float)):
            if loss == loss:
                color = "white" if norm(loss) > 0.5 else "black"
                axes.text(j, i, share(loss), ha="center", va="center", color=color, fontsize=9)
        axes.set_xticks(range(len(table.columns)), list(table.columns))
        axes.set_yticks(range(len(table.index)), list(table.index))
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        axes.set_title(model, loc="left", fontsize=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=list(grid))
    plots.name_log_ticks(bar.ax.yaxis, share)
    bar.set_label("last loss / baseline")
    of = medians(summary, ", median of {}")
    plots.add_title_and_legend(figure, f"{summary['task_title'].iloc[0]}{of}")
    return figure


def _by_two_keys(
    summary: pd.DataFrame, down: str, across: str
) -> Iterator[tuple[str, pd.DataFrame]]:
    """The median losses of each model, by the values of two keys."""
    for model, rows in summary.groupby("model"):
        table = rows.pivot_table(
            index=down, columns=across, values="relative_loss", aggfunc="median"
        )
        down_sorted, across_sorted = (sorted(v, key=_size) for v in (table.index, table.columns))
        yield str(model), table.loc[down_sorted, across_sorted]


def _size(text: str) -> tuple[float, str]:
    """Numbers by their size, and other words behind them."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text
