"""The published numbers of a ``compress`` run's configuration beside its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from svdbench.record.reader import RecordedRun
from svdbench.report.compression_arms import STOCK, training_times
from svdbench.report.published import departures
from svdbench.reporting.claims import Claim, PublishedNumber, published
from svdbench.statistics.intervals import prediction_interval

if TYPE_CHECKING:
    import pandas as pd

FORMS = {"accuracy": ".1%", "loss": ".2f", "time_ratio": ".2f"}


def claims(folder: Path, run: "pd.DataFrame") -> list[Claim]:
    """A claim for each number in ``published`` that this run has too.

    Each was read off a single run, so the interval is that of one more run.
    """
    differing = departures(RecordedRun(folder).settings)
    early = {key: text for key, text in differing.items() if key != "epochs"}
    found = []
    for number in published(RecordedRun(folder), FORMS):
        values, what = _ours(run, number)
        if values:
            claim = Claim(
                what=f"{number.of.get('method')} {what}",
                ours=prediction_interval(values),
                published=number.value,
                tolerance=number.tolerance,
                form=FORMS[number.column],
                # What comes after an epoch doesn't change it.
                settings=early if number.of.get("epoch") else differing,
            )
            found.append(claim)
    return found


def _ours(run: "pd.DataFrame", number: PublishedNumber) -> tuple[list[float], str]:
    """A value for each seed, and what they are; none of a method with several ranks."""
    own = run[run["method"] == number.of.get("method")]
    if own["arm"].nunique() != 1:
        return [], ""
    if number.column == "time_ratio":
        ratios = training_times(own) / training_times(run[run["arm"] == STOCK])
        return list(ratios.dropna()), "time, × stock"
    epoch = number.of.get("epoch") or run["epoch"].max()
    return list(own[own["epoch"] == epoch][number.column]), f"{number.column}, epoch {epoch}"
