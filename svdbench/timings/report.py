"""Shared by the reports of timing jobs: their rows, warnings, headline and time axes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from svdbench.measure import BUSY, LARGEST_FRACTION
from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric, MetricValue
from svdbench.reporting.plots import logarithmic, name_log_ticks, plot_band, quiet
from svdbench.reporting.report import Report, Table, TableCell
from svdbench.reporting.words import fixed, grid, quantity, ratio, seconds, size, tick
from svdbench.statistics.intervals import Interval, paired_ratio

Styles = dict[str, dict[str, Any]]
Place = Callable[[Any], str]  # the size of a row in words

# The columns that have a floor over the time, and what is shown of one that is void.
FRACTIONS = ("of_floor", "of_larger_floor")
VOID = "void"
STEP = Metric("time of a step", "median_s", "s", "lower", "median of repetitions", seconds)
OVER_FASTEST = Metric("time over the fastest", "ratio", "×", "lower", "ratio of medians", ratio)
# What makes a timing comparable with another.
PLACES = ("operation", "spectrum", "length", "m", "n", "d", "k")
# The sizes of a headline: d and k always, the others where they vary.
SIZES = ("length", "d", "m")

# Lines about disturbed cells, at most, before they are counted in one.
MOST_LINES = 3


def at_d(row: Any) -> str:
    return f"d = {row['d']}"


def read_summary(run: RecordedRun) -> pd.DataFrame:
    """The rows of ``summary.csv``, numbers as numbers; of any schema version."""
    rows = run.frame("summary")
    # Version 1 had one floor, that of the arithmetic, and all was warm.
    later = {
        "foreign_cores": math.nan,
        "l2": "warm",
        "bytes_floor_s": math.nan,
        "of_larger_floor": rows["of_floor"],
        "device_name": None,
    }
    return rows.assign(**{name: value for name, value in later.items() if name not in rows})


def report_of_steps(run: RecordedRun, title: str) -> tuple[Report, pd.DataFrame, pd.DataFrame]:
    """A report with warnings, metrics and headline; the rows of steps, and those with a time."""
    found, step, timed = empty_report(run, title)
    found.metrics = times_of(timed)
    summarise_times(found, timed)
    return found, step, timed


def empty_report(
    run: RecordedRun, title: str, sizes: Sequence[str] = ("d",), place: Place = at_d
) -> tuple[Report, pd.DataFrame, pd.DataFrame]:
    """A report with warnings alone; the rows of steps, and those with a time."""
    summary = read_summary(run)
    step = summary[summary["pass"] == "step"]
    found = Report(title, frames={"step": step})
    found.warnings += disturbed(step, sizes, place)
    return found, step, step[step["status"] == "ok"]


def times_of(timed: pd.DataFrame, metric: Metric = STEP) -> list[MetricValue]:
    """The time of each row that has one, and what it is of."""
    named = [name for name in ("method", "block_size", *PLACES) if name in timed]
    return [
        metric.of(row[metric.column], **{n: row[n] for n in named if row[n] == row[n]})
        for row in timed.to_dict("records")
        if row[metric.column] == row[metric.column]
    ]


def summarise_times(
    found: Report,
    timed: pd.DataFrame,
    metric: Metric = STEP,
    who: Callable[[Any], str] = lambda row: row["method"],
    sizes: Sequence[str] = SIZES,
    called: Mapping[str, str] = {},
) -> None:
    """Give a report its headline: the fastest method and the next, whose ratio is a metric.

    That is at the largest size; sizes with a void floor are skipped.

    Args:
        sizes: those to name: ``d`` and ``k`` always, the others where they vary.
        called: names of sizes for people, where they are not those of the columns.
    """
    time = metric.column
    timed = timed[(timed[time] > 0) & (timed[time] < math.inf)]
    place = [name for name in PLACES if name in timed]
    if timed.empty:
        return
    void = timed[below_floor(timed)][place].drop_duplicates()
    keys = pd.MultiIndex.from_frame(timed[place])
    timed = timed[~keys.isin(pd.MultiIndex.from_frame(void))]
    if timed.empty:
        found.headline = "times below their floor, measured beside other processes"
        return
    order = [name for name in ("n", "d", "m", "k", "length") if name in timed]
    ordered = timed.sort_values(order, ascending=False, kind="stable", na_position="last")
    largest = ordered.iloc[0]
    same = [name for name in place if largest[name] == largest[name]]
    here = ordered[(ordered[same] == largest[same]).all(axis=1)].sort_values(time, kind="stable")
    known = [name for name in sizes if name in timed]
    telling = [name for name in known if name in "dk" or timed[name].nunique() > 1]
    named = [f"{called.get(name, name)} = {size(largest[name])}" for name in telling]
    start = ", ".join([*(largest[name] for name in same if name == "operation"), *named])
    best = here.iloc[0]
    found.headline = f"{start}: {who(best)} {metric.form(best[time])}"
    if len(here) > 1:
        second = here.iloc[1]
        of = {name: second[name] for name in ("method", "block_size", *same) if name in second}
        ratio = OVER_FASTEST.of(second[time] / best[time], **of)
        found.metrics.append(ratio)
        found.headline += f", then {who(second)} at {ratio.text}"


def by_size(timed: pd.DataFrame) -> pd.DataFrame:
    """Median times of methods by size, fastest at the largest size first."""
    times = timed.pivot_table(index="method", columns="d", values="median_s")
    return times.sort_values(list(times.columns)[::-1])


def paired_with(
    samples: pd.DataFrame, timed: pd.DataFrame, baseline: str
) -> Iterator[tuple[str, int, int, Interval]]:
    """Method, d, m, and the time of a step over the baseline's, round by round: of medians.

    Args:
        samples: rows of ``samples.csv``.
        timed: rows of ``summary.csv`` with a time.
    """
    ok = set(timed[["method", "d", "m"]].itertuples(index=False, name=None))
    rounds = samples.groupby(["d", "m", "method", "round"])["step_s"].median()
    for (d, m, method), own in rounds.groupby(level=["d", "m", "method"]):
        if method == baseline or not {(method, d, m), (baseline, d, m)} <= ok:
            continue
        both = pd.concat([own.loc[d, m, method], rounds.loc[d, m, baseline]], axis=1).dropna()
        interval = paired_ratio(list(both.iloc[:, 0]), list(both.iloc[:, 1]))
        yield str(method), int(d), int(m), interval


def ratio_table(timed: pd.DataFrame, title: str, baseline: str, size_name: str = "d") -> Table:
    """The time of each method over the baseline's by size, where that was timed."""
    times = by_size(timed)
    table = Table.of(title, ["method"], [f"{size_name} = {d}" for d in times.columns])
    if baseline in times.index:
        for method, row in (times / times.loc[baseline]).drop(baseline).iterrows():
            table.add(str(method), *(TableCell.number(value, ratio) for value in row))
    return table


def below_floor(rows: pd.DataFrame) -> "pd.Series[bool]":
    """For each row, whether its time lies below its floor, which nothing can."""
    return _largest_fraction(rows) > LARGEST_FRACTION


def _void_floors(rows: pd.DataFrame, sizes: Sequence[str], place: Place) -> Iterator[str]:
    """A line for each cell in which a method was faster than its floor allows."""
    timed = rows[rows["status"] == "ok"]
    for _, cell in timed[below_floor(timed)].groupby(list(sizes)):
        worst = cell.loc[_largest_fraction(cell).idxmax()]
        yield (
            f"warning: at {place(worst)} the floor is invalid: {worst['method']} took "
            f"{ratio(1 / _largest_fraction(cell).max())} its time. Other processes "
            "were using the cores while the machine's rate was measured: repeat it "
            "on an idle machine"
        )


def _largest_fraction(rows: pd.DataFrame) -> "pd.Series[float]":
    known = rows[[name for name in FRACTIONS if name in rows]]
    return known.astype(float).max(axis=1)


def disturbed(
    step: pd.DataFrame, sizes: Sequence[str] = ("d",), place: Place = at_d
) -> Iterator[str]:
    """A line for each cell whose times other processes have disturbed; one for many of them.

    Reports begin with these lines, as they decide what the numbers are worth.
    """
    yield from _void_floors(step, sizes, place)
    cells = [cell for _, cell in step.groupby(list(sizes))]
    busy = [(cell, cell["foreign_cores"].max()) for cell in cells]
    busy = [(place(cell.iloc[0]), cores) for cell, cores in busy if cores > BUSY]
    if len(busy) > MOST_LINES:
        low, high = (fixed(extreme(cores for _, cores in busy), 1) for extreme in (min, max))
        busy_cores = low if low == high else f"{low} to {high}"
        yield (
            f"warning: at {len(busy)} of {len(cells)} sizes other processes kept {busy_cores} "
            "cores busy: repeat it on an idle machine"
        )
        return
    for where, cores in busy:
        yield (
            f"warning: at {where} other processes kept {fixed(cores, 1)} "
            "cores busy: repeat it on an idle machine"
        )


def not_timed(step: pd.DataFrame, place: Place) -> Iterator[str]:
    """A line for each method and reason, with the places at which it has no time."""
    missing = step[step["status"] != "ok"]
    for (method, status, reason), rows in missing.groupby(["method", "status", "reason"]):
        places = "; ".join(dict.fromkeys(place(row) for row in rows.to_dict("records")))
        yield f"{method} {status} at {places}: {reason}"


def without_number(step: pd.DataFrame) -> Iterator[str]:
    """The methods without a time, a line for each reason."""
    missing = step[step["status"] != "ok"]
    methods: dict[tuple[str, str, str], list[str]] = {}
    for (method, status, reason), rows in missing.groupby(["method", "status", "reason"]):
        sizes = ", ".join(map(size, sorted(rows["d"])))
        methods.setdefault((status, sizes, reason), []).append(method)
    for (status, sizes, reason), names in methods.items():
        yield f"{', '.join(names)} {status} at d = {sizes}: {reason}"


def draw_times(
    axes: Axes, step: pd.DataFrame, method: str, style: dict[str, Any], x: str = "d"
) -> None:
    """A method's median step time by size, with its quartile band, on logarithmic seconds."""
    rows = step[step["method"] == method].sort_values(x)
    axes.plot(rows[x], rows["median_s"], label=method, **style)
    plot_band(axes, rows[x], rows["q25_s"], rows["q75_s"], style["color"], 0.18)
    logarithmic(axes)


def draw_ratios(
    axes: Axes,
    step: pd.DataFrame,
    styles: Styles,
    baseline: str,
    x: str = "d",
    *,
    lw: float = 2.6,
) -> None:
    """The time of each method over the baseline's, by size."""
    base = step[step["method"] == baseline].set_index(x)["median_s"]
    for method in slowest_first(step):
        rows = step[(step["method"] == method) & step[x].isin(base.index)].sort_values(x)
        if method != baseline and len(rows):
            times = rows["median_s"].to_numpy() / base.loc[rows[x]].to_numpy()
            axes.plot(rows[x], times, label=method, **styles[method])
    axes.axhline(1, color=styles[baseline]["color"], lw=lw, zorder=4, label=baseline)
    logarithmic(axes, "×")


def draw_bars(axes: Axes, step: pd.DataFrame, styles: Styles) -> None:
    """The median time of each method at one size, with quartiles; the fastest first."""
    rows = step.sort_values("median_s")
    times = rows.set_index("method")[["median_s", "q25_s", "q75_s"]]
    _bars(axes, times, styles, seconds, tick)
    axes.set_xlabel("time of a step (median, quartile band)", fontsize=9)


def draw_ratio_bars(axes: Axes, ratios: "pd.Series[float]", styles: Styles, name: str) -> None:
    """A ratio for each method at one size, by method; the smallest first."""
    found = ratios.astype(float).dropna().sort_values()
    table = pd.concat([found] * 3, axis=1)
    _bars(axes, table, styles, ratio, lambda x: f"{grid(x)}×")
    axes.axvline(1, color="black", ls=":", lw=1.3)
    axes.set_xlabel(name, fontsize=9)


def _bars(
    axes: Axes,
    rows: pd.DataFrame,
    styles: Styles,
    form: Callable[[float], str],
    tick_form: Callable[[float], str],
) -> None:
    """A line for each method with its value, low and high, and the value in words."""
    for method, (value, low, high) in zip(rows.index, rows.to_numpy(float), strict=True):
        color = styles[method]["color"]
        axes.hlines(method, low, high, color=color, lw=7, alpha=0.3)
        axes.plot(value, method, "o", color=color, ms=6)
        where: dict[str, Any] = {
            "xytext": (9, 0),
            "textcoords": "offset points",
            "va": "center",
            "fontsize": 8.5,
        }
        axes.annotate(form(value), (max(value, high), method), **where)
    if rows.empty:
        return
    axes.set_xscale("log")
    least, most = float(rows.to_numpy().min()), float(rows.to_numpy().max())
    axes.set_xlim(least / 1.5, most * (most / least) ** 0.15 * 1.6)  # room for the words
    name_log_ticks(axes.xaxis, tick_form)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    quiet(axes)


def slowest_first(step: pd.DataFrame) -> list[str]:
    """Methods in the order of their lines at the right edge; those that end early come first."""
    at_end = step.sort_values("d").groupby("method").tail(1)
    return list(at_end.sort_values(["d", "median_s"], ascending=[True, False])["method"])


def where(row: Any) -> str:
    """Dtype and device of a row; on a GPU its name, and the state of its L2 cache."""
    if row["device"] == "cpu":
        return f"{row['dtype']}, cpu, {quantity(row['threads'], 'thread')}"
    name = row["device_name"] if isinstance(row["device_name"], str) else row["device"]
    return f"{row['dtype']}, {name}, L2 {row['l2']}"
