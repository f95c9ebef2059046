"""The report of training runs: a table, reasons, curves, and maps of a sweep."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter
from rich.console import Console
from rich.table import Table

from svdbench.record.reader import RecordedRun
from svdbench.record.schema import WELL
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.reporting.plots import HUES, plot_band, plot_line, quiet, save
from svdbench.reporting.words import quantity, share

if TYPE_CHECKING:
    import pandas as pd


_COLUMNS = ("params", "last", "test", "accuracy", "steps", "seconds", "steps/s")


# Keys of a configuration that say where a run goes, not what it is.
_PLACE = ("name", "results")


def show_run(folder: Path, console: Console) -> None:
    """Print the table of a ``train`` run or of a folder of runs, and draw its plots."""
    samples, summary, swept = read_runs(folder)
    if summary.empty:
        return
    console.print(_title(summary), style="bold", highlight=False)
    console.print(results_table(summary, swept))
    if summary["label"].nunique() > 1:  # those of one run were told as they came
        print_lines(console, endings(summary))
    print_lines(console, draw_all(folder, samples, summary, swept))


def read_runs(folder: Path) -> tuple["pd.DataFrame", "pd.DataFrame", list[str]]:
    """``samples.csv`` and ``summary.csv`` of all runs of a folder, and what a sweep changed.

    Both tables have ``label``, what to call a row's line in a plot: its model, where there
    are several, and the values of the keys, as ``model.m1``, in which runs of one model
    differ. The keys are the third part, and further columns, of text, of the tables.
    """
    import pandas as pd

    folders = [folder] if (folder / "config.yaml").exists() else _inside(folder)
    settings = [_settings(run) for run in folders]
    swept = _swept(settings)
    tables: dict[str, list[pd.DataFrame]] = {"samples": [], "summary": []}
    several = len({setting.get("model_name") for setting in settings}) > 1
    for run, setting in zip(folders, settings, strict=True):
        values = {key: _shown(setting.get(key)) for key in swept}
        words = [f"{short(key)} = {value}" for key, value in values.items()]
        label = ", ".join([str(setting.get("model_name"))] * (several or not words) + words)
        for name, found in tables.items():
            found.append(read_table(run, name).assign(label=label, **values))
    samples, summary = (
        pd.concat(found, ignore_index=True) if found else pd.DataFrame()
        for found in tables.values()
    )
    return samples, summary, swept


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _inside(folder: Path) -> list[Path]:
    """Its runs, in the order of their numbers, or of their names."""
    runs = [path.parent for path in folder.glob("*/summary.csv")]
    return sorted(runs, key=lambda run: (len(run.name) if run.name.isdecimal() else 0, run.name))


def _settings(run: Path) -> dict[str, Any]:
    """The configuration of a run, flat: ``{"model.m1": 16, …}``."""
    found = RecordedRun(run).settings
    return {key: value for key, value in found.items() if key not in _PLACE}


def _swept(settings: list[dict[str, Any]]) -> list[str]:
    """The keys in which runs of one model differ, in the order of the configuration.

    Of keys that always have the same value, as m₂ = m₁, the first stands for all.
    """
    found: dict[str, list[Any]] = {}
    for model in {setting.get("model_name") for setting in settings}:
        runs = [setting for setting in settings if setting.get("model_name") == model]
        for key in runs[0]:
            values = [run.get(key) for run in settings]
            if any(run.get(key) != runs[0][key] for run in runs) and values not in found.values():
                found[key] = values
    return list(found)


def _title(summary: "pd.DataFrame") -> str:
    of = medians(summary, "; medians of {}")
    return f"{summary['task_title'].iloc[0]}: loss / baseline, steps and seconds to the target{of}"


def results_table(summary: "pd.DataFrame", swept: list[str]) -> Table:
    """A line for each model or combination, best first; medians over seeds, and a range."""
    several = summary["model"].nunique() > 1 or not swept
    columns = (*map(short, swept), *_COLUMNS)
    table = new_table(None, ["model"] * several, columns, padding=(0, 1, 0, 0), pad_edge=False)
    for label in best_first(summary):
        rows = summary[summary["label"] == label]
        table.add_row(
            *(rows["model"].iloc[:1] if several else ()),
            *(rows[key].iloc[0] for key in swept),
            f"{rows['n_params'].iloc[0]:,}",
            _share(rows["relative_loss"]) + _range(rows["relative_loss"]),
            _share(rows["test_loss"] / rows["baseline_loss"]),
            _share(rows["test_accuracy"].fillna(rows["accuracy"])),
            _reached(rows),
            _number(rows["seconds_to_target"], ".3g"),
            _number(rows["steps_per_s"], ".3g"),
        )
    return table


def _share(values: "pd.Series[float]") -> str:
    values = values.dropna()
    return "–" if values.empty else share(values.median(), 2)


def _range(values: "pd.Series[float]") -> str:
    """Below the value, in percent as it is."""
    ends = (share(value, 2).removesuffix(" %") for value in (values.min(), values.max()))
    return "\n" + "–".join(ends) if values.count() > 1 else ""


def _number(values: "pd.Series[float]", form: str) -> str:
    values = values.dropna()
    return "–" if values.empty else format(values.median(), form)


def _reached(rows: "pd.DataFrame") -> str:
    """Median steps to the target, and how many seeds got there where not all did."""
    reached = rows["steps_to_target"].notna().sum()
    some = f" ({reached}/{len(rows)})" if 0 < reached < len(rows) else ""
    return _number(rows["steps_to_target"], ",.0f") + some


def endings(summary: "pd.DataFrame") -> list[str]:
    """Why trainings ended that didn't end well."""
    ended = summary[~summary["status"].isin(WELL)]
    return [f"{row['label']}, seed {row['seed']}: {row['reason']}" for _, row in ended.iterrows()]


if TYPE_CHECKING:
    import pandas as pd


OURS = "spectral_rnn"


DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))


# More lines than these can't be told apart; a sweep of so many has its heat map.
MOST_LINES = 24


def draw_all(
    folder: Path, samples: "pd.DataFrame", summary: "pd.DataFrame", swept: list[str]
) -> list[Path]:
    """Write the plots of a run, or of a folder of runs, into the folder; returns their paths.

    Args:
        samples: rows of evaluations, with ``label``.
        summary: a row for each seed, with ``label``.
        swept: columns in which the runs of a sweep differ.
    """
    seen = samples[samples["loss"].notna() & (samples["split"] == samples["split"].iloc[0])]
    figures: dict[str, Figure] = {}
    if 0 < seen["label"].nunique() <= MOST_LINES:
        figures["loss.png"] = curves(seen, summary, "relative_loss")
        if summary["loss_unit"].iloc[0].startswith("nats"):  # a cross-entropy, so classes
            figures["accuracy.png"] = curves(seen, summary, "accuracy")
    if len(swept) == 2:
        figures["sweep.png"] = heat_map(summary, *swept)
    return save(folder, figures)


Styles = dict[str, dict[str, Any]]


def _styles(labels: list[str]) -> Styles:
    """Colours, then dashes; the Spectral RNN, where there is one, is black and thick."""
    ours = [label for label in labels if label == OURS][: len(labels) > 1]
    styles: Styles = {label: {"color": "black", "lw": 2.4, "zorder": 5} for label in ours}
    for i, label in enumerate(sorted(set(labels) - set(ours), key=labels.index)):
        dash = DASHES[i // len(HUES) % len(DASHES)]
        styles[label] = {"color": HUES[i % len(HUES)], "ls": dash, "lw": 1.5, "zorder": 3}
    return styles


def curves(samples: "pd.DataFrame", summary: "pd.DataFrame", column: str) -> Figure:
    """A column of the evaluations against steps, and against seconds of training."""
    labels = best_first(summary)
    styles = _styles(sorted(labels))
    figure = Figure(figsize=(11.5, 5.0), layout="constrained", dpi=150)
    grid = figure.subplots(1, 2, sharey=True)
    for axes, x, name in zip(
        grid, ("step", "elapsed_s"), ("iterations", "seconds of training"), strict=True
    ):
        for label in labels:
            rows = samples[samples["label"] == label]
            seeds = [one.sort_values("step") for _, one in rows.groupby("seed")]
            each = [(seed[x].to_numpy(float), seed[column].to_numpy(float)) for seed in seeds]
            _line(axes, each, label, styles[label])
        axes.set_xlabel(name)
        axes.set_xlim(left=0)
        quiet(axes)
        _DRESS[column](axes, summary)
    first = summary.iloc[0]
    split = f"{samples['split'].iloc[0]} set"
    what = {"relative_loss": "loss / baseline", "accuracy": first["metric"]}[column]
    grid[0].set_ylabel(f"{what}, {split}")
    band = medians(summary, "; median of {}, lowest to highest")
    figure.suptitle(f"{first['task_title']}{band}", x=0.01, ha="left")
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def best_first(summary: "pd.DataFrame") -> list[str]:
    """Labels in the order of their steps to the target; where it wasn't reached, of their loss."""
    medians = summary.groupby("label")[["steps_to_target", "relative_loss"]].median()
    return list(medians.sort_values(["steps_to_target", "relative_loss"]).index)


def medians(summary: "pd.DataFrame", words: str) -> str:
    """``words`` with how many seeds a label has put in; nothing where each has one."""
    counts = summary.groupby("label")["seed"].nunique()
    least, most = int(counts.min()), int(counts.max())
    if most == 1:
        return ""
    of = quantity(most, "seed")
    return words.format(of if least == most else f"{least} to {of}")


def short(key: str) -> str:
    """The last part of a key, as ``m1`` of ``model.m1``."""
    return key.rpartition(".")[2]


def _line(
    axes: Axes, each: list[tuple["np.ndarray", "np.ndarray"]], label: str, style: dict[str, Any]
) -> None:
    """The median of several curves over their range; one that has ended keeps its last value."""
    grid = np.unique(np.concatenate([x for x, _ in each]))
    values = np.stack([np.interp(grid, x, y) for x, y in each])
    middle = np.median(values, 0)
    plot_line(axes, grid, middle, label=label, **style)
    axes.plot(grid[-1], middle[-1], "o", ms=3.5, color=style["color"], zorder=style["zorder"])
    if len(each) > 1:
        plot_band(axes, grid, values.min(0), values.max(0), style["color"])


def _dress_loss(axes: Axes, summary: "pd.DataFrame") -> None:
    axes.set_yscale("log")
    axes.axhline(1, color="black", ls=":", lw=1.3, label="baseline")
    target = summary["target"].iloc[0]
    if target == target:
        axes.axhline(target, color="#2a7f2a", ls=":", lw=1.3, label=f"target, {share(target)}")
    # Untrained losses may be a hundred times the baseline, and say nothing.
    axes.set_ylim(top=min(axes.get_ylim()[1], 3))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: share(y)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _dress_accuracy(axes: Axes, summary: "pd.DataFrame") -> None:
    axes.axhline(summary["chance"].iloc[0], color="black", ls=":", lw=1.3, label="chance")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 0.9, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))


_DRESS: dict[str, Callable[[Axes, "pd.DataFrame"], None]] = {
    "relative_loss": _dress_loss,
    "accuracy": _dress_accuracy,
}


def heat_map(summary: "pd.DataFrame", down: str, across: str) -> Figure:
    """The last loss over two keys, the median of the seeds; a panel for each model."""
    from matplotlib.colors import LogNorm

    losses = summary["relative_loss"].dropna()
    norm = LogNorm(max(losses.min(), 1e-9) / 1.2, losses.max() * 1.2)
    models = sorted(set(summary["model"]))
    tables = []
    for model in models:
        rows = summary[summary["model"] == model]
        table = rows.pivot_table(
            index=down, columns=across, values="relative_loss", aggfunc="median"
        )
        tables.append(table.loc[sorted(table.index, key=_size), sorted(table.columns, key=_size)])
    lines, columns = max(len(t) for t in tables), max(len(t.columns) for t in tables)
    figure = Figure(
        figsize=(2.2 + len(models) * (1.0 + 0.95 * columns), 1.8 + 0.6 * lines),
        layout="constrained",
        dpi=150,
    )
    image = None
    for axes, model, table in zip(
        figure.subplots(1, len(models), squeeze=False)[0], models, tables, strict=True
    ):
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
    if image is not None:
        bar = figure.colorbar(image, ax=figure.axes, format=FuncFormatter(lambda y, _: share(y)))
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label("last loss / baseline")
    of = medians(summary, ", median of {}")
    figure.suptitle(f"{summary['task_title'].iloc[0]}{of}", x=0.01, ha="left")
    return figure


def _size(text: str) -> tuple[float, str]:
    """Numbers by their size, and other words behind them."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text
