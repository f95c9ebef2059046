"""Shared by the reports of networks trained side by side: epochs by arm, noise, and lines.

The arm that all others are compared with is the ``base``: the unchanged network.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from svdbench.reporting.plots import DASHES, hue
from svdbench.reporting.words import few, quantity, ratio, share
from svdbench.statistics.intervals import CONFIDENCE, Interval

STOPPED = ("timeout", "interrupted")


def ended(samples: pd.DataFrame, summary: pd.DataFrame, base: str) -> pd.DataFrame:
    """The epochs to compare: of whole seeds, if there are any, without arms that failed.

    Of a seed that was stopped, those that all its arms have.
    """
    status = summary.set_index(["seed", "arm"])["status"].to_dict()
    known = [
        status.get(key, "interrupted") in ("ok", *STOPPED)
        for key in zip(samples["seed"], samples["arm"], strict=True)
    ]
    rows = samples[known]
    whole = {seed for (seed, arm), how in status.items() if arm == base and how == "ok"}
    if whole:
        return rows[rows["seed"].isin(whole)]
    last = rows.groupby(["seed", "arm"])["epoch"].max().groupby("seed").min()
    return rows[rows["epoch"] <= rows["seed"].map(last)]


def arms_of(run: pd.DataFrame, base: str) -> Iterator[tuple[str, pd.DataFrame, list[int]]]:
    """Name, epochs, and seeds in common with the base: of the base, then in the run's order."""
    seeds_of_base = set(run.loc[run["arm"] == base, "seed"])
    for name in dict.fromkeys([base, *run["arm"]]):
        rows = run[run["arm"] == name]
        seeds = sorted(set(rows["seed"]) & seeds_of_base)
        if seeds:
            yield str(name), rows, seeds


def last_epochs(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    own = rows[rows["split"] == split].sort_values("epoch")
    return own.groupby("seed").tail(1).set_index("seed").sort_index()


def failures(summary: pd.DataFrame, base: str) -> Iterator[str]:
    for row in summary.to_dict("records"):
        if row["status"] not in ("ok", *STOPPED):
            yield f"{row['arm']}, seed {row['seed']}: {row['status']}: {row['reason']}"
        elif row["status"] != "ok" and row["arm"] == base:
            yield f"seed {row['seed']}: {row['status']} after epoch {row['epoch']}"


def headline(arms: Iterable[tuple[str, float, float]]) -> str:
    """The line of the run in the list of all: for each arm its name, accuracy, and speed if any."""
    return few(
        [
            f"{name}: {share(accuracy)}" + ("" if math.isnan(speed) else f" at {ratio(speed)}")
            for name, accuracy, speed in arms
            if accuracy == accuracy
        ]
    )


def headline_of_summary(summary: pd.DataFrame) -> str:
    """The same for a run of which ``summary.csv`` alone was kept."""
    rows = summary[summary["status"] == "ok"].groupby("arm", sort=False)
    means = rows[["accuracy", "speedup"]].mean().replace({"speedup": {1: math.nan}})
    return headline([(str(arm), *row) for arm, row in means.iterrows()])


def difference(interval: Interval, scale: float, form: str) -> str:
    """With its sign, the half-width, and a star where it is more than noise."""
    mark = " *" if interval.excludes(0) else "  "
    half = "" if interval.count < 2 else f" ± {format(scale * interval.halfwidth, form)}"
    return f"{format(scale * interval.mean, '+' + form)}{half}{mark}"


def verdict(interval: Interval, nothing: float) -> str:
    """Whether a difference or ratio is more than noise, in words."""
    return "more than noise" if interval.excludes(nothing) else "within noise"


def noise(pairs: int) -> str:
    """The meaning of the star for a number of pairs; for one, why there is none."""
    if pairs < 2:
        return "one seed has no interval: give --seeds 5 to tell a difference from noise"
    return (
        f"* more than noise: the {100 * CONFIDENCE:g} % interval (t, {quantity(pairs, 'pair')}) "
        "does not contain 'no difference'"
    )


def styles_of(base: str, arms: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, Any]]:
    """The base black and thick; of the other arms the hue and the dash by their numbers."""
    styles: dict[str, dict[str, Any]] = {base: {"color": "black", "lw": 2.2, "zorder": 2}}
    for name, (number, dash) in arms.items():
        styles[name] = {
            "color": hue(number),
            "ls": DASHES[dash % len(DASHES)],
            "lw": 1.6,
            "zorder": 3 + dash,
        }
    return styles


def about(run: pd.DataFrame, bands: str, more: str = "") -> str:
    """The title of a figure: data set, network, ``more``, and ``bands`` with the number of seeds.

    Of one seed, that it is one.
    """
    row, seeds = run.iloc[0], run["seed"].nunique()
    words = bands.format(seeds) if seeds > 1 else "one seed"
    of = f"{row['dataset']}, {row['model']}{more}"
    return f"{of}: {words}" if words else of
