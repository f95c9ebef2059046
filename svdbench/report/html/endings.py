"""How the cells of a run ended: how many, and which of them without a number, and why."""

from dataclasses import dataclass

from svdbench.record.reader import RecordedRun
from svdbench.record.schema import ended_well

# What may tell cells apart, in this order; the settings of a run are the same in all.
NAMES = ("operation", "method", "arm", "model", "task", "layer")
SIZES = ("length", "d", "n", "m", "k", "rank", "alpha", "phi", "block_size", "spectrum", "seed")
MOST_NAMED = 8


@dataclass(frozen=True)
class Ending:
    """Cells that ended alike: ``count`` of them, ``which``, and why."""

    status: str
    count: int
    which: str
    reason: str


def endings(run: RecordedRun) -> list[Ending]:
    """What did not end well, the most frequent first."""
    rows = run.outcomes
    telling = [
        [name for name in names if len({row.get(name) for row in rows}) > 1]
        for names in (NAMES, SIZES)
    ]
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        status = row.get("status", "")
        if status and not ended_well(row):
            groups.setdefault((status, row.get("reason", "")), []).append(row)
    found = [
        Ending(
            status=status,
            count=len({row.get("cell") or i for i, row in enumerate(members)}),
            which=_which(members, *telling),
            reason=reason,
        )
        for (status, reason), members in groups.items()
    ]
    return sorted(found, key=lambda ending: -ending.count)


def _which(rows: list[dict[str, str]], names: list[str], sizes: list[str]) -> str:
    """``matrix_exp, cayley at d = 512, 1024``: all values that occur, of what tells cells apart."""
    words = [_listed(rows, name) for name in names]
    numbers = [f"{name} = {_listed(rows, name)}" for name in sizes if _listed(rows, name)]
    return " at ".join(filter(None, (", ".join(filter(None, words)), "; ".join(numbers))))


def _listed(rows: list[dict[str, str]], name: str) -> str:
    values = list(dict.fromkeys(row[name] for row in rows if name in row))
    more = f" and {len(values) - MOST_NAMED} more" if len(values) > MOST_NAMED else ""
    return ", ".join(values[:MOST_NAMED]) + more


def progress(run: RecordedRun) -> str:
    """How the cells ended, in a few words; empty where the tables are not of cells."""
    counts = run.statuses
    if not counts:
        return "" if run.sheets else "no cell was finished"
    rest = ", ".join(f"{n} {status or '?'}" for status, n in run.unwell.items())
    return f"{counts.total() - run.unwell.total()} ok" + (f", {rest}" if rest else "")
