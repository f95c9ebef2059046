"""Two runs, cell by cell, with a verdict on each and one on all."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from svdbench.compare.environments import (
    EnvironmentFact,
    check,
    differing,
    fields,
    refuse_other_job,
)
from svdbench.compare.metrics import Metric, choose, is_training, number
from svdbench.compare.pairing import Cell, What, families, pair, unpaired_groups
from svdbench.compare.runs import Side
from svdbench.compare.verdicts import CellComparison, by_seeds, compare_unpaired, judged
from svdbench.errors import UserError
from svdbench.measure.quiet import BUSY, voids_floor
from svdbench.record.schema import ended_well

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
    metrics: list[Metric]
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
        fail_undecided: count it as a failure where nothing can be told.

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
    """How it ended, and why."""
    return ": ".join(filter(None, (cell.outcome["status"], cell.outcome.get("reason"))))


def _nothing(a: Side, b: Side) -> str:
    """Why there is nothing to compare."""
    keys = differing(a, b)
    why = f": their configurations differ in {'; '.join(keys[:3])}" if keys else ""
    more = f" and {len(keys) - 3} more keys" if len(keys) > 3 else ""
    return f"{a.name} and {b.name} have no cell in common{why}{more}: repeat one as the other"


def _complaints(a: Side, b: Side) -> Iterator[str]:
    """Torn tables, and sides measured beside other processes."""
    for side in (a, b):
        yield from side.complaints
        fractions = [number(row, name) for row in side.summary for name in _FRACTIONS]
        if voids_floor(fraction for fraction in fractions if fraction is not None):
            yield (
                f"{side.name} has times below their floor, which can't be: the machine's rate was "
                "measured while other processes had the cores: repeat it when they rest"
            )
        known = [number(row, "foreign_cores") for row in side.summary]
        cores = [value for value in known if value is not None]
        busy = [value for value in cores if value > BUSY]
        if busy:
            yield (
                f"while {side.name} was measured, other processes kept {median(busy):.1f} cores "
                f"busy in {len(busy) / len(cores):.0%} of the rows: repeat it when they rest"
            )


def _slower_machine(pairs: Sequence[tuple[Cell, Cell]], threshold: float) -> Iterator[str]:
    """A warning if the products by which the runs measured their machine differ so much."""
    rates = [[_rate(cell) for cell in two] for two in pairs]
    ratios = [x / y for x, y in rates if x and y]
    ratio = median(ratios) if ratios else 1.0
    if max(ratio, 1 / ratio) > threshold:
        yield (
            f"a plain matrix product took {ratio:.2f} times as long in B as in A: the machine "
            "was another, or disturbed, whatever the cells say"
        )


def _rate(cell: Cell) -> float | None:
    """Of plain matrix products, as they were measured beside the cell."""
    found = [number(row, "matmul_gflops") for row in cell.summary]
    return median(rate for rate in found if rate) if any(found) else None
