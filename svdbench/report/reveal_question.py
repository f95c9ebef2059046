"""Is a rank that somebody asked about the right one? An answer in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from svdbench.statistics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    import pandas as pd


def answer(
    summary: "pd.DataFrame", samples: "pd.DataFrame", curves: "pd.DataFrame"
) -> Iterator[str]:
    """A sentence for each weight and one for all together, where a rank was asked about."""
    asked = [name for name in summary["method"].unique() if str(name).startswith("rank ")]
    if not asked:
        return
    rank = int(asked[0].removeprefix("rank "))
    epsilon = float(summary.loc[summary["method"] == "exact", "epsilon"].iloc[0])
    less, more = [], []
    for name, own in curves.groupby("layer", sort=False):
        full = int(own["full"].iloc[0])
        if full <= rank:
            yield f"{name}: {rank} is all the rank it has"
            continue
        at = own[own["rank"] == rank]
        rise = mean_interval(list(at["loss"] - at["dense_loss"]))
        exact = samples[(samples["method"] == "exact") & (samples["layer"] == name)]
        need = mean_interval(list(exact["rank"].astype(float)))
        if _high(need) < rank:
            less.append(str(name))
        elif _low(need) > rank:
            more.append(str(name))
        yield (
            f"{name}: needs rank {_told(need, '.3g')} of {full} to stay within {epsilon:g}; at "
            f"rank {rank} it loses {_told(rise, '+.2g')}"
        )
    together = summary.loc[summary["method"] == asked[0], "increase"]
    verdict = f"rank {rank} everywhere loses {_told(mean_interval(list(together)), '+.2g')}"
    if more:
        verdict += f"; it is too little for {' and '.join(more)}"
    if less:
        verdict += f"; it is more than {' and '.join(less)} need{'s' * (len(less) == 1)}"
    right = "yes, as far as this tells" if not more and not less else "no"
    yield f"is {rank} the right rank? {right}: {verdict}"


def _told(interval: Interval, form: str) -> str:
    if interval.count < 2:
        return f"{interval.mean:{form}}"
    return f"{interval.mean:{form}} ({interval.low:{form}} to {interval.high:{form}})"


def _low(interval: Interval) -> float:
    return interval.low if interval.count > 1 else interval.mean


def _high(interval: Interval) -> float:
    return interval.high if interval.count > 1 else interval.mean
