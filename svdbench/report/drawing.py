"""What all plots share: lines that show whatever they hold, and files that are whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdbench.errors import UserError, os_remedy
from svdbench.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


def save(folder: Path, figures: "Mapping[str, Figure]") -> list[Path]:
    """Write each figure under its name, whole or not at all; returns the paths.

    Raises:
        UserError: the folder or the disk doesn't take them.
    """
    paths = [folder / name for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        try:
            with replacing(path) as partial:
                figure.savefig(partial, format=path.suffix.removeprefix("."))
        except OSError as error:
            raise UserError(
                f"can't write the plot {path}: {error.strerror or error}: {os_remedy(error)}; the "
                f"tables in {folder} are complete, and svdbench report {folder} draws them again"
            ) from error
    return paths


def plot_line(axes: "Axes", x: Any, y: Any, **style: Any) -> "Line2D":
    """``axes.plot`` of one line, on which a point without neighbours has a marker."""
    (line,) = axes.plot(x, y, **style)
    if line.get_marker() in (None, "", " ", "None"):
        alone = _alone(np.asarray(y, float))
        if len(alone):
            line.set(marker="o", markersize=5, markevery=alone)
    return line


def _alone(values: "np.ndarray") -> list[int]:
    """The places of numbers with none on either side, which a line doesn't show."""
    known = np.isfinite(values)
    padded = np.concatenate([[False], known, [False]])
    return [int(i) for i in np.flatnonzero(known & ~padded[:-2] & ~padded[2:])]


def plot_band(axes: "Axes", x: Any, low: Any, high: Any, color: Any, alpha: float = 0.15) -> None:
    """``axes.fill_between``; at a single place, which has no area, a bar."""
    if len(x) == 1:
        axes.vlines(x, low, high, color=color, alpha=min(1.0, 3 * alpha), lw=4)
    else:
        axes.fill_between(x, low, high, color=color, alpha=alpha, lw=0)


def quiet(axes: "Axes") -> None:
    """A grey grid behind the data, and no box around it."""
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def tick_digits(span: float) -> tuple[float, ...]:
    """Of a decade, so that a logarithmic axis over a factor of ``span`` has a handful."""
    if span < 1.2:
        return tuple(i / 10 for i in range(10, 100))
    if span < 2.5:
        tenths = (
            10,
            11,
            12,
            13,
            14,
            16,
            18,
            20,
            22,
            25,
            28,
            30,
            35,
            40,
            45,
            50,
            55,
            60,
            70,
            80,
            90,
        )
        return tuple(i / 10 for i in tenths)
    if span < 12:
        return (1, 1.5, 2, 3, 5, 7)
    return (1, 2, 5) if span < 300 else (1,)
