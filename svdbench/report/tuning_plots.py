"""The figures of a ``tune --plot`` run: step time, best block size and regret."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from svdbench.reporting.plots import HUES, MARKS, dress, plot_line, save
from svdbench.reporting.words import tick
from svdbench.timings.report import where

if TYPE_CHECKING:
    import pandas as pd

# What is marked on a curve: hollow, of different sizes, so that all show where they meet.
ON_CURVE: dict[str, dict[str, Any]] = {
    "k=m": {"marker": "o", "markersize": 9},
    "k=32": {"marker": "s", "markersize": 12},
    "k=sqrt_d": {"marker": "D", "markersize": 13.5},
}
BEST: dict[str, Any] = {
    "marker": "*",
    "markersize": 13,
    "markeredgecolor": "black",
    "markeredgewidth": 0.7,
}
PERCENT = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]


def draw_all(
    folder: Path, blocks: "pd.DataFrame", shapes: "pd.DataFrame", rules: dict[str, str]
) -> list[Path]:
    """Write the figures into the run's folder; returns their paths.

    Args:
        blocks: a row for each shape and block size.
        shapes: a row for each shape.
        rules: names of the columns with a rule's regret, and what to call them.
    """
    figures = {
        "step_time.png": step_time(blocks, rules),
        "best_block.png": best_block(shapes, blocks.iloc[0]),
        "regret.png": regret(shapes, rules, blocks.iloc[0]),
    }
    return save(folder, figures)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=160)


def step_time(blocks: "pd.DataFrame", rules: dict[str, str]) -> Figure:
    """Step time against k, a panel for each d: measured, modelled, and where rules land."""
    sizes, ms = sorted(set(blocks["d"])), sorted(set(blocks["m"]))
    columns = min(3, len(sizes))
    lines = -(-len(sizes) // columns)
    figure = _figure(1.5 + 3.7 * columns, 1.7 + 3.0 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, d in zip(grid, sizes, strict=False):
        at_d = blocks[blocks["d"] == d]
        for i, m in enumerate(ms):
            _curve(axes, at_d[at_d["m"] == m].sort_values("block_size"), HUES[i % len(HUES)])
        axes.set_yscale("log")
        dress(axes, _apart(sorted(set(at_d["block_size"]))))
        low, high = axes.get_ylim()
        subs = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y)))
        axes.set_title(f"d = {d}" + _reflectors(at_d), loc="left", fontsize=10)
        axes.set_xlabel("block size k", fontsize=9)
        axes.tick_params(labelsize=8)
    for axes in grid[len(sizes) :]:
        axes.set_axis_off()
    figure.suptitle(f"A step with blocks of k reflectors  ({where(blocks.iloc[0])})")
    figure.supylabel("time of a step (median, best plan)", fontsize=10)
    handles = [
        Line2D([], [], color=HUES[i % len(HUES)], label=f"m = {m}") for i, m in enumerate(ms)
    ]
    handles += [
        Line2D([], [], color="#444444", marker=".", ls="none", label="measured"),
        Line2D([], [], color="#444444", ls="--", label="cost model"),
        Line2D([], [], color="#bbbbbb", ls="none", **BEST, label="best"),
    ]
    handles += [_hollow(name, "#444444", rules[name]) for name in ON_CURVE if name in rules]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=8.5)
    return figure


def _apart(sizes: list[int]) -> list[int]:
    """Those that can be labelled without touching: a third apart."""
    labelled = sizes[:1]
    for k in sizes[1:]:
        if k >= 1.32 * labelled[-1]:
            labelled.append(k)
    return labelled


def _hollow(name: str, color: str, label: str) -> Line2D:
    style = {**ON_CURVE[name], "markersize": 0.7 * ON_CURVE[name]["markersize"]}
    return Line2D([], [], ls="none", mfc="none", mec=color, label=label, **style)


def _curve(axes: Axes, rows: "pd.DataFrame", color: str) -> None:
    axes.plot(rows["block_size"], rows["step_s"], ".-", color=color, lw=1.4, ms=7, zorder=3)
    plot_line(axes, rows["block_size"], rows["model_s"], ls="--", color=color, lw=1, zorder=2)
    best = rows.loc[rows["step_s"].idxmin()]
    axes.plot(best["block_size"], best["step_s"], color=color, zorder=5, **BEST)
    for name, style in ON_CURVE.items():
        for row in rows.to_dict("records"):
            if name in str(row["chosen_by"]).split():
                at = row["block_size"], row["step_s"]
                axes.plot(*at, mfc="none", mec=color, mew=1.1, zorder=4, **style)


def _reflectors(rows: "pd.DataFrame") -> str:
    return "" if (rows["n"] == rows["d"]).all() else f", n = {rows['n'].iloc[0]}"


def best_block(shapes: "pd.DataFrame", first: Any) -> Figure:
    """The best block size over d and m, measured beside modelled."""
    lowest, highest = (f(shapes[["best", "model_best"]].to_numpy().ravel()) for f in (min, max))
    table = {
        name: shapes.pivot(index="d", columns="m", values=name) for name in ("best", "model_best")
    }
    lines, columns = table["best"].shape
    figure = _figure(2.6 + 1.9 * columns, 1.6 + 0.55 * lines)
    for axes, (name, title) in zip(
        figure.subplots(1, 2, sharey=True),
        (("best", "measured"), ("model_best", "by the cost model")),
        strict=True,
    ):
        _heat(axes, table[name], lowest, highest)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("m, columns of X")
    figure.axes[0].set_ylabel("d, length of a reflector")
    figure.suptitle(f"Best block size k  ({where(first)})")
    return figure


def _heat(axes: Axes, table: "pd.DataFrame", lowest: float, highest: float) -> None:
    from matplotlib.colors import LogNorm

    axes.imshow(
        table,
        norm=LogNorm(lowest / 1.5, highest * 1.5),
        cmap="cividis",
        aspect="auto",
        origin="lower",
    )
    middle = (lowest * highest) ** 0.5
    for i, j in ((i, j) for i in range(table.shape[0]) for j in range(table.shape[1])):
        k = table.iat[i, j]
        if k == k:
            color = "white" if k <= middle else "black"
            axes.text(j, i, f"{k:.0f}", ha="center", va="center", color=color, fontsize=11)
    axes.set_xticks(range(table.shape[1]), [str(m) for m in table.columns])
    axes.set_yticks(range(table.shape[0]), [str(d) for d in table.index])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def regret(shapes: "pd.DataFrame", rules: dict[str, str], first: Any) -> Figure:
    """How much slower than the best the rules are, shape by shape."""
    rows = shapes.sort_values(["d", "m"]).reset_index(drop=True)
    figure = _figure(max(7.5, 3.6 + 0.62 * len(rows)), 4.6)
    axes = figure.add_subplot()
    worst = 100 * rows[list(rules)].max().max()
    for i, (name, label) in enumerate(rules.items()):
        values = 100 * rows[name]
        shift = 0.8 * ((i + 0.5) / len(rules) - 0.5)
        said = f"{label}\nmedian {values.median():.0f} %, worst {values.max():.0f} %"
        axes.plot(
            rows.index + shift,
            values,
            MARKS[i % len(MARKS)],
            color=HUES[i % len(HUES)],
            ms=5.5,
            label=said,
        )
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    top = next((p for p in PERCENT if p > max(worst, 5)), 2 * worst)
    axes.set_ylim(-0.3, top)
    axes.yaxis.set_major_locator(FixedLocator([p for p in PERCENT if p <= top]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("step time above the best")
    axes.grid(True, axis="y", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    _shape_axis(axes, rows)
    axes.set_title(f"What a rule costs  ({where(first)})", loc="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5, labelspacing=1.0)
    return figure


def _shape_axis(axes: Axes, rows: "pd.DataFrame") -> None:
    """m below every shape, d below every group, a rule between groups."""
    axes.set_xticks(list(rows.index), [str(m) for m in rows["m"]])
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="x", length=0)
    for d, at in rows.groupby("d"):
        axes.annotate(
            f"d = {d}",
            (float(at.index.to_series().mean()), 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -22),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9.5,
        )
        if at.index[0]:
            axes.axvline(at.index[0] - 0.5, color="#bbbbbb", lw=0.8)
    axes.set_xlabel("m, columns of X", labelpad=24)
