"""How to share out numbers among layers: a frontier by sorting, and an exact knapsack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DENSE = 0  # in the place of a rank


@dataclass(frozen=True)
class Choices:
    """What can become of a layer, from the smallest to the dense one.

    Attributes:
        ranks: 1 and up where factors have fewer numbers than the matrix; at the end
            ``DENSE``.
        params: numbers that each has.
        losses: predicted for each; 0 for the dense one.
    """

    ranks: Ints
    params: Ints
    losses: Floats


@dataclass(frozen=True)
class Path:
    """Ever larger networks with ever lower predicted losses.

    Attributes:
        params, losses: (P,).
        chosen: which choice of each layer (P, layers).
    """

    params: Ints
    losses: Floats
    chosen: Ints


def choices(rows: int, columns: int, energies: Floats, multiple_of: int = 1) -> Choices:
    """The choices of a layer (m, n) whose components have energies σ², descending.

    Rank k has k(m + n) numbers and a predicted loss of ½ Σ_{i>k} σᵢ².

    Args:
        multiple_of: leaves out ranks that aren't; where none is left, the layer stays dense.
    """
    most = (rows * columns - 1) // (rows + columns)
    ranks = np.arange(multiple_of, most + 1, multiple_of)
    left_out = np.append(np.cumsum(energies[::-1])[::-1], 0.0)
    return Choices(
        np.append(ranks, DENSE),
        np.append(ranks * (rows + columns), rows * columns),
        np.append(left_out[ranks] / 2, 0.0),
    )


def greedy_path(layers: Sequence[Choices]) -> Path:
    """From every layer's smallest choice to all dense, the best step first: O(R log R).

    Twice: a rank at a time, and along the lower convex hull of each layer's choices, which is
    optimal where it has points but jumps from half the rank to dense where factors save no
    more. What is best of both remains.
    """
    walks = [
        _walk(layers, [np.arange(len(layer.ranks)) for layer in layers]),
        _walk(layers, [_hull(layer) for layer in layers]),
    ]
    params = np.concatenate([walk.params for walk in walks])
    losses = np.concatenate([walk.losses for walk in walks])
    chosen = np.concatenate([walk.chosen for walk in walks])
    order = np.lexsort((losses, params))
    best = np.minimum.accumulate(losses[order])
    order = order[np.append(True, losses[order][1:] < best[:-1])]
    return Path(params[order], losses[order], chosen[order])


def knapsack(
    layers: Sequence[Choices], *, params: float | None = None, loss: float | None = None
) -> list[int]:
    """The choice of each layer: the lowest loss within ``params``, or the fewest for ``loss``.

    A multiple-choice knapsack, solved to 1e-4 by HiGHS (``scipy.optimize.milp``).

    Raises:
        ValueError: nothing is small enough, or there are not exactly one of the two limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    if (params is None) == (loss is None):
        raise ValueError("give one of params and loss")
    owner = np.repeat(np.arange(len(layers)), [len(layer.ranks) for layer in layers])
    sizes = np.concatenate([layer.params for layer in layers]).astype(float)
    losses = np.concatenate([layer.losses for layer in layers])
    one_each = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    path = greedy_path(layers)  # its best point bounds what the optimum costs
    if params is not None:
        if params < path.params[0]:
            raise ValueError(
                f"params is {params:g}: the smallest factors have {path.params[0]:,} numbers; "
                "give more, or leave layers out"
            )
        cost, limited, limit = losses, sizes, params
        bound = float(path.losses[path.params <= params][-1])
    else:
        assert loss is not None
        if loss < 0:
            raise ValueError(f"the predicted loss is {loss:g}: give 0 or more")
        # In units of the limit, as HiGHS allows an absolute slack.
        cost, limited, limit = sizes, losses / (loss or 1.0), float(loss > 0)
        bound = float(path.params[path.losses <= loss][0])
    if not bound:
        return [len(layer.ranks) - 1 for layer in layers]
    found = milp(
        np.minimum(cost / bound, 2.0),
        integrality=np.ones(len(owner)),
        bounds=Bounds(0, np.where(cost <= bound * (1 + 1e-9), 1.0, 0.0)),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(limited[np.newaxis], -np.inf, limit),
        ],
        options={"mip_rel_gap": 1e-4},
    )
    if found.x is None:
        raise RuntimeError(f"the knapsack has no solution: {found.message}")
    starts = np.searchsorted(owner, np.arange(len(layers)))
    ends = np.append(starts[1:], len(owner))
    return [int(found.x[a:b].argmax()) for a, b in zip(starts, ends, strict=True)]


def _walk(layers: Sequence[Choices], ways: Sequence[Ints]) -> Path:
    """Through some choices of each layer, from the first to the last."""
    sizes = [np.diff(layer.params[way]) for layer, way in zip(layers, ways, strict=True)]
    drops = [np.diff(layer.losses[way]) for layer, way in zip(layers, ways, strict=True)]
    # A layer's steps stay in order, even where a later one is worth more.
    worth = [
        np.minimum.accumulate(-drop / np.maximum(size, 1))
        for size, drop in zip(sizes, drops, strict=True)
    ]
    order = np.argsort(-np.concatenate(worth), kind="stable")
    owner = np.repeat(np.arange(len(layers)), [len(size) for size in sizes])[order]
    reached = np.concatenate([way[1:] for way in ways])[order]
    chosen = np.zeros((len(order) + 1, len(layers)), dtype=np.int64)
    chosen[0] = [way[0] for way in ways]
    chosen[np.arange(1, len(order) + 1), owner] = reached
    chosen = np.maximum.accumulate(chosen)
    params = sum(layer.params[chosen[:, i]] for i, layer in enumerate(layers))
    losses = sum(layer.losses[chosen[:, i]] for i, layer in enumerate(layers))
    return Path(np.asarray(params), np.asarray(losses), chosen)


def _hull(layer: Choices) -> Ints:
    """The choices on the lower convex hull of (params, losses) (Andrew's monotone chain)."""
    x, y = layer.params, layer.losses
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)
