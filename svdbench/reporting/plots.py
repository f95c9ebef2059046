"""Shared by all figures: colours, panels, axes, lines and bands, and saving them whole."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from svdbench.errors import UserError, os_remedy
from svdbench.files import replace_atomically
from svdbench.reporting.words import tick

# Colour-blind safe (Okabe and Ito 2008); one hue a family, marks tell its members apart.
HUES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D00", "#555555"]
MARKS = "osD^vP*X"
DASHES: Sequence[Any] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))


def hue(number: int) -> str:
    return HUES[number % len(HUES)]


def mark(number: int) -> str:
    return MARKS[number % len(MARKS)]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, with a constrained layout."""
    return Figure(figsize=(width, height), layout="constrained", dpi=160)


def panels(
    count: int,
    columns: int,
    size: tuple[float, float],
    margins: tuple[float, float],
    *,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, row by row, in at most ``columns`` columns.

    Args:
        size: of a panel, and ``margins`` what the figure has beside them, in inches.
    """
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = new_figure(margins[0] + size[0] * columns, margins[1] + size[1] * lines)
    grid = list(figure.subplots(lines, columns, squeeze=False, sharex=sharex, sharey=sharey).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def add_title_and_legend(
    figure: Figure, title: str, where: str = "right upper", columns: int = 1
) -> None:
    """A title on the left, and one legend outside of all panels, each name once."""
    figure.suptitle(title, x=0.01, ha="left")
    found: dict[Any, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        style: dict[str, Any] = {
            "loc": f"outside {where}",
            "ncols": columns,
            "frameon": False,
            "fontsize": 9,
        }
        figure.legend(list(found.values()), list(found), **style)


def dress(axes: Axes, sizes: Sequence[float]) -> None:
    """Sizes as powers of two along x, a quiet grid, no box."""
    axes.set_xscale("log", base=2)
    fix_ticks(axes.xaxis, sizes)
    if axes.get_yscale() == "log":
        set_log_ticks(axes)
    axes.yaxis.set_minor_formatter(NullFormatter())
    quiet(axes)


def name_ticks(axis: Axis, form: Callable[[float], str]) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def fix_ticks(
    axis: Axis, places: Sequence[float], form: Callable[[float], str] = "{:g}".format
) -> None:
    """Ticks at these places and no others."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    name_ticks(axis, form)


def name_log_ticks(axis: Axis, form: Callable[[float], str]) -> None:
    """Names at 1, 2 and 5 of each decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_formatter(NullFormatter())
    name_ticks(axis, form)


def set_log_ticks(axes: Axes) -> None:
    """A handful of ticks along a logarithmic y axis of any range."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=tick_digits(high / low)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def logarithmic(axes: Axes, unit: str = "") -> None:
    """A logarithmic y axis of numbers with a unit; without one, of seconds."""
    axes.set_yscale("log")
    name_ticks(axes.yaxis, f"{{:g}}{unit}".format if unit else tick)


def save(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write each figure under its name, whole or not at all; returns the paths."""
    paths = [folder / name for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        try:
            with replace_atomically(path) as partial:
                figure.savefig(partial, format=path.suffix.removeprefix("."))
        except OSError as error:
            raise UserError(
                f"can't write the plot {path}: {error.strerror or error}: {os_remedy(error)}; the "
                f"tables in {folder} are complete, and svdbench report {folder} draws them again"
            ) from error
    return paths


def plot_line(axes: Axes, x: Any, y: Any, **style: Any) -> Line2D:
    """``axes.plot`` of one line, on which a point without neighbours has a marker."""
    (line,) = axes.plot(x, y, **style)
    if line.get_marker() in (None, "", " ", "None"):
        alone = _alone(np.asarray(y, float))
        if len(alone):
            line.set(marker="o", markersize=5, markevery=alone)
    return line


def _alone(values: "np.ndarray") -> list[int]:
    """The positions of numbers without a neighbour, which a line alone would not show."""
    known = np.isfinite(values)
    padded = np.concatenate([[False], known, [False]])
    return [int(i) for i in np.flatnonzero(known & ~padded[:-2] & ~padded[2:])]


def plot_band(axes: Axes, x: Any, low: Any, high: Any, color: Any, alpha: float = 0.15) -> None:
    """``axes.fill_between``; at a single place, which has no area, a bar."""
    if len(x) == 1:
        axes.vlines(x, low, high, color=color, alpha=min(1.0, 3 * alpha), lw=4)
    else:
        axes.fill_between(x, low, high, color=color, alpha=alpha, lw=0)


def quiet(axes: Axes) -> None:
    """A grey grid behind the data, and no box around it."""
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def tick_digits(span: float) -> tuple[float, ...]:
    """Digits of ticks that give a logarithmic axis over a factor of ``span`` a handful."""
    if span < 1.2:
        return tuple(i / 10 for i in range(10, 100))
    if span < 2.5:
        tenths = (*range(10, 15), 16, 18, 20, 22, 25, 28, *range(30, 60, 5), *range(60, 100, 10))
        return tuple(i / 10 for i in tenths)
    if span < 12:
        return (1, 1.5, 2, 3, 5, 7)
    return (1, 2, 5) if span < 300 else (1,)
