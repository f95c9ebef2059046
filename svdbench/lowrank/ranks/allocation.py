"""How to share out a budget among layers: a frontier by sorting, and an exact knapsack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32] | NDArray[np.int64]

# How far from the best a solution may be, and the seconds that it may be looked for.
GAP, PATIENCE_S = 1e-4, 20.0

DENSE = 0  # in the place of a rank


@dataclass(frozen=True)
class Cost:
    """The cost of a layer, in numbers, multiply-adds or seconds.

    Attributes:
        dense: with the matrix.
        ranks: ascending (k,), at which the cost of two factors is known; none for a weight
            that has no factors with fewer numbers.
        factors: it (k,).
    """

    dense: float
    ranks: Ints
    factors: Floats

    def at(self, ranks: Ints) -> Floats:
        """The cost at some ranks: on straight lines between those known, level beyond."""
        if not len(self.ranks):
            return np.full(len(ranks), np.inf)
        return np.interp(ranks, self.ranks, self.factors)


@dataclass(frozen=True)
class Choices:
    """The choices for a layer, from the cheapest to the dense one.

    Attributes:
        ranks: ascending; at the end ``DENSE``.
        costs: of each, ascending; whole numbers where numbers are counted.
        losses: predicted for each, descending; 0 for the dense one.
    """

    ranks: Ints
    costs: Floats | Ints
    losses: Floats


@dataclass(frozen=True)
class Path:
    """Ever dearer networks with ever lower predicted losses.

    Attributes:
        costs, losses: (P,).
        chosen: which choice of each layer (P, layers).
    """

    costs: Floats | Ints
    losses: Floats
    chosen: Ints

    @property
    def params(self) -> Floats | Ints:
        """The costs, where they are numbers in the weights."""
        return self.costs


def choices(ranks: Ints, costs: Floats | Ints, energies: Floats) -> Choices:
    """The choices of a layer whose components have energies σ², descending.

    Rank k has a predicted loss of ½ Σ_{i>k} σᵢ². Left out are ranks that cost no less than
    a higher one or the matrix does, as where a latency is measured.

    Args:
        ranks: that may be, ascending (k,); where there are none, the layer stays dense.
        costs: of each, and of the matrix (k + 1,).
    """
    left_out = np.append(np.cumsum(energies[::-1])[::-1], 0.0)
    worth = costs[:-1] < np.minimum.accumulate(costs[::-1])[::-1][1:]
    return Choices(
        np.append(ranks[worth], DENSE),
        np.append(costs[:-1][worth], costs[-1]),
        np.append(left_out[ranks[worth]] / 2, 0.0),
    )


def greedy_path(layers: Sequence[Choices]) -> Path:
    """From every layer's cheapest choice to all dense, the best step first: O(R log R).

    Twice: a rank at a time, and along the lower convex hull of each layer's choices, which is
    optimal where it has points but jumps from half the rank to dense where factors save no
    more. What is best of both remains.
    """
    walks = [
        _walk(layers, [np.arange(len(layer.ranks)) for layer in layers]),
        _walk(layers, [_hull(layer) for layer in layers]),
    ]
    costs = np.concatenate([walk.costs for walk in walks])
    losses = np.concatenate([walk.losses for walk in walks])
    order = np.lexsort((losses, costs))
    best = np.minimum.accumulate(losses[order])
    order = order[np.append(True, losses[order][1:] < best[:-1])]
    chosen, start = np.empty((len(order), len(layers)), dtype=np.int32), 0
    for walk in walks:
        own = (order >= start) & (order < start + len(walk.chosen))
        chosen[own] = walk.chosen[order[own] - start]
        start += len(walk.chosen)
    return Path(costs[order], losses[order], chosen)


def knapsack(
    layers: Sequence[Choices], *, cost: float | None = None, loss: float | None = None
) -> list[int]:
    """The choice of each layer: the lowest loss within ``cost``, or the cheapest for ``loss``.

    A multiple-choice knapsack. With parts of choices allowed its optimum is on the hulls of
    the layers' choices (Sinha and Zoltners 1979); the point of :func:`greedy_path` will do
    where it is within ``GAP`` of that, as with many layers. Else HiGHS (``scipy.optimize.milp``)
    solves it to ``GAP``, or for as long as ``PATIENCE_S``.

    Raises:
        ValueError: nothing is small enough, or there are not exactly one of the two limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    if (cost is None) == (loss is None):
        raise ValueError("give one of cost and loss")
    owner = np.repeat(np.arange(len(layers)), [len(layer.ranks) for layer in layers])
    costs = np.concatenate([layer.costs for layer in layers]).astype(float)
    losses = np.concatenate([layer.losses for layer in layers])
    one_each = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    path, hulls = greedy_path(layers), _walk(layers, [_hull(layer) for layer in layers])
    if cost is not None:
        if cost < path.costs[0]:
            raise ValueError(
                f"the budget is {cost / path.costs[-1]:.3g} of the dense layers: the smallest "
                f"factors take {path.costs[0] / path.costs[-1]:.3g}; give more, or leave layers out"
            )
        # In millionths of the budget, as HiGHS allows a slack of a millionth.
        paid, limited, limit = losses, costs * (1e6 / (cost or 1.0)), 1e6 * (cost > 0)
        greedy = int(np.flatnonzero(path.costs <= cost)[-1])
        bound = float(path.losses[greedy])
        least = np.interp(cost, hulls.costs, hulls.losses)
    else:
        assert loss is not None
        if loss < 0:
            raise ValueError(f"the predicted loss is {loss:g}: give 0 or more")
        # In units of the limit: as exact as a prediction need be.
        paid, limited, limit = costs, losses / (loss or 1.0), float(loss > 0)
        greedy = int(np.flatnonzero(path.losses <= loss)[0])
        bound = float(path.costs[greedy])
        least = np.interp(-loss, -hulls.losses, hulls.costs)
    if not bound:
        return [len(layer.ranks) - 1 for layer in layers]
    if bound <= least * (1 + GAP):
        return [int(one) for one in path.chosen[greedy]]
    found = milp(
        np.minimum(paid / bound, 2.0),
        integrality=np.ones(len(owner)),
        bounds=Bounds(0, np.where(paid <= bound * (1 + 1e-9), 1.0, 0.0)),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(limited[np.newaxis], -np.inf, limit),
        ],
        options={"mip_rel_gap": GAP, "time_limit": PATIENCE_S},
    )
    if found.x is None or found.x @ paid > bound:  # nothing better was found in time
        return [int(one) for one in path.chosen[greedy]]
    starts = np.searchsorted(owner, np.arange(len(layers)))
    ends = np.append(starts[1:], len(owner))
    return [int(found.x[a:b].argmax()) for a, b in zip(starts, ends, strict=True)]


def _walk(layers: Sequence[Choices], ways: Sequence[Ints]) -> Path:
    """Walk through choices of each layer, from the first to the last."""
    sizes = [np.diff(layer.costs[way]) for layer, way in zip(layers, ways, strict=True)]
    drops = [np.diff(layer.losses[way]) for layer, way in zip(layers, ways, strict=True)]
    # A layer's steps stay in order, even where a later one is worth more.
    worth = [np.minimum.accumulate(-drop / size) for size, drop in zip(sizes, drops, strict=True)]
    order = np.argsort(-np.concatenate(worth), kind="stable")
    owner = np.repeat(np.arange(len(layers)), [len(size) for size in sizes])[order]
    reached = np.concatenate([way[1:] for way in ways])[order]
    chosen = np.zeros((len(order) + 1, len(layers)), dtype=np.int32)
    chosen[0] = [way[0] for way in ways]
    chosen[np.arange(1, len(order) + 1), owner] = reached
    chosen = np.maximum.accumulate(chosen)
    costs = sum(layer.costs[chosen[:, i]] for i, layer in enumerate(layers))
    losses = sum(layer.losses[chosen[:, i]] for i, layer in enumerate(layers))
    return Path(np.asarray(costs), np.asarray(losses), chosen)


def _hull(layer: Choices) -> Ints:
    """The choices on the lower convex hull of (costs, losses) (Andrew's monotone chain)."""
    x, y = layer.costs, layer.losses
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)
