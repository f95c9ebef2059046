"""What is said of a comparison, in words: the same for a terminal and for a pull request."""

import math
import re
from collections.abc import Iterator, Sequence

from svdbench.compare.comparison import CellWithoutNumber, Comparison
from svdbench.compare.pairing import What
from svdbench.compare.runs import Side
from svdbench.compare.verdicts import CellComparison
from svdbench.reporting.words import quantity, ratio

# A line of text that names cells has room for so many.
_LISTED = 6


def sides(comparison: Comparison) -> Iterator[str]:
    """Which is A and which is B."""
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        yield clean(f"{letter}  {side.name}{_about(side)}")


def _about(side: Side) -> str:
    """When, and of which source; how many runs."""
    env = side.environments[0]
    found = [str(env["timestamp_utc"])[:16].replace("T", " ")] if env.get("timestamp_utc") else []
    source = env.get("source")
    if isinstance(source, dict) and source.get("commit"):
        found.append(
            f"commit {str(source['commit'])[:8]}{' + changes' * bool(source.get('dirty'))}"
        )
    if len(versions := sorted(side.values("version"))) > 1:
        found.append(f"by svdbench {' and '.join(versions)}")
    if len(side.environments) > 1:
        found.append(quantity(len(side.environments), "run"))
    return f"  ({', '.join(found)})" if found else ""


def differences(comparison: Comparison) -> Iterator[str]:
    """What of the environments is the same, what isn't, and why the comparison may mislead."""
    same = [
        f"{fact.name} {fact.a}"
        for fact in comparison.facts
        if fact.name in ("cpu", "threads", "device_name", "torch") and fact.same and fact.a
    ]
    if same:
        yield clean(f"both: {', '.join(same)}")
    other = [
        f"{fact.name} {fact.a or 'unknown'} → {fact.b or 'unknown'}"
        for fact in comparison.facts
        if fact.kind == "informs" and not fact.same
    ]
    if other:
        yield clean(f"differs: {'; '.join(other)}")
    for warning in comparison.warnings:
        yield clean(f"beware: {warning}")


def conclusions(comparison: Comparison) -> Iterator[str]:
    """Cells without a number, then those of one side, then what the words mean."""
    for letter, whats in (("A", comparison.only_a), ("B", comparison.only_b)):
        if whats:
            yield f"only in {letter}: {_listed(whats)}"
    cells: list[CellComparison | CellWithoutNumber] = [*comparison.cells, *comparison.lost]
    labels, _ = labels_of([cell.what for cell in cells])
    for lost in comparison.lost:
        if lost.broken or lost.a != lost.b:
            known = [lost.what[name] for name in labels if name in lost.what]
            yield clean(f"{' '.join(known or lost.what.values())}: {_ends(lost)}")
    neither = [lost for lost in comparison.lost if not lost.broken and lost.a == lost.b]
    if neither:
        yield f"without a number in both: {_listed([lost.what for lost in neither])}"
    unknown = [cell for cell in comparison.cells if cell.verdict == "can't tell"]
    few = [cell for cell in unknown if cell.p is None]
    if few:
        yield (
            f"can't tell: {len(few)} have too few values for a test: keep samples.csv, or train "
            "more seeds (--seeds 5)"
        )
    if len(unknown) > len(few):
        yield (
            f"can't tell: {len(unknown) - len(few)} may differ by more than "
            f"{comparison.threshold:g}, or not at all: measure longer (--budget), on a quiet "
            "machine, or several runs"
        )
    if any(cell.metric.is_time for cell in comparison.regressions):
        yield (
            "runs differ by their process and hour, too, which one run can't show: repeat both, "
            "in turns, before you believe it"
        )


def _ends(lost: CellWithoutNumber) -> str:
    said = "broken" if lost.broken else "repaired" if lost.repaired else "no number"
    return f"{said}: A {lost.a}; B {lost.b}"


def verdict(comparison: Comparison) -> str:
    """All in one line."""
    counts = comparison.counts
    words = [f"{counts[word]} {word}" for word in ("same", "better", "worse", "can't tell")]
    told = ", ".join(word for word in words if not word.startswith("0 "))
    n, broken = len(comparison.regressions), len(comparison.broken)
    regressions = f"{quantity(n, 'regression') if n else 'no regression'} beyond"
    regressions += f" {comparison.threshold:g}"
    start = " and ".join(
        [regressions] * (n > 0 or not broken) + [f"{broken} broken"] * (broken > 0)
    )
    if comparison.fail_undecided and comparison.undecided:
        start += f"; {comparison.undecided} undecided"
    tests = sum(cell.p is not None for cell in comparison.cells)
    return (
        f"{start}: of {quantity(len(comparison.cells), 'comparison')} "
        f"{told or 'none'}" + f" (α = {comparison.alpha:g} for all {tests} together)" * (tests > 0)
    )


def word(cell: CellComparison) -> str:
    """The verdict: on a time, as people say it."""
    if cell.regression:
        return "regression"
    if cell.metric.is_time:
        return {"better": "faster", "worse": "slower"}.get(cell.verdict, cell.verdict)
    return cell.verdict


def numbers(cell: CellComparison) -> list[str]:
    """A, B, their ratio and its interval."""
    text = cell.metric.text
    found = cell.found
    if found is None or not math.isfinite(found.ratio):
        return [text(cell.a), text(cell.b), "–", "–"]
    known = found.low > 0 or math.isfinite(found.high)
    interval = f"{_ratio(found.low)}–{_ratio(found.high)}" if known else "–"
    return [text(cell.a), text(cell.b), _ratio(found.ratio), interval]


def _ratio(value: float) -> str:
    return ratio(value).removesuffix("×")


def interval_name(comparison: Comparison) -> str:
    """The head of the column of intervals."""
    return f"{100 * (1 - comparison.alpha):g} %"


def labels_of(whats: Sequence[What]) -> tuple[list[str], str]:
    """The columns in which cells differ, and those in which all are alike in words.

    Of columns that always have the same value, as n = d, the first stands for all.
    """
    names = dict.fromkeys(name for what in whats for name in what)
    columns = {name: [what.get(name, "") for what in whats] for name in names}
    varying: dict[str, list[str]] = {}
    constant = []
    for name, values in columns.items():
        if len(set(values)) == 1:
            constant.append(f"{name} {values[0]}")
        elif values not in varying.values():
            varying[name] = values
    return list(varying), clean(", ".join(constant))


def is_number(cells: Sequence[CellComparison], name: str) -> bool:
    """Whether a column has nothing but numbers in it."""
    return all(re.fullmatch(r"[\d.e+-]*", cell.what.get(name, "")) for cell in cells)


def _listed(whats: Sequence[What]) -> str:
    labels, constant = labels_of(whats)
    if len(whats) == 1:
        labels = list(whats[0])
        constant = ""
    words = [" ".join(what.get(name, "–") for name in labels) for what in whats[:_LISTED]]
    more = f" and {len(whats) - _LISTED} more" if len(whats) > _LISTED else ""
    return clean(f"{'; '.join(words)}{more}" + (f" ({constant})" if constant else ""))


def clean(text: str) -> str:
    """Without what would move the cursor or colour the screen."""
    return "".join(c if c.isprintable() else " " for c in text)
