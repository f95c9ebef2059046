"""The one line that a run comes to, for the list of all runs; from its summary and nothing else."""

from collections.abc import Callable, Iterable
from math import inf, isfinite
from statistics import fmean, median
from typing import Any

from svdbench.measure.quiet import voids_floor
from svdbench.record.reader import RecordedRun
from svdbench.record.schema import ended_well
from svdbench.reporting.words import quantity, ratio, seconds, share

Rows = list[dict[str, str]]
# What makes a timing comparable with another, the size last.
PLACES = ("operation", "spectrum", "length", "m", "n", "d", "k")
MOST_ARMS = 4
# The columns of floors over times.
FRACTIONS = ("of_floor", "of_larger_floor")
# What is less accurate, is not compared by its time; so it is in the report of time-svd.
ACCURATE = 1.01


def headline(run: RecordedRun) -> str:
    """What the run came to, in words; empty where its tables don't say."""
    for name, tell in TELLERS.items():
        sheet = run.sheet(name)
        if sheet is None:
            continue
        rows = [row for row in sheet.records() if ended_well({"status": "ok"} | row)]
        if line := tell(rows):
            return line
    return ""


def _of_summary(rows: Rows) -> str:
    for tell in (_timed, _trained, _revealed, _compressed, _side_by_side):
        if line := tell(rows):
            return line
    return ""


def _timed(rows: Rows) -> str:
    """The fastest of the largest size, and who follows."""
    column = "median_s" if any("median_s" in row for row in rows) else "step_s"
    timed = [row for row in rows if _comparable(row) and 0 < _number(row, column) < inf]
    if not timed or "task" in timed[0]:
        return ""
    void = {_place(row) for row in timed if voids_floor(_number(row, name) for name in FRACTIONS)}
    timed = [row for row in timed if _place(row) not in void]
    if not timed:
        return "times below their floor, measured beside other processes"
    largest = max(timed, key=lambda row: [_number(row, name) for name in ("n", "d", "m", "k")])
    here = [row for row in timed if _place(row) == _place(largest)]
    here.sort(key=lambda row: _number(row, column))
    names = ("length", "m", "n", "k") if "k" in largest else ("length", "d", "m")
    sizes = [f"{name} = {largest[name]}" for name in names if _tells(timed, largest, name)]
    best, *others = ((_who(row), _number(row, column)) for row in here)
    then = f", then {others[0][0]} at {ratio(others[0][1] / best[1])}" if others else ""
    return (
        f"{', '.join(filter(None, (largest.get('operation'), *sizes)))}: "
        f"{best[0]} {seconds(best[1])}{then}"
    )


def _place(row: dict[str, str]) -> tuple[str | None, ...]:
    return tuple(row.get(name) for name in PLACES)


def _comparable(row: dict[str, str]) -> bool:
    """Whether it is a step of a method that chooses nothing, of a known size, and accurate."""
    if row.get("method") == "auto" or row.get("pass", "step") != "step":
        return False
    sized = ("d" in row or "k" in row) and ("method" in row or "block_size" in row)
    return sized and ("over_optimal" not in row or _number(row, "over_optimal") <= ACCURATE)


def _who(row: dict[str, str]) -> str:
    return row.get("method") or f"block size {row['block_size']}"


def _tells(rows: Rows, row: dict[str, str], name: str) -> bool:
    """Whether a size is worth telling: d and k always, the others where they vary."""
    return name in row and (name in "dk" or len({other.get(name) for other in rows}) > 1)


def _trained(rows: Rows) -> str:
    """Each model's test loss, and accuracy if the task has one; medians, as in its report."""
    rows = [row for row in rows if "task" in row]
    return _by(rows, "model", lambda own: _scores(own, "test_loss", "test_accuracy", median))


def _side_by_side(rows: Rows) -> str:
    """Each arm's accuracy, and its speed beside the first."""

    def tell(own: Rows) -> str:
        speed = _mean(own, "speedup")
        pace = "" if speed is None or speed == 1 else f" at {ratio(speed)}"
        return _scores(own, "", "accuracy") + pace

    return _by([row for row in rows if "arm" in row], "arm", tell)


def _revealed(rows: Rows) -> str:
    """What each algorithm keeps of the weights, and what that costs."""

    def tell(own: Rows) -> str:
        kept, cost = _mean(own, "kept"), _mean(own, "increase")
        return "" if kept is None or cost is None else f"{share(kept)} of the weights, {cost:+.3g}"

    return _by([row for row in rows if "searched" in row and "method" in row], "method", tell)


def _compressed(rows: Rows) -> str:
    """What is kept of a model's weights, and what that costs."""
    weights, dense = _mean(rows, "weights"), _mean(rows, "dense_weights")
    cost = _mean(rows, "increase")
    if not weights or not dense or cost is None:
        return ""
    return f"{rows[0].get('model', 'model')}: {share(weights / dense)} of the weights, {cost:+.3g}"


def _figures(rows: Rows) -> str:
    """How many promised figures were kept."""
    verdicts = [row["kept"] for row in rows if "kept" in row]
    return (
        f"{verdicts.count('True')} of {quantity(len(verdicts), 'figure')} kept" if verdicts else ""
    )


TELLERS: dict[str, Callable[[Rows], str]] = {"summary": _of_summary, "figures": _figures}


def _by(rows: Rows, name: str, tell: Callable[[Rows], str]) -> str:
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row.get(name, ""), []).append(row)
    told = [f"{who}: {what}" for who, own in groups.items() if (what := tell(own))]
    more = f"; {len(told) - MOST_ARMS} more" if len(told) > MOST_ARMS else ""
    return "; ".join(told[:MOST_ARMS]) + more


def _scores(
    rows: Rows, loss: str, accuracy: str, middle: Callable[[list[float]], float] = fmean
) -> str:
    hit, lost = _mean(rows, accuracy, middle), _mean(rows, loss, middle)
    parts = ("" if hit is None else share(hit), "" if lost is None else f"loss {lost:.3g}")
    return ", ".join(filter(None, parts))


def _mean(
    rows: Iterable[dict[str, Any]], name: str, middle: Callable[[list[float]], float] = fmean
) -> float | None:
    values = [value for row in rows if name in row and isfinite(value := _number(row, name))]
    return middle(values) if values else None


def _number(row: dict[str, str], name: str) -> float:
    """A value; what is none, counts as less than all numbers."""
    try:
        return float(row.get(name, -inf))
    except ValueError:
        return -inf
