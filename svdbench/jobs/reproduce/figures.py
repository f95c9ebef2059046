"""The figures of a result, from its curves and nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svdbench.files import replace_atomically
from svdbench.jobs.reproduce.numbers import CurvePoint
from svdbench.jobs.reproduce.result import CurveFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(figure: CurveFigure, points: Sequence[CurvePoint], path: Path) -> bool:
    """Draw a curve for each series as a PNG; False where there is nothing to draw."""
    from matplotlib.figure import Figure

    own = [point for point in points if point.figure == figure.name]
    if not own:
        return False
    drawing = Figure(figsize=(7.2, 4.4), layout="constrained", dpi=110)
    axes = drawing.add_subplot()
    for i, series in enumerate(dict.fromkeys(point.series for point in own)):
        _series(axes, [point for point in own if point.series == series], series, i)
    if "x" in figure.log:
        _size_ticks(axes, sorted({point.x for point in own}))
    if "y" in figure.log:
        axes.set_yscale("log")
    axes.set_title(figure.title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(figure.x)
    axes.set_ylabel(figure.y)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(loc="outside right upper", frameon=False, fontsize=9)
    with replace_atomically(path) as partial:
        drawing.savefig(partial, format="png", metadata={"Software": None})
    return True


def _series(axes: "Axes", points: Sequence[CurvePoint], label: str, number: int) -> None:
    from svdbench.reporting.plots import HUES, MARKS

    points = sorted(points, key=lambda point: point.x)
    again, place = divmod(number, len(HUES))  # a hue's second series has another mark and line
    hue, x = HUES[place], [point.x for point in points]
    mark = MARKS[(place + 3 * again) % len(MARKS)] if len(points) <= 24 else ""
    (line,) = axes.plot(x, [p.value for p in points], label=label, color=hue, linewidth=1.6)
    lines = (":", "-.") if again else ("-", "--")  # of two that coincide, both are seen
    line.set(marker=mark, markersize=4.5, linestyle=lines[number % 2])
    banded = [point for point in points if point.low is not None and point.high is not None]
    if banded:
        axes.fill_between(
            [p.x for p in banded],
            [p.low for p in banded if p.low is not None],
            [p.high for p in banded if p.high is not None],
            color=hue,
            alpha=0.15,
            linewidth=0,
        )


def _size_ticks(axes: "Axes", sizes: Sequence[float]) -> None:
    """A tick at each size, as there are few; of many, as matplotlib does it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    # Labels of neighbours would run into each other.
    sizes = [x for x, after in zip(sizes, [*sizes[1:], math.inf], strict=True) if after > 1.2 * x]
    if len(sizes) <= 10:
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
