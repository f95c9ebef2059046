"""Shared by all figures: colours, panels, axes, lines and bands, and saving them whole."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    AutoLocator,
    FixedLocator,
    FuncFormatter,
    Locator,
    MaxNLocator,
    NullLocator,
)

from svdbench.errors import UserError, os_remedy
from svdbench.files import replace_atomically
from svdbench.reporting.words import grid, size, tick

# Of labels beside a plot, in points, and how far apart their lines stand.
LABEL_SIZE, LABEL_GAP = 8.5, 1.25

# Ticks of a logarithmic axis, from few to many: a decade's digits.
_DIGITS: Sequence[tuple[float, ...]] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 4, 5, 7),
    tuple(i / 10 for i in (*range(10, 15), 16, 18, *range(20, 30, 2), *range(30, 100, 5))),
    tuple(i / 20 for i in range(20, 200)),
    tuple(i / 100 for i in range(100, 1000)),
)
# Fewer labelled ticks do not give a scale.
LEAST_TICKS, MOST_TICKS = 3, 10


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
    """A title on the left, and one legend outside of all panels, each name once.

    The title has as many lines as it needs beside a legend on the right.
    """
    heading = figure.suptitle(title, x=0.01, ha="left")
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
        legend = figure.legend(list(found.values()), list(found), **style)
        if where.startswith("right"):
            figure.draw_without_rendering()
            text = heading.get_window_extent()
            part = (legend.get_window_extent().x0 - text.x0) / text.width
            if part < 1:
                heading.set_text(textwrap.fill(title, int(0.97 * part * len(title))))


def dress(axes: Axes, sizes: Sequence[float]) -> None:
    """Sizes as powers of two along x, a quiet grid, no box."""
    axes.set_xscale("log", base=2)
    fix_ticks(axes.xaxis, between_sizes(sizes))
    if axes.get_yscale() == "log":
        set_log_ticks(axes.yaxis)
    quiet(axes)


def between_sizes(sizes: Sequence[float]) -> list[float]:
    """Sizes as ticks; where there are two, with one in between, as two do not give a scale."""
    if len(sizes) != 2:
        return list(sizes)
    low, high = sizes
    return [low, (low + high) / 2, high]


def name_ticks(axis: Axis, form: Callable[[float], str]) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def fix_ticks(axis: Axis, places: Sequence[float], form: Callable[[float], str] = size) -> None:
    """Ticks at these places and no others."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    name_ticks(axis, form)


class RoundLogLocator(Locator):
    """At least three round numbers along a logarithmic axis, for any range of it."""

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return []
        for digits in _DIGITS:
            places = _between(low, high, digits)
            if len(places) >= LEAST_TICKS:
                break
        return places[:: 1 + len(places) // MOST_TICKS]


def set_log_ticks(axis: Axis) -> None:
    axis.set_major_locator(RoundLogLocator())
    axis.set_minor_locator(NullLocator())


def name_log_ticks(axis: Axis, form: Callable[[float], str]) -> None:
    set_log_ticks(axis)
    name_ticks(axis, form)


def start_at_zero(axes: Axes, last: float) -> None:
    """x from 0 to the last value, with room for its marker."""
    axes.set_xlim(0, 1.03 * last)


def count_epochs(axes: Axes, last: float) -> None:
    """Whole numbers along x, from 0 to the last epoch; at least three of them."""
    start_at_zero(axes, max(last, LEAST_TICKS - 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=LEAST_TICKS))


def _between(low: float, high: float, digits: Sequence[float]) -> list[float]:
    """Digits times powers of ten within a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in digits]
    return [place for place in found if low <= place <= high]


def logarithmic(axes: Axes, unit: str = "") -> None:
    """A logarithmic y axis of numbers with a unit; without one, of seconds."""
    axes.set_yscale("log")
    name_ticks(axes.yaxis, (lambda value: grid(value) + unit) if unit else tick)


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
    """A grey grid behind the data, no box around it, and at least three ticks."""
    for axis in (axes.xaxis, axes.yaxis):
        locator = axis.get_major_locator()
        if isinstance(locator, AutoLocator):
            locator.set_params(min_n_ticks=LEAST_TICKS)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def label_lines(axes: Axes) -> None:
    """Write the label of each line at its right end, in its colour, in place of a legend.

    The labels stand beside the axes, apart from each other, with a thin line to where theirs
    ends, dotted where that is before the edge. If only one line ends before the edge, its label
    is at its last point. Call it when the limits of the axes are final.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    ends = [end for line in axes.lines if (end := _end_of(line)) is not None]
    right = max((x for line, x, _ in ends if not _is_level(line)), default=0.0)
    early = [line for line, x, _ in ends if x < right and not _is_level(line)]
    if len(early) == 1:
        (at,) = ((x, y) for line, x, y in ends if line is early[0])
        _annotate_end(axes, early[0], at)
        ends = [end for end in ends if end[0] is not early[0]]
    height = axes.get_position().height * figure.get_figheight() * 72
    to_axes = axes.transData + axes.transAxes.inverted()
    points = [to_axes.transform((right if _is_level(line) else x, y)) for line, x, y in ends]
    places = spread([float(y) for _, y in points], LABEL_GAP * LABEL_SIZE / height)
    for (line, x, _), (across, up), place in zip(ends, points, places, strict=True):
        before = x < right and not _is_level(line)
        arrow = {"arrowstyle": "-", "color": line.get_color(), "lw": 0.6, "relpos": (0, 0.5)}
        arrow |= {"ls": ":", "alpha": 0.8} if before else {}
        _annotate(
            axes,
            line,
            (float(across) if before else 1.0, float(up)),
            xycoords="axes fraction",
            textcoords="axes fraction",
            xytext=(1.04, place),
            arrowprops=arrow | {"shrinkA": 1, "shrinkB": 3 if before else 0},
        )


def label_panels(grid: Sequence[Axes]) -> None:
    """:func:`label_lines` for panels that have the same lines: labels beside the last panel.

    A line that the last panel lacks has its label at its last point in the last panel with it.
    """
    label_lines(grid[-1])
    labelled = {line.get_label() for line in grid[-1].lines if _end_of(line) is not None}
    for axes in reversed(grid[:-1]):
        for line in axes.lines:
            end = _end_of(line)
            if end is not None and line.get_label() not in labelled:
                labelled.add(line.get_label())
                _annotate_end(axes, line, end[1:])


def _annotate_end(axes: Axes, line: Line2D, at: tuple[float, float]) -> None:
    _annotate(axes, line, at, textcoords="offset points", xytext=(7, 7))


def _annotate(axes: Axes, line: Line2D, at: tuple[float, float], **where: Any) -> None:
    style: dict[str, Any] = {"va": "center", "color": line.get_color(), "fontsize": LABEL_SIZE}
    axes.annotate(str(line.get_label()), at, annotation_clip=False, **style, **where)


def _is_level(line: Line2D) -> bool:
    """Whether a line is one of ``axes.axhline``, which goes from edge to edge."""
    x, y = (np.asarray(values, float) for values in line.get_data())
    return len(x) == 2 and tuple(x) == (0.0, 1.0) and y[0] == y[1]


def _end_of(line: Line2D) -> tuple[Line2D, float, float] | None:
    """The last known point of a line that has a label."""
    if str(line.get_label()).startswith("_"):
        return None
    x, y = (np.asarray(values, float) for values in line.get_data())
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    return (line, float(x[known[-1]]), float(y[known[-1]])) if len(known) else None


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places nearest to those given, in their order, ``gap`` apart and within 0 and 1.

    By isotonic regression of the places less the room that those below them take.

    Example:
        >>> [round(place, 2) for place in spread([0.5, 0.5], 0.1)]
        [0.45, 0.55]
    """
    from scipy.optimize import isotonic_regression

    if not places:
        return []
    order = np.argsort(places, kind="stable")
    room = gap * np.arange(len(places))
    free = isotonic_regression(np.asarray(places, float)[order] - room).x
    free = np.clip(free, 0.0, max(0.0, 1.0 - room[-1]))
    found = np.empty(len(places))
    found[order] = free + room
    return [float(place) for place in found]
