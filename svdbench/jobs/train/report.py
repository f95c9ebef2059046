"""The report of training runs: a table, reasons, curves, and maps of a sweep.

A run is a folder with tables, or a folder of such folders: one for each model, or one
for each combination of a sweep.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from svdbench.errors import one_line
from svdbench.record.lines import RecordError
from svdbench.record.reader import RecordedRun
from svdbench.record.schema import PLACE
from svdbench.reporting import plots
from svdbench.reporting.metrics import headline
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.styles import lines_of
from svdbench.reporting.words import UNKNOWN, integer, interval, setting, share
from svdbench.running.sweeps.report import short, swept_keys
from svdbench.training.report import (
    ACCURACY,
    LAST,
    ON_TEST,
    RATE,
    SECONDS,
    STEPS,
    TEST_LOSS,
    Values,
    failures,
    medians,
    metrics_of,
    scores,
)

NOTE = (
    "last, test: loss as a fraction of the baseline{}; steps, time: to the target, of {} that "
    "reached it"
)
OF_SEEDS = ", median over seeds, and lowest–highest of the last", "the seeds"
TABLES = ("samples", "summary", "lengths")
# More lines than these can't be told apart; a sweep of so many has its heat map.
MOST_LINES = 24


def report(run: RecordedRun) -> Report:
    unread: list[str] = []
    tables, swept = labelled_tables(run, unread)
    samples, summary, lengths = (tables[name] for name in TABLES)
    if summary.empty:
        return Report("trainings")
    of = medians(summary, "; medians of {}")
    title = f"{summary['task_title'].iloc[0]}: loss / baseline, steps and seconds to the target{of}"
    labels = best_first(summary)
    values = metrics_of(summary, labels)
    found = Report(title, headline((label, scores(values[label])) for label in labels))
    if swept and found.headline and summary["model"].nunique() == 1:  # which no label names
        found.headline = f"{summary['model'].iloc[0]}, {found.headline}"
    found.metrics = [value for own in values.values() for value in own.values()]
    found.blocks = [Lines([title], "strong"), results_table(summary, swept, values)]
    if len(labels) > 1:  # the endings of a single run were shown while it ran
        found.blocks.append(Lines(failures(summary)))
    if not lengths.empty:
        found.blocks.append(lengths_table(lengths, labels))
    found.blocks.append(Lines(unread))
    found.figures = figures(samples, summary, swept)
    if not lengths.empty and lengths["accuracy"].notna().any():
        found.figures["lengths"] = partial(length_curves, lengths, summary)
    found.frames = {"samples": samples, "summary": summary}
    if not lengths.empty:
        found.frames["lengths"] = lengths
    return found


def labelled_tables(
    run: RecordedRun, unread: list[str] | None = None
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The tables of all runs of a folder, by their names, and the keys of a sweep.

    They have ``label``, the name of a row's line in a plot: its model, where there
    are several, and the values of the keys, as ``model.m1``, in which runs of one model
    differ. The keys are the second part, and further columns, of text, of the tables. Runs
    that differ in their seed alone have one label.

    Args:
        unread: takes a line for each of several runs that can't be read; the others are.
    """
    parts = _read_parts(run, unread)
    swept = swept_keys([part.settings for part in parts])
    several = len({part.model for part in parts}) > 1
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for part in parts:
        values = {key: setting(part.settings.get(key)) for key in swept}
        words = [f"{short(key)} = {value}" for key, value in values.items()]
        label = ", ".join([part.model] * (several or not words) + words)
        for name, table in part.tables.items():
            tables[name].append(table.assign(label=label, **values))
    whole = {
        name: pd.concat(found, ignore_index=True) if found else pd.DataFrame()
        for name, found in tables.items()
    }
    return whole, swept


@dataclass(frozen=True)
class TrainingPart:
    """One of the runs of a folder, read."""

    settings: dict[str, Any]
    model: str
    tables: dict[str, pd.DataFrame]


def _read_parts(run: RecordedRun, unread: list[str] | None) -> list[TrainingPart]:
    found = []
    runs = run.parts
    for one in runs:
        try:
            settings = {key: value for key, value in one.settings.items() if key not in PLACE}
            tables = {name: one.frame(name) for name in TABLES if one.has(name)}
            model = str(settings.get("model_name") or tables["summary"]["model"].iloc[0])
        except (LookupError, OSError, ValueError, RecordError) as error:
            if unread is None or len(runs) == 1:
                raise
            unread.append(f"{one.folder.name} can't be read: {one_line(error)}")
            continue
        found.append(TrainingPart(settings, model, tables))
    return found


def best_first(summary: pd.DataFrame) -> list[str]:
    """Labels in the order of their steps to the target; where it wasn't reached, of their loss."""
    columns = ["steps_to_target", "relative_loss"]
    return list(summary.groupby("label")[columns].median().sort_values(columns).index)


# ---------------------------------------------------------------------------- the table


def results_table(summary: pd.DataFrame, swept: list[str], values: dict[str, Values]) -> Table:
    """A line for each model or combination, best first; medians over seeds, and a range."""
    several = summary["model"].nunique() > 1 or not swept
    seeds = bool(summary.groupby("label")["relative_loss"].count().max() > 1)
    columns = (
        *("params", "last", *["lowest–highest"] * seeds, "test", "test loss", "accuracy"),
        *("steps", "reached", "time", "steps/s", "seeds"),
    )
    keys, note = several + len(swept), NOTE.format(*OF_SEEDS if seeds else ("", "the trainings"))
    numbers = (*map(short, swept), *columns)
    table = Table.of("", ["model"] * several, numbers, keys=keys, note=note)
    for label, own in values.items():
        rows = summary[summary["label"] == label]
        table.add(
            *map(str, rows["model"].iloc[:1] if several else ()),
            *(rows[key].iloc[0] for key in swept),
            integer(rows["n_params"].iloc[0]),
            own[LAST],
            *[_range(rows["relative_loss"])] * seeds,
            *(own[metric] for metric in (ON_TEST, TEST_LOSS, ACCURACY, STEPS)),
            _reached(rows),
            own[SECONDS],
            own[RATE],
            integer(rows["seed"].nunique()),
        )
    return table


def _range(values: "pd.Series[float]") -> str:
    """The lowest and the highest of several."""
    if values.count() < 2:
        return UNKNOWN
    return interval(values.min(), values.max(), LAST.form)


def _reached(rows: pd.DataFrame) -> str:
    """How many seeds reached the target."""
    if rows["target"].isna().all():
        return UNKNOWN
    return f"{rows['steps_to_target'].notna().sum()} of {len(rows)}"


def lengths_table(lengths: pd.DataFrame, labels: list[str]) -> Table:
    """The accuracy on longer test sequences, a line for each label: the median of the seeds."""
    factors = sorted(lengths["times"].unique())
    title = f"{lengths['metric'].iloc[0]}, by the length of test sequences"
    columns = [f"{integer(factor)}× length" for factor in factors]
    table = Table.of(title, ["model"], columns, note="median of the seeds")
    for label in labels:
        rows = lengths[lengths["label"] == label].groupby("times")["accuracy"].median()
        if len(rows):
            table.add(label, *(share(rows.get(factor)) for factor in factors))
    return table


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
    plots.label_panels(grid)
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
    plots.name_ticks(axes.yaxis, share)


def length_curves(lengths: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """The accuracy against the length of test sequences: median of the seeds, and its range."""
    labels = [label for label in best_first(summary) if label in set(lengths["label"])]
    styles = lines_of(sorted(labels))
    figure = plots.new_figure(7.5, 4.6)
    axes = figure.subplots()
    for label in labels:
        rows = lengths[lengths["label"] == label].groupby("test_length")["accuracy"]
        x = np.array(sorted(rows.groups), float)
        plots.plot_line(axes, x, rows.median().to_numpy(float), label=label, **styles[label])
        if rows.count().max() > 1:
            low, high = rows.min().to_numpy(float), rows.max().to_numpy(float)
            plots.plot_band(axes, x, low, high, styles[label]["color"])
    _dress_accuracy(axes, summary)
    axes.set_xscale("log", base=2)
    steps = sorted(lengths["test_length"].unique())
    axes.set_xticks(steps, [integer(one) for one in steps])
    axes.minorticks_off()
    axes.set_xlabel("steps of a test sequence")
    axes.set_ylabel(str(lengths["metric"].iloc[0]))
    plots.quiet(axes)
    of = medians(summary, "\nmedian of {}, lowest to highest")
    title = f"{summary['task_title'].iloc[0]}: accuracy on longer sequences{of}"
    figure.suptitle(title, x=0.01, ha="left")
    plots.label_panels([axes])
    return figure


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
