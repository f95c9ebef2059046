"""The plots of an ``accelerate`` run: loss by epoch and by time, and speed against ceiling."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from svdbench.report.acceleration_arms import DENSE, Arm
from svdbench.reporting.plots import HUES, plot_band, plot_line, quiet, save, tick_digits

if TYPE_CHECKING:
    import pandas as pd

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))


def draw_all(folder: Path, run: "pd.DataFrame", arms: list[Arm]) -> list[Path]:
    """Write the plots into the run's folder; returns their paths."""
    figures = {"loss.png": loss(run, arms)}
    if any(arm.speed is not None for arm in arms):
        figures["speed.png"] = speed(run, arms)
    return save(folder, figures)


def _styles(arms: list[Arm]) -> dict[str, dict[str, Any]]:
    """The dense arm is black and thick; one hue for each choice of ranks, a dash for each φ."""
    others = [arm for arm in arms if arm.name != DENSE]
    ranks = list(dict.fromkeys(arm.ranks for arm in others))
    phis = sorted({arm.phi for arm in others}, reverse=True)
    styles: dict[str, dict[str, Any]] = {DENSE: {"color": "black", "lw": 2.2, "zorder": 2}}
    for arm in others:
        styles[arm.name] = {
            "color": HUES[ranks.index(arm.ranks) % len(HUES)],
            "ls": DASHES[phis.index(arm.phi) % len(DASHES)],
            "lw": 1.6,
            "zorder": 3,
        }
    return styles


def loss(run: "pd.DataFrame", arms: list[Arm]) -> Figure:
    """Training loss over epochs and over seconds, and test accuracy over seconds."""
    figure = Figure(figsize=(13.5, 4.6), layout="constrained", dpi=150)
    grid = figure.subplots(1, 3)
    styles = _styles(arms)
    run = run[run["split"] == "test"].assign(error=1 - run["accuracy"])
    panels = (("epoch", "train_loss"), ("elapsed_s", "train_loss"), ("elapsed_s", "error"))
    for axes, (x, y) in zip(grid, panels, strict=True):
        for arm in arms:
            rows = run[run["arm"] == arm.name].groupby("epoch")
            across, middle = rows[x].median(), rows[y].median()
            style = styles[arm.name]
            plot_line(axes, across, middle, label=arm.name, **style)
            low, high = rows[y].min(), rows[y].max()
            plot_band(axes, across, low, high, style["color"], 0.12)
        axes.set_xlabel({"epoch": "epoch", "elapsed_s": "seconds of training"}[x])
        axes.set_xlim(left=0)
        quiet(axes)
        _scale(axes, logarithmic=bool((run[y] > 0).all()))
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes, title in zip(
        grid, ("training loss, nats", "training loss, nats", "test error"), strict=True
    ):
        axes.set_title(title, loc="left", fontsize=10)
    for axes in grid[:2]:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    grid[2].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    figure.suptitle(_title(run), x=0.01, ha="left")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _scale(axes: Axes, logarithmic: bool) -> None:
    """A logarithmic height, unless there are zeros, as of an error."""
    if not logarithmic:
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=tick_digits(high / low)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def speed(run: "pd.DataFrame", arms: list[Arm]) -> Figure:
    """How many times faster the whole training is, under what the multiplications allow."""
    others = [arm for arm in arms if arm.speed is not None]
    styles = _styles(arms)
    figure = Figure(figsize=(9.0, 1.7 + 0.55 * len(others)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for y, arm in enumerate(others):
        found = arm.speed
        assert found is not None
        known = found.halfwidth < float("inf")
        ends = [[found.mean - found.low], [found.high - found.mean]] if known else None
        color = styles[arm.name]["color"]
        axes.barh(y, found.mean, height=0.55, color=color, alpha=0.85)
        axes.errorbar(found.mean, y, xerr=ends, color="black", capsize=4, lw=1.4)
        label = "ceiling: the multiplications alone" if not y else None
        axes.plot([arm.ceiling] * 2, [y - 0.38, y + 0.38], color="#c00000", lw=2.4, label=label)
        axes.text(0.03, y, f"{found.mean:.2f} ×", va="center", color="white", fontsize=9.5)
    axes.axvline(1, color="black", lw=1.5, label=f"{DENSE}, 1 ×")
    axes.set_yticks(range(len(others)), [arm.name for arm in others])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"speed of the whole training, × {DENSE}'s (median of pairs, 95 % interval)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} ×"))
    quiet(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower right", frameon=False, fontsize=9, ncols=2)
    figure.suptitle(_title(run, ""), x=0.01, ha="left")
    return figure


def _title(run: "pd.DataFrame", bands: str = "median of {} seeds, lowest to highest") -> str:
    row, seeds = run.iloc[0], run["seed"].nunique()
    about = bands.format(seeds) if seeds > 1 else "one seed"
    of = f"{row['dataset']}, {row['model']}, batches of {row['batch_size']}"
    return f"{of}: {about}" if about else of
