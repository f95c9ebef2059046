"""The plots of a timing run, drawn from its ``summary.csv`` and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from svdbench.measure.quiet import LARGEST_FRACTION
from svdbench.quantities import quantity
from svdbench.report.drawing import plot_band, plot_line, quiet, save, tick_digits
from svdbench.report.units import tick

if TYPE_CHECKING:
    import pandas as pd

# Colour-blind safe (Okabe and Ito 2008); one hue a family, marks tell its members apart.
HUES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D00", "#555555"]
MARKS = "osD^vP*X"
BASELINE = "fasth"


def draw_all(folder: Path, summary: "pd.DataFrame") -> list[Path]:
    """Write the three plots of a ``time-fasth`` run into its folder; returns their paths.

    Args:
        summary: the rows of ``summary.csv``; rows without a number are left out.
    """
    step = summary[(summary["pass"] == "step") & (summary["status"] == "ok")]
    if step.empty:
        return []
    styles = _styles(step)
    drawn = [
        ("step_time.png", _step_time),
        ("ratio_to_fasth.png", _ratio),
        ("fraction_of_floor.png", _floor),
    ]
    figures = {name: _figure(step, styles, draw) for name, draw in drawn}
    return save(folder, {name: figure for name, figure in figures.items() if figure is not None})


Styles = dict[str, dict[str, Any]]


def _styles(step: "pd.DataFrame") -> Styles:
    """Colour by kind, mark within the kind; the baseline is thick and drawn last."""
    styles: Styles = {}
    kinds = list(dict.fromkeys(step.sort_values("kind")["kind"]))
    for kind, rows in step.groupby("kind"):
        for i, method in enumerate(sorted(set(rows["method"]))):
            styles[method] = {
                "color": HUES[kinds.index(kind) % len(HUES)],
                "marker": MARKS[i % len(MARKS)],
                "linewidth": 1.3,
                "markersize": 5,
                "zorder": 3,
            }
    if BASELINE in styles:
        styles[BASELINE] |= {"color": "black", "linewidth": 2.6, "zorder": 5}
    return styles


def _figure(
    step: "pd.DataFrame",
    styles: Styles,
    draw: Callable[[Axes, "pd.DataFrame", Styles], bool],
) -> Figure | None:
    figure = Figure(figsize=(9.6, 5.6), layout="constrained", dpi=160)
    axes = figure.add_subplot()
    if not draw(axes, step, styles):
        return None
    row = step.iloc[0]
    columns = f"n = {row['n']:.0f}" if step["n"].nunique() == 1 and len(step) > 1 else "n = d"
    axes.set_xlabel(f"d, length of a reflector  ({columns}, m = {quantity(row['m'], 'column')})")
    dress(axes, sorted(set(step["d"])))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5)
    return figure


def dress(axes: Axes, sizes: list[int]) -> None:
    """Sizes as powers of two along x, a quiet grid, no box."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=tick_digits(high / low)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    quiet(axes)


def draw_times(
    axes: Axes, step: "pd.DataFrame", method: str, style: dict[str, Any], x: str = "d"
) -> None:
    """A method's median step time by size, with its quartile band, on logarithmic seconds."""
    rows = step[step["method"] == method].sort_values(x)
    axes.plot(rows[x], rows["median_s"], label=method, **style)
    plot_band(axes, rows[x], rows["q25_s"], rows["q75_s"], style["color"], 0.18)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y)))


def slowest_first(step: "pd.DataFrame") -> list[str]:
    """Methods as the eye finds them at the right edge; those that end early were slower still."""
    at_end = step.sort_values("d").groupby("method").tail(1)
    return list(at_end.sort_values(["d", "median_s"], ascending=[True, False])["method"])


def where(row: Any) -> str:
    """Dtype and device of a row; on a GPU its name, and the state of its L2 cache."""
    if row["device"] == "cpu":
        return f"{row['dtype']}, cpu, {quantity(row['threads'], 'thread')}"
    name = row["device_name"] if isinstance(row["device_name"], str) else row["device"]
    return f"{row['dtype']}, {name}, L2 {row['l2']}"


def _step_time(axes: Axes, step: "pd.DataFrame", styles: Styles) -> bool:
    for method in slowest_first(step):
        draw_times(axes, step, method, styles[method])
    floor = step.drop_duplicates("d").sort_values("d")
    label = "floor: 12ndm flop\nat matmul rate"
    plot_line(axes, floor["d"], floor["floor_s"], color="black", ls=":", lw=1.5, label=label)
    if floor["bytes_floor_s"].notna().all():
        label = "floor: least bytes\nat copy rate"
        style: dict[str, Any] = {"color": "#888888", "ls": ":", "lw": 1.5, "label": label}
        plot_line(axes, floor["d"], floor["bytes_floor_s"], **style)
    axes.set_ylabel("time of a step (median, quartile band)")
    axes.set_title(f"A gradient-descent step φ(V)·X  ({where(step.iloc[0])})", loc="left")
    return True


def _ratio(axes: Axes, step: "pd.DataFrame", styles: Styles) -> bool:
    base = step[step["method"] == BASELINE].set_index("d")["median_s"]
    if base.empty:
        return False
    for method in slowest_first(step):
        rows = step[(step["method"] == method) & step["d"].isin(base.index)].sort_values("d")
        if method == BASELINE or rows.empty:
            continue
        ratio = rows["median_s"].to_numpy() / base.loc[rows["d"]].to_numpy()
        axes.plot(rows["d"], ratio, label=method, **styles[method])
    axes.axhline(1, color="black", lw=2.6, label=BASELINE)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
    axes.set_ylabel("step time / FastH's step time")
    axes.set_title(f"How many times slower than FastH  ({where(step.iloc[0])})", loc="left")
    return True


def _floor(axes: Axes, step: "pd.DataFrame", styles: Styles) -> bool:
    step = step[~step["d"].isin(step.loc[step["of_larger_floor"] > LARGEST_FRACTION, "d"])]
    if step.empty:
        return False
    for method in reversed(slowest_first(step)):
        rows = step[step["method"] == method].sort_values("d")
        axes.plot(rows["d"], 100 * rows["of_larger_floor"], label=method, **styles[method])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    axes.set_ylabel("floor / step time")
    axes.set_title(
        f"How close to the larger of the two floors  ({where(step.iloc[0])})", loc="left"
    )
    return True
