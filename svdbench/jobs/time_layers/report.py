"""The report of a ``time-layers`` run: layers by width and batch, beside ``nn.Linear``."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric, MetricValue
from svdbench.reporting.plots import dress, label_lines, logarithmic, panels
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.styles import styles_of
from svdbench.reporting.words import few, integer, known, mebibytes, number, ratio, seconds
from svdbench.timings import report as timings

BASELINE = "linear"
STEP = Metric("time of a step", "median_s", "s", "lower", "median", seconds)
RATIO = Metric(
    "time of a step",
    "vs_linear",
    "× nn.Linear",
    "lower",
    "geometric mean over rounds, each paired with nn.Linear's",
    ratio,
)
UPDATES = {"none": "", "sgd": " and SGD", "adam": " and Adam"}
NOTE = "the geometric mean over rounds, with its 95% confidence interval"


def report(run: RecordedRun) -> Report:
    found, step, timed = timings.empty_report(run, "a training step of a layer", ["m", "d"], place)
    if timed.empty:
        found.blocks.append(Lines(timings.not_timed(step, place)))
        return found
    ratios = paired(run.frame("samples"), timed)
    found.metrics = [*times(timed), *ratios]
    for batch, rows in timed.groupby("m"):
        found.blocks.append(times_table(rows, int(batch)))
        if ratios:
            found.blocks.append(ratios_table(rows, ratios, int(batch)))
    found.blocks.append(costs_table(timed))
    found.blocks.append(Lines(timings.not_timed(step, place)))
    largest = timed.sort_values(["m", "d"]).iloc[-1]
    here = sorted(
        (value for value in ratios if (value.of["d"], value.of["m"]) == (largest.d, largest.m)),
        key=lambda value: value.value,
    )
    if here:
        layers = few([f"{value.of['method']} {value.text}" for value in here], 4)
        found.headline = f"{place(largest)}, time of a step over nn.Linear's: {layers}"
    found.figures = figures(timed, ratios)
    return found


def place(row: Any) -> str:
    return f"width {integer(row['d'])}, batch {integer(row['m'])}"


def times(timed: pd.DataFrame) -> Iterator[MetricValue]:
    for row in timed.to_dict("records"):
        ends: dict[str, Any] = {"low": row["q25_s"], "high": row["q75_s"]}
        yield STEP.of(row["median_s"], **ends, method=row["method"], d=row["d"], m=row["m"])


def paired(samples: pd.DataFrame, timed: pd.DataFrame) -> list[MetricValue]:
    """The time of each layer over ``nn.Linear``'s, round by round: the median of each round."""
    return [
        RATIO.of_interval(interval, method=method, d=d, m=m)
        for method, d, m, interval in timings.paired_with(samples, timed, BASELINE)
    ]


def times_table(timed: pd.DataFrame, batch: int) -> Table:
    """Layers by width at one batch size, fastest at the largest width first."""
    medians = timings.by_size(timed)
    update = UPDATES[str(timed.iloc[0]["optimizer"])]
    title = f"time of a step: forward, backward{update}; batch {integer(batch)}"
    table = Table.of(title, ["layer"], [f"width {integer(d)}" for d in medians.columns])
    for layer, row in medians.iterrows():
        cells = (known(median, seconds) for median in row)
        table.add(str(layer), *cells, style="strong" if layer == BASELINE else "")
    return table


def ratios_table(timed: pd.DataFrame, ratios: list[MetricValue], batch: int) -> Table:
    """Layers by width as :func:`times_table` orders them: time over ``nn.Linear``'s."""
    against = {
        (value.of["method"], value.of["d"]): f"{value.text} ({value.interval})"
        for value in ratios
        if value.of["m"] == batch
    }
    medians = timings.by_size(timed)
    widths = [f"width {integer(d)}" for d in medians.columns]
    title = f"time of a step, × nn.Linear; batch {integer(batch)}"
    table = Table.of(title, ["layer"], widths, note=NOTE)
    for layer in medians.index.drop(BASELINE, errors="ignore"):
        table.add(str(layer), *(against.get((layer, d), "") for d in medians.columns))
    return table


def costs_table(timed: pd.DataFrame) -> Table:
    """What a layer costs beside time, at the largest width and batch."""
    largest = timed.sort_values(["m", "d"]).iloc[-1]
    rows = timed[(timed["d"] == largest["d"]) & (timed["m"] == largest["m"])]
    columns = ["parameters", "peak memory", "Gflop", "Gflop/s"]
    table = Table.of(f"at {place(largest)}", ["layer"], columns)
    for row in rows.sort_values("median_s").to_dict("records"):
        table.add(
            row["method"],
            known(row["n_params"], integer),
            known(row["peak_bytes"], mebibytes),
            known(row["flops"] / 1e9, number),
            known(row["gflops"], number),
        )
    return table


def figures(timed: pd.DataFrame, ratios: list[MetricValue]) -> dict[str, Callable[[], Figure]]:
    drawn: dict[str, Callable[[], Figure]] = {"step_time": partial(step_time, timed)}
    if ratios:
        drawn["ratio_to_linear"] = partial(ratio_to_linear, timed, ratios)
    return drawn


def step_time(timed: pd.DataFrame) -> Figure:
    """A panel for each batch size: the median time of a step by width; bars of one width."""
    figure, places = _panels(timed, "Time of a training step of one layer")
    styles = styles_of(sorted(set(timed["method"])))
    for axes, (batch, rows) in zip(places, timed.groupby("m"), strict=True):
        axes.set_title(f"batch {integer(batch)}", loc="left", fontsize=10)
        if timed["d"].nunique() == 1:
            timings.draw_bars(axes, rows, styles)
            continue
        for method in timings.slowest_first(rows):
            timings.draw_times(axes, rows, method, styles[method])
        _dressed(axes, timed)
    if timed["d"].nunique() > 1:
        places[0].set_ylabel("time of a step (median, quartile band)")
    return figure


def ratio_to_linear(timed: pd.DataFrame, ratios: list[MetricValue]) -> Figure:
    """A panel for each batch size: times over ``nn.Linear``'s, with 95% intervals."""
    figure, places = _panels(timed, "Time relative to nn.Linear")
    styles = styles_of(sorted(set(timed["method"])))
    for axes, batch in zip(places, sorted(set(timed["m"])), strict=True):
        here = [value for value in ratios if value.of["m"] == batch]
        axes.set_title(f"batch {integer(batch)}", loc="left", fontsize=10)
        if timed["d"].nunique() == 1:
            found = pd.Series({str(value.of["method"]): value.value for value in here})
            timings.draw_ratio_bars(axes, found, styles, "time of a step / nn.Linear")
            continue
        for method in sorted({str(value.of["method"]) for value in here}):
            own = sorted(
                (value for value in here if value.of["method"] == method),
                key=lambda value: value.of["d"],
            )
            x = [value.of["d"] for value in own]
            axes.plot(x, [value.value for value in own], label=method, **styles[method])
            low, high = [value.low for value in own], [value.high for value in own]
            axes.vlines(x, low, high, color=styles[method]["color"], lw=1)
        axes.axhline(1, color=styles.get(BASELINE, {"color": "black"})["color"], label=BASELINE)
        logarithmic(axes, "×")
        _dressed(axes, timed)
    if timed["d"].nunique() > 1:
        places[0].set_ylabel("time of a step / nn.Linear")
    return figure


def _panels(timed: pd.DataFrame, title: str) -> tuple[Figure, list[Any]]:
    batches = timed["m"].nunique()
    several = timed["d"].nunique() > 1
    figure, places = panels(batches, min(batches, 2), (3.6, 3.6), (2.6, 1.2), sharey=several)
    row = timed.iloc[0]
    update = UPDATES[str(row["optimizer"])]
    where = f"forward, backward{update}; {timings.where(row)}"
    figure.suptitle(f"{title}\n{where}", x=0.01, ha="left", fontsize=11)
    return figure, list(places)


def _dressed(axes: Any, timed: pd.DataFrame) -> None:
    axes.set_xlabel("width, features in and out")
    dress(axes, sorted(set(timed["d"])))
    label_lines(axes)
