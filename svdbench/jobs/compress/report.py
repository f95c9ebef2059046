"""The report of a ``compress`` run: arms beside the unchanged network, claims, curves."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from svdbench.jobs.compress.summaries import (
    ADDED,
    ERROR,
    LOSS,
    LOSS_CHANGE,
    STOCK,
    TIME,
    CompressedArmSummary,
    summarise_arms,
    training_times,
)
from svdbench.record.reader import RecordedRun
from svdbench.reporting import plots
from svdbench.reporting.claims import Answer, Claims, PublishedNumber, beside, departures, published
from svdbench.reporting.metrics import EPOCH, headline
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import MARKS, lines_of
from svdbench.reporting.words import (
    change,
    integer,
    number,
    points,
    quantity,
    seconds,
    share,
    size,
    tick,
)
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import mean_interval, prediction_interval

# Columns that may have published numbers, with their format specifications.
FORMS = {"accuracy": ".1%", "loss": ".2f", "time_ratio": "×"}
# With more arms, bands hide each other.
MOST_BANDS = 6
# Instead of zero and less, which a logarithmic axis hasn't.
LEAST = 1e-9


def report(run: RecordedRun) -> Report:
    return sides.report_of(run, "compression", STOCK, partial(_whole, run))


def _whole(run: RecordedRun, frames: sides.SidesFrames) -> Report | None:
    epochs, layers = frames.epochs, frames.layers
    arms = summarise_arms(epochs)
    if not arms:
        return None
    found = Report(
        _title(epochs),
        headline(
            (arm.name, [arm.metrics[m] for m in (ERROR, TIME) if m in arm.metrics]) for arm in arms
        ),
        frames={"samples": frames.samples, "summary": frames.summary},
        metrics=[value for arm in arms for value in arm.metrics.values()],
    )
    found.blocks = [
        scores_table(arms, found.title),
        times_table(arms),
        Lines([_meaning(arms), *conclusions(arms), *alike(epochs), *frames.failed]),
        savings_table(frames.summary),
        Lines(() if layers is None else ranks_of_layers(layers)),
    ]
    if answers := answers_of(run, epochs):
        found.blocks.append(Claims(answers))
    found.figures["training"] = partial(by_epoch, epochs, arms)
    if len({arm.rank for arm in arms if arm.name != STOCK}) > 1:
        found.figures["rank"] = partial(by_rank, epochs, arms)
    return found


def _title(epochs: pd.DataFrame) -> str:
    row = epochs.iloc[0]
    every = str(row["every"])
    if every.isdecimal():
        every = quantity(int(every), "batch", "batches")
    count = quantity(epochs["epoch"].max(), "epoch")
    seeds = quantity(epochs["seed"].nunique(), "seed")
    return f"{row['dataset']}, {row['model']}, {count}, compressed every {every}, {seeds}"


# -------------------------------------------------------------------- tables and sentences


def scores_table(arms: list[CompressedArmSummary], title: str) -> Table:
    """A line for each arm: error and loss on the test set, and how they differ from stock's."""
    columns = ["test error", "− stock, points", "test loss", "− stock", "seeds"]
    table = Table.of(title, ["arm"], columns)
    for arm in arms:
        error = sides.difference(arm.error_difference, points, sides.points_of)
        loss = sides.difference(arm.loss_difference, LOSS_CHANGE.form, partial(number, digits=2))
        differences = (error, loss) if arm.name != STOCK else ("", "")
        own, seeds = arm.metrics, integer(arm.error_difference.count)
        table.add(arm.name, own[ERROR], differences[0], own[LOSS], differences[1], seeds)
    return table


def times_table(arms: list[CompressedArmSummary]) -> Table:
    """A line for each arm: the time of an epoch, and the share that compressing adds to it."""
    columns = ["epoch", "× stock", "95% interval", "compressing adds", "seeds"]
    table = Table.of("time of training", ["arm"], columns)
    for arm in arms:
        own, seeds = arm.metrics, integer(arm.error_difference.count)
        if arm.name == STOCK:
            table.add(arm.name, own[EPOCH], "", "", "", seeds)
            continue
        mark = " *" if arm.time_ratio.excludes(1) else "  "
        times = TableCell(own[TIME].text + mark, value=own[TIME].value)
        table.add(arm.name, own[EPOCH], times, own[TIME].interval, own[ADDED], seeds)
    return table


def _meaning(arms: list[CompressedArmSummary]) -> str:
    count = arms[0].error_difference.count
    adds = "; compressing adds: its time / that of the rest of the training" if count > 1 else ""
    return sides.noise(count) + adds


def conclusions(arms: list[CompressedArmSummary]) -> Iterator[str]:
    for arm in arms:
        if arm.name == STOCK or arm.error_difference.count < 2:
            continue
        error = arm.error_difference
        size = sides.points_of(abs(error.mean))
        what = (
            f"test error {size} points {'higher' if error.mean > 0 else 'lower'}, "
            f"{sides.verdict(error, 0)}"
            if error.mean
            else "the same test error"
        )
        pace = f"{arm.metrics[TIME].text} the time of training"
        yield f"{arm.name} against stock: {what}; {pace}, {sides.verdict(arm.time_ratio, 1)}"


def alike(epochs: pd.DataFrame) -> Iterator[str]:
    """Arms that can't be told apart, as random probes that span everything are exact."""
    losses = epochs.pivot_table(index=["seed", "epoch"], columns="arm", values="loss", sort=False)
    for one, other in combinations(losses.columns, 2):
        if np.allclose(losses[one], losses[other], rtol=1e-5, atol=0):
            yield f"{one} and {other} have the same losses in every epoch, to five digits"


def savings_table(summary: pd.DataFrame) -> Table:
    """The cost of inference with factors where they save, and its change from stock's."""
    batch = summary["latency_batch"].iloc[0]
    columns = ["parameters", "change", "multiply-adds", "change", "bytes", f"batch of {batch}"]
    table = Table.of(
        "inference, with factors where they save", ["arm"], [*columns, "change", "seeds"]
    )
    rows = summary.groupby("arm", sort=False)
    sizes = rows[["n_params", "macs", "bytes", "latency_s"]].median()
    base = sizes.loc[STOCK]
    for arm, row in sizes.iterrows():
        numbers: list[TableCell] = []
        for name, form in (("n_params", integer), ("macs", integer), ("latency_s", seconds)):
            changed = TableCell("") if row[name] == base[name] else _change(row[name], base[name])
            numbers += [TableCell.number(row[name], form), changed]
        numbers.insert(4, TableCell.number(row["bytes"], integer))
        table.add(str(arm), *numbers, integer(rows.get_group(arm)["seed"].nunique()))
    return table


def _change(value: float, base: float) -> TableCell:
    return TableCell.number(value / base - 1 if base else math.nan, change)


def ranks_of_layers(layers: pd.DataFrame) -> Iterator[str]:
    """Rank and form of each weight, a line for each rank."""
    seen: set[str] = set()
    for arm, rows in layers[layers["arm"] != STOCK].groupby("arm", sort=False):
        line = "; ".join(_layer(row) for row in rows.to_dict("records"))
        if line not in seen:
            seen.add(line)
            yield f"{arm}: {line}"


def _layer(row: Any) -> str:
    size = f"{row['rows']}×{row['columns']}"
    if row["kept"] != row["kept"]:
        return f"{size} {row['reason']}"
    if row["form"] == "factors":
        kept, of = integer(row["numbers"]), integer(row["dense_numbers"])
        return f"{size} as factors, {kept} of {of} parameters"
    factors = integer(int(row["kept"]) * (row["rows"] + row["columns"]))
    rank = integer(row["kept"])
    return f"{size} dense at rank {rank}, its factors would have {factors} parameters"


# ----------------------------------------------------------------------- published numbers


def answers_of(run: RecordedRun, epochs: pd.DataFrame) -> list[Answer]:
    """Our number for each in ``published`` that this run has too.

    Each was read off a single run, so the interval is that of one more run.
    """
    differing = departures(run.settings)
    early = {key: text for key, text in differing.items() if key != "epochs"}
    found = []
    for stated in published(run, FORMS):
        values, what = _ours(epochs, stated)
        if values:
            ours, form = prediction_interval(values), FORMS[stated.column]
            # What comes after an epoch doesn't change it.
            settings = early if stated.of.get("epoch") else differing
            found.append(beside(f"{stated.of.get('method')} {what}", ours, stated, form, settings))
    return found


def _ours(epochs: pd.DataFrame, stated: PublishedNumber) -> tuple[list[float], str]:
    """A value for each seed, and their name; none of a method with several ranks."""
    own = epochs[epochs["method"] == stated.of.get("method")]
    if own["arm"].nunique() != 1:
        return [], ""
    if stated.column == "time_ratio":
        ratios = training_times(own) / training_times(epochs[epochs["arm"] == STOCK])
        return list(ratios.dropna()), "time, × stock"
    epoch = stated.of.get("epoch") or epochs["epoch"].max()
    return list(own[own["epoch"] == epoch][stated.column]), f"{stated.column}, epoch {epoch}"


# ----------------------------------------------------------------------------- the figures


def by_epoch(run: pd.DataFrame, arms: list[CompressedArmSummary]) -> Figure:
    """Test error and loss, means over seeds with 95% bands; time of an epoch, quartiles."""
    figure = plots.new_figure(13.0, 4.4)
    grid = figure.subplots(1, 3)
    styles = lines_of([arm.name for arm in arms], run["epoch"].max())
    run = run.assign(error=1 - run["accuracy"])
    for axes, column in zip(grid, ("error", "loss", "epoch_s"), strict=True):
        for arm in arms:
            rows = run[run["arm"] == arm.name].groupby("epoch")[column]
            low, middle, high = _quartiles(rows) if column == "epoch_s" else _intervals(rows)
            style, epochs = styles[arm.name], list(rows.groups)
            plots.plot_line(axes, epochs, middle, label=arm.name, **style)
            if len(arms) <= MOST_BANDS:
                plots.plot_band(axes, epochs, low, high, style["color"])
        axes.set_xlabel("epoch")
        plots.quiet(axes)
        plots.count_epochs(axes, run["epoch"].max())
    for axes in grid[:2]:
        axes.set_yscale("log")
        means = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        means = means[means > 0]
        if len(means):  # not by the bands: a wide one would flatten the rest
            axes.set_ylim(means.min() / 1.4, means.max() * 1.4)
        plots.set_log_ticks(axes.yaxis)
    grid[0].set_ylim(top=min(1.0, grid[0].get_ylim()[1]))
    names = ("test error", "test loss, nats", "time of an epoch (median, quartile band)")
    forms = (share, number, lambda y: tick(y) if y else "0")
    for axes, name, form in zip(grid, names, forms, strict=True):
        axes.set_title(name, loc="left", fontsize=10)
        plots.name_ticks(axes.yaxis, form)
    grid[2].set_ylim(bottom=0)
    plots.add_title_and_legend(figure, sides.about(run, "mean of {} seeds, 95% intervals"))
    return figure


Band = tuple[list[float], list[float], list[float]]


def _intervals(rows: Any) -> Band:
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


def by_rank(run: pd.DataFrame, arms: list[CompressedArmSummary]) -> Figure:
    """How far error and loss are from stock's at each rank, with 95% intervals."""
    figure = plots.new_figure(10.5, 4.4)
    grid = figure.subplots(1, 2)
    others = [arm for arm in arms if arm.name != STOCK]
    methods = list(dict.fromkeys(arm.method for arm in others))
    ranks = sorted({arm.rank for arm in others})
    styles = lines_of(methods)
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
                color=styles[method]["color"],
                lw=1.5,
                capsize=3 + 2 * i,  # intervals of several methods may coincide, too
                **MARKS[i % len(MARKS)],
            )
        axes.axhline(0, color="black", lw=1.5, label="stock")
        axes.set_xticks(range(len(ranks)), [size(rank) for rank in ranks])
        axes.set_xlabel("rank of the weights")
        plots.quiet(axes)
    grid[0].set_ylabel("test error − stock's, points")
    grid[1].set_ylabel("test loss − stock's, nats")
    plots.add_title_and_legend(figure, sides.about(run, "mean of {} seeds, 95% intervals"))
    return figure
