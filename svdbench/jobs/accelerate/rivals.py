"""Smaller dense networks: the rivals of low rank, of its step time or its multiplications."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

from svdbench.side_by_side.families import NetworkFamily

# Shares of the hidden widths that are always among the rivals.
SHARES = (0.25, 0.375, 0.5)
HALVINGS = 7
# Shares that differ by no more than this part are one network.
ALIKE = 0.04
# Turns of every network, and the least seconds of one: where times are final, and in a bisection.
TURNS, TURN_S = 11, 0.03
FEW, SHORT_S = 5, 0.01


@dataclass(frozen=True)
class Rival:
    """A smaller dense network, and what it is a rival of.

    Attributes:
        share: of the hidden widths.
        kind: ``time`` or ``multiplications``, of the arm ``of``; ``share`` of all arms.
    """

    share: float
    kind: str
    of: str = ""

    @property
    def words(self) -> str:
        return f"{self.kind} of {self.of}" if self.of else f"{self.share:g} of the width"

    @property
    def record(self) -> dict[str, Any]:
        return {"share": self.share, "kind": self.kind, "of": self.of}


def share_for(target: float, cost: Callable[[float], float]) -> float:
    """The share of the hidden widths at which a network costs so much, by bisection.

    Args:
        target: a cost; that of the whole network or more gives a share of 1.
        cost: of a share, rising with it.

    Example:
        >>> round(share_for(0.25, lambda share: share * share), 2)
        0.5
    """
    low, high = 0.0, 1.0
    if cost(1.0) <= target:
        return 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) < target else (low, middle)
    return (low + high) / 2


def rivals_of(
    family: NetworkFamily,
    times: Mapping[str, float],
    products: Mapping[str, float],
    time_of: Callable[[NetworkFamily], float],
    products_of: Callable[[NetworkFamily], float],
) -> Iterator[Rival]:
    """The rivals of every arm, and those at given shares of the width.

    Args:
        family: the network of the arms.
        times: mean seconds of a step, by arm.
        products: mean multiplications of a step, by arm.
        time_of, products_of: the same of a dense network.
    """
    for kind, targets, cost in (
        ("time", times, time_of),
        ("multiplications", products, products_of),
    ):
        known: dict[str, float] = {}

        def at(
            share: float,
            known: dict[str, float] = known,
            cost: Callable[[NetworkFamily], float] = cost,
        ) -> float:
            own = family.scaled(share)
            if own.label not in known:
                known[own.label] = cost(own)
            return known[own.label]

        for arm, target in targets.items():
            yield Rival(share_for(target, at), kind, arm)
    for share in SHARES:
        yield Rival(share, "share")


def distinct(
    family: NetworkFamily, rivals: Iterable[Rival]
) -> Iterator[tuple[float, NetworkFamily, list[Rival]]]:
    """The smaller networks, the widest first, each once, with the rivals that it is.

    Shares within :data:`ALIKE` of each other are one network; given shares come before others.
    The network itself is none of them.
    """
    found: dict[float, list[Rival]] = {}
    for rival in sorted(rivals, key=lambda each: (each.kind != "share", -each.share)):
        like = [share for share in found if abs(rival.share - share) <= ALIKE * share]
        share = min(like, key=lambda share: abs(share - rival.share), default=rival.share)
        found.setdefault(share, []).append(rival)
    labels = {family.label}
    for share in sorted(found, reverse=True):
        own = family.scaled(share)
        if own.label not in labels:
            labels.add(own.label)
            yield share, own, found[share]


K = TypeVar("K")


def interleaved(
    train: Mapping[K, Callable[[int], float]], turns: int = TURNS, turn_s: float = TURN_S
) -> dict[K, float]:
    """The seconds of a step of several networks, by their names.

    Every network has a turn of a few steps before any has its next, so that all meet the same
    machine; the median of the turns.

    Args:
        train: each trains a network for so many steps, and returns the seconds that it took.
        turn_s: a turn has as many steps as take so long, 1 at least.
    """
    steps = {}
    for name, work in train.items():
        work(2)  # pays for code and memory that later steps find ready
        steps[name] = max(1, round(turn_s / max(work(1), 1e-9)))
    seconds: dict[K, list[float]] = {name: [] for name in train}
    for _ in range(turns):
        for name, work in train.items():
            seconds[name].append(work(steps[name]) / steps[name])
    return {name: median(own) for name, own in seconds.items()}
