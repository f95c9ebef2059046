"""The report of a ``tune --plot`` run: how to choose a block size."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from svdbench.record.reader import RecordedRun
from svdbench.reporting import plots
from svdbench.reporting.metrics import Metric
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import HUES, MARKS
from svdbench.reporting.words import integer, number, percent, quantity, seconds, size
from svdbench.timings.report import disturbed, summarise_times, times_of, where

SHAPE = ["d", "n", "m"]
whole = partial(percent, decimals=0)
# A rule's name, as in ``chosen_by``, and what to call it.
RULES = {
    "k=m": "k = m",
    "k=32": "k = 32",
    "k=sqrt_d": "k = √d",
    "k=n": "k = n",
    "formula": "our formula",
    "model": "cost model",
}
FIXED = ("k=m", "k=32", "k=sqrt_d", "k=n")  # what can be said without measuring
STEP = Metric("time of a step", "step_s", "s", "lower", "median of repetitions", seconds)
REGRET = Metric("step time above the best", "regret", "fraction", "lower", "of medians", whole)
# Step times this close count as the same.
CLOSE = 1.05
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


def report(run: RecordedRun) -> Report:
    summary = run.frame("summary")
    timed = summary[summary["status"] == "ok"]
    found = Report("how to choose a block size", frames={"plans": timed})
    found.warnings = list(disturbed(summary))
    lines = [*without_number(summary)]
    if len(timed):
        blocks = by_block(timed, run.frame("model"))
        shapes = by_shape(timed, blocks)
        summarise_times(found, blocks, STEP, lambda row: f"block size {row['block_size']}")
        found.metrics += times_of(shapes.rename(columns={"best": "block_size"}), STEP)
        found.blocks += [best_table(shapes), regret_table(shapes)]
        fit = model_lines(run.frame("fit")) if run.has("fit") else ()
        lines += [*fit, *answer(shapes)]
        rules = {name: RULES[name] for name in rules_of(shapes)}
        found.figures = {
            "step_time": partial(step_time, blocks, rules),
            "best_block": partial(best_block, shapes, blocks.iloc[0]),
            "regret": partial(regret, shapes, rules, blocks.iloc[0]),
        }
        found.metrics += [
            REGRET.of(row[name], rule=RULES[name], **{size: row[size] for size in SHAPE})
            for row in shapes.to_dict("records")
            for name in rules
            if row[name] == row[name]
        ]
        found.frames |= {"blocks": blocks, "shapes": shapes}
    found.blocks.append(Lines(lines))
    return found


def by_block(timed: pd.DataFrame, model: pd.DataFrame) -> pd.DataFrame:
    """A row for each shape and block size: the best plan's, with what the model says."""
    fastest = timed.loc[timed.groupby([*SHAPE, "block_size"])["step_s"].idxmin()]
    said = model[[*SHAPE, "block_size", "model_s", "optimum"]]
    return fastest.merge(said, on=[*SHAPE, "block_size"])


def by_shape(timed: pd.DataFrame, blocks: pd.DataFrame) -> pd.DataFrame:
    """A row for each shape: the best, the model's choice, and the regret of every rule.

    The regret, a column by the rule's name, is the fraction that its step takes
    longer than the best one; NaN where what it chooses was not measured.
    """
    rows = []
    for shape, at in blocks.groupby(SHAPE):
        best, chosen = at.loc[at["step_s"].idxmin()], at.loc[at["model_s"].idxmin()]
        close = at.loc[at["step_s"] <= CLOSE * best["step_s"], "block_size"]
        plans = timed[(timed[SHAPE] == list(shape)).all(axis=1)]
        choosers = plans["chosen_by"].fillna("").str.split()
        regret = {
            name: plans.loc[[name in names for names in choosers], "step_s"].min() / best["step_s"]
            - 1
            for name in RULES
        }
        regret["model"] = chosen["step_s"] / best["step_s"] - 1
        found = {
            "best": best["block_size"],
            "step_s": best["step_s"],
            "least_close": close.min(),
            "most_close": close.max(),
            "model_best": chosen["block_size"],
            "optimum": min(chosen["optimum"], chosen["n"]),
            "plan": _plan(best),
        }
        rows.append({**dict(zip(SHAPE, shape, strict=True)), **found, **regret})
    return pd.DataFrame(rows)


def rules_of(shapes: pd.DataFrame) -> list[str]:
    return [name for name in RULES if shapes[name].notna().any()]


def _plan(row: Any) -> str:
    """What a plan chooses beside its block size; runs of version 0.1 chose more on a CPU."""
    if row["sweep"] != "torch" or row["device"] != "cpu":
        return str(row["sweep"])
    if row.get("panels", 1) > 1:
        return quantity(row["panels"], "panel")
    return quantity(row.get("plan_threads", 0) or row["threads"], "thread")


def best_table(shapes: pd.DataFrame) -> Table:
    """The best block size by shape, those as good, and the model's."""
    columns = ("best k", "step", "with", f"within {whole(CLOSE - 1)}", "model's k", "k*")
    table = Table.of("best block size", [], (*_names(shapes), *columns), keys=len(_names(shapes)))
    for row in shapes.to_dict("records"):
        least, most = row["least_close"], row["most_close"]
        table.add(
            *_shape(row, shapes),
            str(row["best"]),
            TableCell.number(row["step_s"], seconds),
            row["plan"],
            f"{least}–{most}" if least < most else str(least),
            str(row["model_best"]),
            TableCell.number(row["optimum"], integer),
        )
    return table


def regret_table(shapes: pd.DataFrame) -> Table:
    """How much longer than the best a step takes with the block size of each rule."""
    names = rules_of(shapes)
    columns = (*_names(shapes), *(RULES[name] for name in names))
    title = "step time above the best, by rule"
    table = Table.of(title, [], columns, keys=len(_names(shapes)))
    for row in shapes.to_dict("records"):
        table.add(*_shape(row, shapes), *(TableCell.number(row[name], whole) for name in names))
    table.end_section()
    blank = [""] * (len(_shape(shapes.iloc[0], shapes)) - 1)
    for word, values in (("median", shapes[names].median()), ("worst", shapes[names].max())):
        cells = (TableCell.number(value, whole) for value in values)
        table.add(word, *blank, *cells, style="strong")
    return table


def _names(shapes: pd.DataFrame) -> list[str]:
    """d, m, and n where it isn't d."""
    return SHAPE if (shapes["n"] != shapes["d"]).any() else ["d", "m"]


def _shape(row: Any, shapes: pd.DataFrame) -> list[str]:
    return [str(row[name]) for name in _names(shapes)]


def model_lines(fit: pd.DataFrame) -> Iterator[str]:
    """The cost model with its numbers, its error, and the block size that follows."""
    terms = [
        seconds(row["coefficient_s"]) + ("" if row["factor"] == "1" else f"·{row['factor']}")
        for row in fit.to_dict("records")
        if row["coefficient_s"] > 0
    ]
    quality = fit.iloc[0]
    yield f"model: a step takes {' + '.join(terms)};"
    yield (
        f"its error on the {quality['points']} fitted times is "
        f"{whole(quality['median_error'])} at the median, "
        f"{whole(quality['worst_error'])} at worst"
    )
    c = dict(zip(fit["term"], fit["coefficient_s"], strict=True))
    if c["gram"] > 0 and c["step"] + c["state"] > 0:
        b, g = c["step"] / c["gram"], c["state"] / c["gram"]
        terms = [f"{number(b)}/d"] * (b > 0) + [f"{number(g)}·m"] * (g > 0)
        yield f"the best real-valued k is k* = √({' + '.join(terms)}), for any n"


def answer(shapes: pd.DataFrame) -> Iterator[str]:
    """How to choose the block size, as far as these shapes say."""
    known = [name for name in rules_of(shapes) if shapes[name].notna().all()]
    fixed = [name for name in known if name in FIXED]
    best = min(fixed, key=lambda name: (shapes[name].max(), shapes[name].median()))
    worst = shapes.loc[shapes[best].idxmax()]
    rules = ", ".join(RULES[name] for name in fixed)
    yield f"How to choose the block size? The best rule of {rules} is {RULES[best]}."
    yield (
        f"Above the best step of {quantity(len(shapes), 'shape')} it is "
        f"{_cost(shapes, best)} (d = {worst['d']}, m = {worst['m']}); "
        + "; ".join(f"{RULES[name]} {_cost(shapes, name)}" for name in known[len(fixed) :])
    )


def _cost(shapes: pd.DataFrame, name: str) -> str:
    return f"{whole(shapes[name].median())} at the median, {whole(shapes[name].max())} at worst"


def without_number(summary: pd.DataFrame) -> Iterator[str]:
    """The block sizes without a time, with the reason."""
    missing = summary[summary["status"] != "ok"]
    for (status, reason), rows in missing.groupby(["status", "reason"]):
        for k, at in rows.groupby("block_size"):
            sizes = ", ".join(f"{d}" for d in sorted(set(at["d"])))
            yield f"k = {k} {status} at d = {sizes}: {reason}"


def step_time(blocks: pd.DataFrame, rules: dict[str, str]) -> Figure:
    """Step time against k, a panel for each d: measured, modelled, and where rules land."""
    sizes, ms = sorted(set(blocks["d"])), sorted(set(blocks["m"]))
    figure, grid = plots.panels(len(sizes), 3, (3.7, 3.0), (1.5, 1.7))
    for axes, d in zip(grid, sizes, strict=True):
        at_d = blocks[blocks["d"] == d]
        for i, m in enumerate(ms):
            _curve(axes, at_d[at_d["m"] == m].sort_values("block_size"), HUES[i % len(HUES)])
        plots.logarithmic(axes)
        plots.dress(axes, _apart(sorted(set(at_d["block_size"]))))
        n = "" if (at_d["n"] == d).all() else f", n = {at_d['n'].iloc[0]}"
        axes.set_title(f"d = {d}{n}", loc="left", fontsize=10)
        axes.set_xlabel("block size k", fontsize=9)
        axes.tick_params(labelsize=8)
    figure.suptitle(f"Time of a step over the block size k  ({where(blocks.iloc[0])})")
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
    """The sizes whose labels do not touch: at least a third apart."""
    labelled = sizes[:1]
    for k in sizes[1:]:
        if k >= 1.32 * labelled[-1]:
            labelled.append(k)
    return labelled


def _hollow(name: str, color: str, label: str) -> Line2D:
    style = {**ON_CURVE[name], "markersize": 0.7 * ON_CURVE[name]["markersize"]}
    return Line2D([], [], ls="none", mfc="none", mec=color, label=label, **style)


def _curve(axes: Axes, rows: pd.DataFrame, color: str) -> None:
    axes.plot(rows["block_size"], rows["step_s"], ".-", color=color, lw=1.4, ms=7, zorder=3)
    plots.plot_line(axes, rows["block_size"], rows["model_s"], ls="--", color=color, lw=1, zorder=2)
    best = rows.loc[rows["step_s"].idxmin()]
    axes.plot(best["block_size"], best["step_s"], color=color, zorder=5, **BEST)
    for name, style in ON_CURVE.items():
        for row in rows.to_dict("records"):
            if name in str(row["chosen_by"]).split():
                at = row["block_size"], row["step_s"]
                axes.plot(*at, mfc="none", mec=color, mew=1.1, zorder=4, **style)


def best_block(shapes: pd.DataFrame, first: Any) -> Figure:
    """The best block size over d and m, measured beside modelled."""
    lowest, highest = (f(shapes[["best", "model_best"]].to_numpy().ravel()) for f in (min, max))
    table = {
        name: shapes.pivot(index="d", columns="m", values=name) for name in ("best", "model_best")
    }
    lines, columns = table["best"].shape
    figure = plots.new_figure(2.6 + 1.9 * columns, 1.6 + 0.55 * lines)
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


def _heat(axes: Axes, table: pd.DataFrame, lowest: float, highest: float) -> None:
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
            axes.text(j, i, str(int(k)), ha="center", va="center", color=color, fontsize=11)
    axes.set_xticks(range(table.shape[1]), [str(m) for m in table.columns])
    axes.set_yticks(range(table.shape[0]), [str(d) for d in table.index])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def regret(shapes: pd.DataFrame, rules: dict[str, str], first: Any) -> Figure:
    """How much slower than the best the rules are, shape by shape."""
    rows = shapes.sort_values(["d", "m"]).reset_index(drop=True)
    figure = plots.new_figure(max(7.5, 3.6 + 0.62 * len(rows)), 4.6)
    axes = figure.add_subplot()
    worst = 100 * rows[list(rules)].max().max()
    for i, (name, label) in enumerate(rules.items()):
        values = rows[name]
        said = f"{label}\nmedian {whole(values.median())}, worst {whole(values.max())}"
        style = {"color": HUES[i % len(HUES)], "linestyle": "", **MARKS[i % len(MARKS)]}
        axes.plot(rows.index, 100 * values, label=said, zorder=3 + len(rules) - i, **style)
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    top = next((p for p in PERCENT if p > max(worst, 5)), 2 * worst)
    axes.set_ylim(-0.3, top)
    plots.fix_ticks(axes.yaxis, [p for p in PERCENT if p <= top], lambda p: f"{size(p)}%")
    axes.set_ylabel("step time above the best")
    axes.grid(True, axis="y", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    _shape_axis(axes, rows)
    axes.set_title(
        f"Time of a step by each rule, above the best block size  ({where(first)})", loc="left"
    )
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5, labelspacing=1.0)
    return figure


def _shape_axis(axes: Axes, rows: pd.DataFrame) -> None:
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
