"""Compares two runs cell by cell, and gives one verdict."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Literal

from svdbench.errors import UserError
from svdbench.jobs.compare.pairing import (
    Cell,
    EnvironmentFact,
    What,
    check,
    differing,
    families,
    fields,
    pair,
    refuse_other_job,
    unpaired_groups,
)
from svdbench.jobs.compare.runs import ComparedMetric, Side, choose, is_training, number
from svdbench.measure import BUSY, voids_floor
from svdbench.record.schema import ended_well
from svdbench.reporting import words
from svdbench.statistics.intervals import Ratio, by_pairs, by_ranks, holm

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
    metric: ComparedMetric
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
    what: What, metric: ComparedMetric, a: Sequence[Cell], b: Sequence[Cell], alpha: float
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
    what: What, metric: ComparedMetric, pairs: Sequence[tuple[Cell, Cell]], alpha: float
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


def _heap(cells: Sequence[Cell], metric: ComparedMetric) -> tuple[list[float], list[str]]:
    """All values of all cells, and the cluster each was measured in."""
    found = [cell.values(metric) for cell in cells]
    return [v for values, _ in found for v in values], [t for _, ts in found for t in ts]


# Floors over times.
_FRACTIONS = ("of_floor", "of_larger_floor")


# Ends that are a defect of what was measured, not a wish of the user's. One of a training that its
# clock stopped is none, and has a result.
_DEFECTS = ("failed", "gate", "oom", "nan", "timeout")


# The exit code where a verdict is missing and one was asked for.
UNDECIDED = 4


@dataclass(frozen=True)
class CellWithoutNumber:
    """A cell of both sides that has no number on one side or on both.

    Attributes:
        what: the columns that define it.
        a, b: how it ended on either side.
        broken: whether it had a number before and has a defect now.
        repaired: whether it has a number now.
    """

    what: What
    a: str
    b: str
    broken: bool
    repaired: bool


@dataclass(frozen=True)
class Comparison:
    """All that there is to say of two runs.

    Attributes:
        metrics: what was compared.
        facts: of both environments.
        warnings: why the comparison may mislead.
        cells: with a number on both sides, one for each metric.
        lost: without.
        only_a, only_b: cells that the other side doesn't have.
        unmeasured: cells, and metrics of cells, with a number in A and none in B.
        fail_undecided: whether to fail where something is left without a verdict.
    """

    a: Side
    b: Side
    metrics: list[ComparedMetric]
    threshold: float
    alpha: float
    facts: list[EnvironmentFact]
    warnings: list[str]
    cells: list[CellComparison]
    lost: list[CellWithoutNumber]
    only_a: list[What]
    only_b: list[What]
    unmeasured: int = 0
    fail_undecided: bool = False

    @property
    def regressions(self) -> list[CellComparison]:
        return [cell for cell in self.cells if cell.regression]

    @property
    def broken(self) -> list[CellWithoutNumber]:
        return [cell for cell in self.lost if cell.broken]

    @property
    def undecided(self) -> int:
        """How much that A has numbers of is left without a verdict."""
        return self.counts["can't tell"] + self.unmeasured

    @property
    def counts(self) -> Counter[str]:
        """Of the verdicts."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def exit_code(self) -> int:
        if self.regressions or self.broken:
            return 1
        return UNDECIDED if self.fail_undecided and self.undecided else 0


def compare(
    a: Side,
    b: Side,
    *,
    metrics: Sequence[str] | None = None,
    threshold: float = 1.05,
    alpha: float = 0.05,
    force: bool = False,
    fail_undecided: bool = False,
) -> Comparison:
    """Compare B with A, which was before.

    Args:
        metrics: columns; by default the usual ones of the job.
        threshold: no ratio of B to A up to this is a regression.
        alpha: the probability that among all comparisons of what is the same, one shows a
            difference; the intervals have 1 − alpha each.
        force: compare in spite of environments that don't match.
        fail_undecided: count undecided cells as failures.

    Raises:
        UserError: a metric that isn't there, or no cell in common.
        Mismatch: different jobs or environments.
    """
    refuse_other_job(a, b)
    chosen = choose(a, b, metrics)
    facts = fields(a, b, chosen)
    warnings = check(a, b, facts, force)
    pairs = pair(a, b, [fact.name for fact in facts if fact.refused])
    heaps = list(unpaired_groups(pairs)) if is_training(a) and not differing(a, b) else []
    if not pairs.both and not heaps:
        raise UserError(_nothing(a, b))
    good: list[tuple[Cell, Cell]] = []
    lost: list[tuple[Cell, Cell]] = []
    for two in pairs.both:
        (good if all(ended_well(cell.outcome) for cell in two) else lost).append(two)
    groups = list(families(good)) if is_training(a) else [(x.what, [(x, y)]) for x, y in good]
    found: list[CellComparison | None] = []
    for metric in chosen:
        for what, group in groups:
            if metric.sampled or not is_training(a):
                x, y = zip(*group, strict=True)
                found.append(compare_unpaired(what, metric, x, y, alpha))
            else:
                found.append(by_seeds(what, metric, group, alpha))
        found += [compare_unpaired(what, metric, x, y, alpha) for what, x, y in heaps]
    missing = [*pairs.only_a, *(x for x, y in lost if not _lost(x, y).broken)]
    cells = judged([cell for cell in found if cell is not None], threshold, alpha)
    return Comparison(
        a,
        b,
        chosen,
        threshold,
        alpha,
        facts,
        [*warnings, *_complaints(a, b), *_slower_machine(pairs.both, threshold)],
        cells,
        [_lost(x, y) for x, y in lost],
        [cell.what for cell in pairs.only_a],
        [cell.what for cell in pairs.only_b],
        found.count(None) + sum(ended_well(cell.outcome) for cell in missing),
        fail_undecided,
    )


def _ended(cell: Cell) -> str:
    return cell.outcome["status"]


def _lost(x: Cell, y: Cell) -> CellWithoutNumber:
    broken = ended_well(x.outcome) and _ended(y) in _DEFECTS
    return CellWithoutNumber(x.what, _told(x), _told(y), broken, repaired=ended_well(y.outcome))


def _told(cell: Cell) -> str:
    """The status and reason of a cell."""
    return ": ".join(filter(None, (cell.outcome["status"], cell.outcome.get("reason"))))


def _nothing(a: Side, b: Side) -> str:
    """The reason why there is nothing to compare."""
    keys = differing(a, b)
    why = f": their configurations differ in {'; '.join(keys[:3])}" if keys else ""
    more = f" and {len(keys) - 3} more keys" if len(keys) > 3 else ""
    return (
        f"{a.name} and {b.name} have no cell in common{why}{more}: repeat one with the "
        "configuration of the other"
    )


def _complaints(a: Side, b: Side) -> Iterator[str]:
    """Torn tables, and sides measured beside other processes."""
    for side in (a, b):
        yield from side.complaints
        fractions = [number(row, name) for row in side.summary for name in _FRACTIONS]
        if voids_floor(fraction for fraction in fractions if fraction is not None):
            yield (
                f"{side.name} has times below their floor, which is impossible: other "
                "processes were using the cores while the machine's rate was "
                "measured: repeat it on an idle machine"
            )
        known = [number(row, "foreign_cores") for row in side.summary]
        cores = [value for value in known if value is not None]
        busy = [value for value in cores if value > BUSY]
        if busy:
            yield (
                f"while {side.name} was measured, other processes kept "
                f"{words.fixed(median(busy), 1)} cores busy in "
                f"{words.percent(len(busy) / len(cores), 0)} of the rows: repeat it on an idle "
                "machine"
            )


def _slower_machine(pairs: Sequence[tuple[Cell, Cell]], threshold: float) -> Iterator[str]:
    """A warning where the machines' rates of matrix products differ."""
    rates = [[_rate(cell) for cell in two] for two in pairs]
    ratios = [x / y for x, y in rates if x and y]
    ratio = median(ratios) if ratios else 1.0
    if max(ratio, 1 / ratio) > threshold:
        yield (
            f"a plain matrix product took {words.ratio(ratio)} as long in B as in A: the machine "
            "was different or disturbed, so the verdict is uncertain"
        )


def _rate(cell: Cell) -> float | None:
    """The rate of plain matrix products, measured beside the cell."""
    found = [number(row, "matmul_gflops") for row in cell.summary]
    return median(rate for rate in found if rate) if any(found) else None
