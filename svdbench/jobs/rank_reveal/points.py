"""Frontiers beside each other: the true loss at the same sizes, ranks chosen in different ways."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from torch import nn

from svdbench.jobs.rank_reveal.algorithms import Revealer
from svdbench.jobs.rank_reveal.subject import TestScores
from svdbench.lowrank import (
    Frontier,
    Ranks,
    energy_ranks,
    exhaustive_ranks,
    minimax_ranks,
    uniform_ranks,
)
from svdbench.lowrank.ranks.rivals import combinations

OURS = ("kronecker", "whitened")
RIVALS = {"uniform": uniform_ranks, "energy": energy_ranks, "minimax": minimax_ranks}
EXHAUSTIVE = "exhaustive"
MOST_COMBINATIONS = 2000


@dataclass(frozen=True)
class FrontierPoint:
    """A network of some size.

    Attributes:
        method: how its ranks were chosen.
        budget: the part of the numbers in the weights that was allowed.
        params, fraction: the numbers that it has, and their part.
        ranks: that it has; None where there are none for the budget, with the reason.
        predicted: by how much its loss should be higher, where that is known.
        judged: on the test examples.
    """

    method: str
    budget: float
    params: int | None
    fraction: float | None
    ranks: Ranks | None
    predicted: float | None
    judged: TestScores | None
    reason: str = ""


def points(
    revealer: Revealer, fractions: Sequence[float], dense: TestScores
) -> Iterator[FrontierPoint]:
    """A point for each method and fraction; the networks are as the methods choose them.

    Ours choose among factors of their own kind, the rivals among truncated SVDs, with the last
    layer dense or not, whichever loses less on the examples of the curves. Exhaustive tries
    all combinations of ranks on these, if there are few, with the factors of the first of ours.
    """
    plain = revealer.frontier("plain")
    ways: dict[str, tuple[Frontier, Callable[[int], Ranks]]] = {}
    for kind in OURS:
        own = revealer.frontier(kind)
        ways[kind] = own, partial(_best, own)
    for name, rival in RIVALS.items():
        ways[name] = plain, _rival(revealer, plain, rival)
    best = revealer.frontier(OURS[0])
    if combinations(best) <= MOST_COMBINATIONS:
        ways[EXHAUSTIVE] = best, _exhaustive(revealer, best)
    for name, (frontier, choose) in ways.items():
        for number, budget in enumerate(fractions):
            revealer.on_progress(number / len(fractions), f"frontiers: {name}")
            yield _point(revealer, name, frontier, choose, budget, dense)


def seconds_of_points(revealer: Revealer, fractions: Sequence[float]) -> float:
    """What comparing should take: an evaluation for each method and fraction."""
    start = time.perf_counter()
    revealer.subject.judge(revealer.subject.model)
    return (time.perf_counter() - start) * len(fractions) * (len(OURS) + len(RIVALS))


def _point(
    revealer: Revealer,
    method: str,
    frontier: Frontier,
    choose: Callable[[int], Ranks],
    budget: float,
    dense: TestScores,
) -> FrontierPoint:
    try:
        ranks = choose(int(budget * frontier.n_params))
    except ValueError as error:
        return FrontierPoint(method, budget, None, None, None, None, None, str(error))
    judged = dense
    if any(rank is not None for rank in ranks.values()):
        judged = revealer.subject.judge(frontier.view(revealer.subject.model, ranks))
    params = frontier.params(ranks)
    predicted = frontier.predicted_loss(ranks) if method == OURS[0] else None
    return FrontierPoint(
        method, budget, params, params / frontier.n_params, ranks, predicted, judged
    )


def _best(frontier: Frontier, params: int) -> Ranks:
    return frontier.ranks(params=params)


def _rival(
    revealer: Revealer, plain: Frontier, rival: Callable[..., Ranks]
) -> Callable[[int], Ranks]:
    subject, last = revealer.subject, list(plain.layers)[-1]

    def loss(ranks: Ranks) -> float:
        network = plain.view(subject.model, ranks)
        return float(subject.losses(network, subject.curves).mean())

    def choose(params: int) -> Ranks:
        found, reason = [], ""
        for dense in ((), (last,)):
            try:
                ranks = rival(plain, params, dense=dense)
            except ValueError as error:
                reason = reason or str(error)
            else:
                found += [ranks] if ranks not in found else []
        if not found:
            raise ValueError(reason)
        return min(found, key=loss) if len(found) > 1 else found[0]

    return choose


def _exhaustive(revealer: Revealer, frontier: Frontier) -> Callable[[int], Ranks]:
    subject = revealer.subject

    @cache
    def loss(ranks: tuple[int | None, ...]) -> float:
        network: nn.Module = frontier.view(
            subject.model, dict(zip(frontier.layers, ranks, strict=True))
        )
        return float(subject.losses(network, subject.curves).mean())

    return lambda params: exhaustive_ranks(
        frontier, params, lambda ranks: loss(tuple(ranks[name] for name in frontier.layers))
    )
