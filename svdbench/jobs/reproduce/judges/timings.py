"""Judges of running times: steps, matrix operations, block sizes, loops."""

import math
from statistics import median
from typing import Any

import pandas as pd

from svdbench.jobs.reproduce.evidence import Runs
from svdbench.jobs.reproduce.numbers import CurvePoint, Evidence
from svdbench.reporting.words import quantity
from svdbench.statistics.intervals import Interval
from svdbench.statistics.summaries import median_interval

OF = "ratio of medians, in one run"
_ERROR, _QUANTILE = 1.25 / 1.35, 1.959964


def steps(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole steps that have a number."""
    return summary[(summary["pass"] == "step") & (summary["status"] == "ok")]


def ratio(over: Any, under: Any) -> Interval:
    """The time of one row over that of another, from the quartiles of each.

    The standard error of a median is 1.25 σ/√n, and the quartiles are 1.35 σ apart, for times
    that are about normal near their middle (McGill, Tukey, Larsen, Variations of box plots, The
    American Statistician 32, 1978). How another run would differ is not in it.
    """
    middle = over["median_s"] / under["median_s"]
    error = math.hypot(_relative_error(over), _relative_error(under))
    return Interval(
        middle,
        middle * math.exp(-_QUANTILE * error),
        middle * math.exp(_QUANTILE * error),
        int(min(over["reps"], under["reps"])),
    )


def _relative_error(row: Any) -> float:
    spread = (row["q75_s"] - row["q25_s"]) / row["median_s"]
    return float(_ERROR * spread / math.sqrt(row["reps"]))


def row_of(rows: pd.DataFrame, **where: Any) -> Any:
    """The row whose columns have these values; None where there is none."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return None if rows.empty else rows.iloc[0]


def put_ratio(found: Evidence, name: str, over: Any, under: Any) -> None:
    """Put the ratio of two rows among the numbers, if both are there."""
    if over is not None and under is not None:
        found.interval(name, ratio(over, under), OF)


def put_curves(found: Evidence, figure: str, rows: pd.DataFrame, x: str, series: str) -> None:
    """Put the times of a step among the curves, with quartiles: a curve for each series."""
    for row in rows.sort_values([series, x]).to_dict("records"):
        point = CurvePoint(
            figure,
            str(row[series]),
            float(row[x]),
            float(row["median_s"]),
            float(row["q25_s"]),
            float(row["q75_s"]),
        )
        found.curves.append(point)


FASTH_STEP = "fasth"
SHOWN = ("fasth", "cayley", "cayley_dense", "sequential", "matrix_exp", "parallel")
# Whose output Q·X is computed without Q, and those that build it, as the published figure did.
RIVALS = {"sequential": "sequential", "dense_cayley": "cayley_dense", "exp": "matrix_exp"}


def step_time(runs: Runs) -> Evidence:
    """The running time of a gradient-descent step: FastH against its rivals, size by size.

    Ratios to FastH's time at every d, and the least and the largest of them.
    """
    found, timed = Evidence(), steps(runs.table("step"))
    sizes = sorted(set(timed.loc[timed["method"] == FASTH_STEP, "d"]))
    for d in sizes:
        at = timed[timed["d"] == d]
        ours = row_of(at, method=FASTH_STEP)
        for name, method in {**RIVALS, "parallel": "parallel", "cayley": "cayley"}.items():
            put_ratio(found, f"{name}_{d:.0f}", row_of(at, method=method), ours)
        others = at[at["kind"] != ours["kind"]]
        if len(others):
            best = others.loc[others["median_s"].idxmin()]
            put_ratio(found, f"best_{d:.0f}", best, ours)
    for name, method in RIVALS.items():
        rows = [row_of(timed, method=method, d=d) for d in sizes]
        pairs = [
            (row, row_of(timed, method=FASTH_STEP, d=d))
            for row, d in zip(rows, sizes, strict=True)
            if row is not None
        ]
        if pairs:
            put_ratio(found, f"{name}_least", *min(pairs, key=lambda pair: ratio(*pair).mean))
            put_ratio(found, f"{name}_largest", *max(pairs, key=lambda pair: ratio(*pair).mean))
    put_curves(found, "step_time", timed[timed["method"].isin(SHOWN)], "d", "method")
    return found


OPERATIONS = ("inverse", "logdet", "exp", "cayley")
ERRORS = ["error", "grad_V_error", "grad_X_error"]


def matrix_operations(runs: Runs) -> Evidence:
    """Matrix operations through the SVD against torch.linalg's, at equal accuracy.

    For each operation: the time of the fastest other way over ours, by size.
    """
    found, timed = Evidence(), steps(runs.table("operations"))
    for operation in OPERATIONS:
        own = timed[timed["operation"] == operation]
        name = ""
        for d in sorted(set(own["d"])):
            at = own[own["d"] == d]
            ours, others = row_of(at, kind="svd"), at[at["kind"] != "svd"]
            if ours is None or others.empty:
                continue
            best = others.loc[others["median_s"].idxmin()]
            name = f"{operation}_{d:.0f}"
            put_ratio(found, name, best, ours)
            errors = [max(row[ERRORS].dropna()) for row in (ours, best)]
            found.exact(f"{operation}_error", errors[0] / errors[1])
        if name:
            found.numbers[f"{operation}_largest"] = found.numbers[name]
        put_curves(found, operation, own, "d", "method")
    return found


NAMES = {"k=m": "m", "k=32": "32", "k=sqrt_d": "sqrt", "k=n": "n", "formula": "formula"}


def block_size(runs: Runs) -> Evidence:
    """The loss of the usual rules for the block size against the best one.

    For each rule, how much longer a step takes than with the best block: median and worst.
    """
    found, shapes = Evidence(), runs.frames("blocks")["shapes"]
    for rule, name in {**NAMES, "model": "model"}.items():
        regrets = list(shapes[rule].dropna())
        if regrets:
            of = f"median of {quantity(len(regrets), 'shape')}"
            middle = Interval(median(regrets), *median_interval(regrets), len(regrets))
            found.interval(f"{name}_regret", middle, of)
            found.exact(f"{name}_worst", max(regrets))
    for m, rows in shapes.groupby("m"):
        for row in rows.to_dict("records"):
            point = CurvePoint("best_block", f"m = {m}", float(row["d"]), float(row["best"]))
            found.curves.append(point)
    return found


VANILLA, FASTH_LOOP, W_ONCE = ("reflectors_each_step_n", "fasth_each_step_n", "spectral_n")


def rnn_loop(runs: Runs) -> Evidence:
    """A loop of the Spectral-RNN: reflectors one by one, FastH, and W built once.

    Times and counts of dependent operations over FastH's, by hidden size.
    """
    found, summary = Evidence(), runs.table("loop")
    timed, every = steps(summary), summary[summary["pass"] == "step"]
    sizes = sorted(set(timed.loc[timed["method"] == FASTH_LOOP, "d"]))
    for d in sizes:
        at = timed[timed["d"] == d]
        fasth = row_of(at, method=FASTH_LOOP)
        for name, method in (("vanilla", VANILLA), ("lstm", "torch_lstm"), ("rnn", "torch_rnn")):
            put_ratio(found, f"{name}_{d:.0f}", row_of(at, method=method), fasth)
        put_ratio(found, f"once_{d:.0f}", fasth, row_of(at, method=W_ONCE))
    compared = [d for d in sizes if f"vanilla_{d:.0f}" in found.numbers]
    if compared:
        ends = {"smallest": compared[0], "largest": compared[-1]}
        for name, d in ends.items():
            found.numbers[f"vanilla_{name}"] = found.numbers[f"vanilla_{d:.0f}"]
            counts = [
                row_of(every, method=method, d=d)["sequential_ops"]
                for method in (VANILLA, FASTH_LOOP)
            ]
            found.exact(f"sequential_{name}", counts[0] / counts[1])
    put_curves(found, "loop", timed[timed["method"].str.endswith("_n")], "d", "method")
    return found
