"""The verdict on one cell, or on one cell of all seeds, from the numbers of both sides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Literal

from svdbench.compare.metrics import Metric
from svdbench.compare.pairing import Cell, What
from svdbench.statistics.tests import Ratio, by_pairs, by_ranks, holm

Verdict = Literal["better", "worse", "same", "can't tell"]


@dataclass(frozen=True)
class CellComparison:
    """One metric of one cell, or of all seeds of one.

    Attributes:
        what: the columns that define it.
        metric: of which less is better.
        a, b: the median time, or the mean of a result over its seeds.
        n_a, n_b: how many values there are of it.
        paired: whether they are compared seed by seed, or as two heaps.
        found: B over A; None where there is no ratio.
        p: adjusted for the number of comparisons; None without a test.
        verdict: on B.
        regression: whether it is worse, and by more than the threshold.
    """

    what: What
    metric: Metric
    a: float
    b: float
    n_a: int
    n_b: int
    paired: bool
    found: Ratio | None
    p: float | None = None
    verdict: Verdict = "can't tell"
    regression: bool = False


def compare_unpaired(
    what: What, metric: Metric, a: Sequence[Cell], b: Sequence[Cell], alpha: float
) -> CellComparison | None:
    """All values of the cells of one side against all of the other; None where there are none."""
    values_a, together_a = _heap(a, metric)
    values_b, together_b = _heap(b, metric)
    if not values_a or not values_b:
        return None
    found = None
    if min(*values_a, *values_b) > 0:
        found = by_ranks(values_a, values_b, together_a, together_b, alpha)
    numbers = median(values_a), median(values_b), len(values_a), len(values_b)
    return CellComparison(what, metric, *numbers, False, found)


def by_seeds(
    what: What, metric: Metric, pairs: Sequence[tuple[Cell, Cell]], alpha: float
) -> CellComparison | None:
    """The results of pairs of cells, each of the same seed; None where there are none."""
    values = [(x.values(metric)[0], y.values(metric)[0]) for x, y in pairs]
    a = [fmean(x) for x, y in values if x and y]
    b = [fmean(y) for x, y in values if x and y]
    if not a:
        return None
    found = None
    if min(*a, *b) >= 0:
        # Errors may be 0, and what counts of them is how many more there are.
        logarithms = not metric.is_rest and min(*a, *b) > 0
        found = by_pairs(a, b, logarithms=logarithms, alpha=alpha)
    return CellComparison(what, metric, fmean(a), fmean(b), len(a), len(b), True, found)


def judged(cells: Sequence[CellComparison], threshold: float, alpha: float) -> list[CellComparison]:
    """With the verdicts, as the tests of all cells together allow them."""
    tests = [cell.found.p for cell in cells if cell.found and cell.found.p is not None]
    adjusted = iter(holm(tests))
    return [
        cell
        if cell.found is None or cell.found.p is None
        else _judge(cell, cell.found, next(adjusted), threshold, alpha)
        for cell in cells
    ]


def _judge(
    cell: CellComparison, found: Ratio, p: float, threshold: float, alpha: float
) -> CellComparison:
    verdict: Verdict = "can't tell"
    if p < alpha:
        verdict = "worse" if found.ratio > 1 else "better"
    # Not to have found a difference is not to know that there is none.
    elif 1 / threshold <= found.low and found.high <= threshold:
        verdict = "same"
    regression = verdict == "worse" and found.ratio > threshold
    return replace(cell, p=p, verdict=verdict, regression=regression)


def _heap(cells: Sequence[Cell], metric: Metric) -> tuple[list[float], list[str]]:
    """All values of all cells, and the cluster each was measured in."""
    found = [cell.values(metric) for cell in cells]
    return [v for values, _ in found for v in values], [t for _, ts in found for t in ts]
