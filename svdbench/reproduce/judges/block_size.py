"""What the usual rules for the block size lose against the best one."""

from statistics import median

from svdbench.quantities import quantity
from svdbench.report.tuning import by_block, by_shape
from svdbench.reproduce.numbers import Measured, Point
from svdbench.reproduce.runs import Runs
from svdbench.statistics.intervals import Interval
from svdbench.statistics.summaries import median_interval

NAMES = {"k=m": "m", "k=32": "32", "k=sqrt_d": "sqrt", "k=n": "n", "formula": "formula"}


def measure(runs: Runs) -> Measured:
    """For each rule, how much longer a step takes than with the best block: median and worst."""
    found, summary = Measured(), runs.table("blocks")
    timed = summary[summary["status"] == "ok"]
    blocks = by_block(timed, runs.table("blocks", "model"))
    shapes = by_shape(timed, blocks)
    for rule, name in {**NAMES, "model": "model"}.items():
        regrets = list(shapes[rule].dropna())
        if regrets:
            of = f"median of {quantity(len(regrets), 'shape')}"
            middle = Interval(median(regrets), *median_interval(regrets), len(regrets))
            found.interval(f"{name}_regret", middle, of)
            found.exact(f"{name}_worst", max(regrets))
    for m, rows in shapes.groupby("m"):
        for row in rows.to_dict("records"):
            point = Point("best_block", f"m = {m}", float(row["d"]), float(row["best"]))
            found.curves.append(point)
    return found
