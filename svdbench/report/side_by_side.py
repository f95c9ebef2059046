"""What the reports of networks trained side by side share: their rows by arm, and noise in words.

The arm that all others are compared with is the ``base``: the unchanged network.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from svdbench.reporting.words import quantity
from svdbench.statistics.intervals import CONFIDENCE, Interval

if TYPE_CHECKING:
    import pandas as pd

STOPPED = ("timeout", "interrupted")


def ended(samples: "pd.DataFrame", summary: "pd.DataFrame", base: str) -> "pd.DataFrame":
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


def arms_of(run: "pd.DataFrame", base: str) -> Iterator[tuple[str, "pd.DataFrame", list[int]]]:
    """Name, epochs, and seeds in common with the base: of the base, then in the run's order."""
    seeds_of_base = set(run.loc[run["arm"] == base, "seed"])
    for name in dict.fromkeys([base, *run["arm"]]):
        rows = run[run["arm"] == name]
        seeds = sorted(set(rows["seed"]) & seeds_of_base)
        if seeds:
            yield str(name), rows, seeds


def last_epochs(rows: "pd.DataFrame", split: str) -> "pd.DataFrame":
    """The last row of a split, by seed."""
    own = rows[rows["split"] == split].sort_values("epoch")
    return own.groupby("seed").tail(1).set_index("seed").sort_index()


def failures(summary: "pd.DataFrame", base: str) -> Iterator[str]:
    """A line for each arm that failed, and for each seed that was stopped."""
    for row in summary.to_dict("records"):
        if row["status"] not in ("ok", *STOPPED):
            yield f"{row['arm']}, seed {row['seed']}: {row['status']}: {row['reason']}"
        elif row["status"] != "ok" and row["arm"] == base:
            yield f"seed {row['seed']}: {row['status']} after epoch {row['epoch']}"


def difference(interval: Interval, scale: float, form: str) -> str:
    """With its sign, the half-width, and a star where it is more than noise."""
    mark = " *" if interval.excludes(0) else "  "
    half = "" if interval.count < 2 else f" ± {format(scale * interval.halfwidth, form)}"
    return f"{format(scale * interval.mean, '+' + form)}{half}{mark}"


def noise(pairs: int) -> str:
    """What the star means, where there are so many pairs; of one, why there is none."""
    if pairs < 2:
        return "one seed has no interval: give --seeds 5 to tell a difference from noise"
    return (
        f"* more than noise: the interval of {100 * CONFIDENCE:g} % (t, {quantity(pairs, 'pair')}) "
        "leaves out no difference"
    )
