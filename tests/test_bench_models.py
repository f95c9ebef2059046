"""``make bench-models``: what it concludes from what its runs leave."""

import math

import pytest
from promises.models import OURS, SPEAKER, loss_figures, main, one_of, rivals_figures

from svdbench.errors import UserError
from svdbench.jobs.time_compressors.summaries import CompressorSummary
from svdbench.statistics.intervals import Interval


def summary(method: str, budget: float, loss: float, low: float | None = None) -> CompressorSummary:
    """A method's numbers; ``low`` is the lower end of its difference from ours."""
    return CompressorSummary(
        method=method,
        budget=budget,
        tuned=False,
        draws=3,
        kept=budget,
        loss=loss,
        lowest=loss,
        highest=loss,
        increase=loss - 1.0,
        against=OURS,
        difference=None if low is None else Interval(low + 0.1, low, low + 0.2, 3),
        spent_s=1.0,
        peak_bytes=math.nan,
        latency_ratio=0.8,
        decode_ratio=math.nan,
    )


FOUND = [
    summary(OURS, 0.5, 0.17),
    summary("svd_llm", 0.5, 0.3, low=0.1),
    summary("asvd", 0.5, 0.16, low=-0.1),
    summary(OURS, 0.25, 0.4),
]


def test_a_rival_is_worse_only_beyond_its_interval() -> None:
    worse, nearly = rivals_figures("it", FOUND)
    assert (worse.what, worse.measured, worse.kept) == (
        "it at 50%: svd_llm's loss − ours, at the least",
        0.1,
        True,
    )
    assert nearly.kept is False


def test_losses_beside_what_is_promised() -> None:
    figures = loss_figures("it", FOUND, {0.5: 0.18, 0.25: 0.34}, "1 − cosine")
    assert [figure.kept for figure in figures] == [True, True, False, False]
    assert one_of(FOUND, OURS, 0.25).loss == 0.4
    assert SPEAKER > 0


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(UserError, match="choose from target, costs"):
        main(["gpt5"])
