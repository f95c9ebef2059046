"""Tables of a ``tune --plot`` run and its answer, from the run's folder and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.report.tuning_plots import draw_all
from svdbench.reporting.words import quantity, seconds
from svdbench.timings.report import disturbed

if TYPE_CHECKING:
    import pandas as pd

SHAPE = ["d", "n", "m"]
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
# Step times this close count as the same.
CLOSE = 1.05


def show_run(folder: Path, console: Console) -> None:
    """Print the tables and the answer, and draw the figures."""
    summary = read_table(folder, "summary")
    timed = summary[summary["status"] == "ok"]
    print_lines(console, disturbed(summary))
    lines = [*without_number(summary)]
    figures: list[Path] = []
    if len(timed):
        blocks = by_block(timed, read_table(folder, "model"))
        fit = read_table(folder, "fit")
        shapes = by_shape(timed, blocks)
        console.print(best_table(shapes), regret_table(shapes))
        figures = draw_all(folder, blocks, shapes, {name: RULES[name] for name in rules_of(shapes)})
        lines += [*model_lines(fit), *answer(shapes)]
    print_lines(console, (*lines, *figures))


def by_block(timed: "pd.DataFrame", model: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each shape and block size: the best plan's, with what the model says."""
    fastest = timed.loc[timed.groupby([*SHAPE, "block_size"])["step_s"].idxmin()]
    said = model[[*SHAPE, "block_size", "model_s", "optimum"]]
    return fastest.merge(said, on=[*SHAPE, "block_size"])


def by_shape(timed: "pd.DataFrame", blocks: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each shape: the best, the model's choice, and the regret of every rule.

    The regret, a column by the rule's name, is the fraction that its step takes
    longer than the best one; NaN where what it chooses was not measured.
    """
    import pandas as pd

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


def rules_of(shapes: "pd.DataFrame") -> list[str]:
    """The rules of which something is known."""
    return [name for name in RULES if shapes[name].notna().any()]


def _plan(row: Any) -> str:
    """What a plan chooses beside its block size."""
    if row["sweep"] != "torch" or row["device"] != "cpu":
        return str(row["sweep"])
    if row["panels"] > 1:
        return quantity(row["panels"], "panel")
    return quantity(row["plan_threads"] or row["threads"], "thread")


def best_table(shapes: "pd.DataFrame") -> Table:
    """The best block size by shape, those as good, and the model's."""
    columns = ("best k", "step", "with", f"within {CLOSE - 1:.0%}", "model's k", "k*")
    table = new_table("best block size", [], (*_names(shapes), *columns), keys=len(_names(shapes)))
    for row in shapes.to_dict("records"):
        least, most = row["least_close"], row["most_close"]
        table.add_row(
            *_shape(row, shapes),
            str(row["best"]),
            seconds(row["step_s"]),
            row["plan"],
            f"{least}–{most}" if least < most else str(least),
            str(row["model_best"]),
            f"{row['optimum']:.0f}" if row["optimum"] == row["optimum"] else "–",
        )
    return table


def regret_table(shapes: "pd.DataFrame") -> Table:
    """How much longer than the best a step takes with the block size of each rule."""
    names = rules_of(shapes)
    columns = (*_names(shapes), *(RULES[name] for name in names))
    title = "step time above the best, by rule"
    table = new_table(title, [], columns, keys=len(_names(shapes)))
    for row in shapes.to_dict("records"):
        table.add_row(*_shape(row, shapes), *(percent(row[name]) for name in names))
    table.add_section()
    blank = [""] * (len(_shape(shapes.iloc[0], shapes)) - 1)
    for word, values in (("median", shapes[names].median()), ("worst", shapes[names].max())):
        table.add_row(word, *blank, *map(percent, values), style="bold")
    return table


def _names(shapes: "pd.DataFrame") -> list[str]:
    """d, m, and n where it isn't d."""
    return SHAPE if (shapes["n"] != shapes["d"]).any() else ["d", "m"]


def _shape(row: Any, shapes: "pd.DataFrame") -> list[str]:
    return [str(row[name]) for name in _names(shapes)]


def percent(regret: float) -> str:
    return "–" if regret != regret else f"{regret:.0%}"


def model_lines(fit: "pd.DataFrame") -> Iterator[str]:
    """The cost model with its numbers, its error, and the block size that follows."""
    terms = [
        seconds(row["coefficient_s"]) + ("" if row["factor"] == "1" else f"·{row['factor']}")
        for row in fit.to_dict("records")
        if row["coefficient_s"] > 0
    ]
    quality = fit.iloc[0]
    yield f"model: a step takes {' + '.join(terms)};"
    yield (
        f"it is off by {quality['median_error']:.0%} at the median of the {quality['points']} "
        f"times that it was fitted to, by {quality['worst_error']:.0%} at worst"
    )
    c = dict(zip(fit["term"], fit["coefficient_s"], strict=True))
    if c["gram"] > 0 and c["step"] + c["state"] > 0:
        b, g = c["step"] / c["gram"], c["state"] / c["gram"]
        terms = [f"{b:.3g}/d"] * (b > 0) + [f"{g:.3g}·m"] * (g > 0)
        yield f"so the best k, were any number one, is k* = √({' + '.join(terms)}), whatever n is"


def answer(shapes: "pd.DataFrame") -> Iterator[str]:
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


def _cost(shapes: "pd.DataFrame", name: str) -> str:
    return f"{percent(shapes[name].median())} at the median, {percent(shapes[name].max())} at worst"


def without_number(summary: "pd.DataFrame") -> Iterator[str]:
    """Why a block size has no number, once per reason."""
    missing = summary[summary["status"] != "ok"]
    for (status, reason), rows in missing.groupby(["status", "reason"]):
        for k, at in rows.groupby("block_size"):
            sizes = ", ".join(f"{d}" for d in sorted(set(at["d"])))
            yield f"k = {k} {status} at d = {sizes}: {reason}"
