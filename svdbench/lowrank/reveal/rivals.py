"""Other ways to share out ranks, which look at the weights alone: to compare with.

Each takes a model and a budget, the numbers in the weights of its linear layers, and gives
the rank of each by name, None for dense. They are meant for plain truncated SVDs, as
``rank_frontier(model, data, loss, kind="plain").compressed(model, ranks)`` makes them.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import product
from math import prod

import torch
from torch import Tensor, nn

from svdbench.lowrank.layers.linear import LowRankLinear
from svdbench.lowrank.reveal.frontier import Ranks
from svdbench.lowrank.reveal.statistics import linear_weights
from svdbench.registry import refuse_unknown


def uniform_ranks(model: nn.Module, params: int, *, dense: Collection[str] = ()) -> Ranks:
    """The same fraction of every weight, rounded down to whole ranks, 1 at least.

    Args:
        dense: weights that stay so, as the last layer often does; the budget counts them.

    Raises:
        ValueError: the budget is too small, or there is no such weight.
    """
    shapes = _shapes(model, dense)
    candidates = torch.linspace(0, 1, 10_001, dtype=torch.float64)

    def at(fraction: float) -> Ranks:
        if fraction == 1:
            return dict.fromkeys(shapes)
        return {
            name: _saving(max(1, int(fraction * m * n / (m + n))), m, n)
            for name, (m, n) in shapes.items()
        }

    return _largest(at, candidates, model, params, dense)


def energy_ranks(model: nn.Module, params: int, *, dense: Collection[str] = ()) -> Ranks:
    """The same part of ‖W‖² for every weight: the largest part that the budget allows.

    Args and errors as :func:`uniform_ranks`.
    """

    def lost(S: Tensor) -> Tensor:
        squares = S.square()
        return 1 - squares.cumsum(0) / squares.sum()

    return _threshold(model, params, dense, lost)


def minimax_ranks(model: nn.Module, params: int, *, dense: Collection[str] = ()) -> Ranks:
    """The smallest largest relative error ‖W − W_k‖₂/‖W‖₂ = σ_{k+1}/σ₁ of all weights.

    Args and errors as :func:`uniform_ranks`.

    Source: Liebenwein, Maalouf, Feldman, Rus, "Compressing neural networks: towards
    determining the optimal layer-wise decomposition" (ALDS), NeurIPS 2021, §2.2, without
    its folding into several subspaces.
    """
    return _threshold(model, params, dense, lambda S: torch.cat([S[1:], S.new_zeros(1)]) / S[0])


def exhaustive_ranks(
    model: nn.Module,
    params: int,
    evaluate: Callable[[Ranks], float],
    *,
    dense: Collection[str] = (),
    limit: int = 10_000,
) -> Ranks:
    """The best of all ranks within the budget, by the true loss of each.

    Args:
        evaluate: the loss at some ranks.
        limit: of the combinations that there may be, in the budget or not.

    Raises:
        ValueError: more combinations than ``limit``; else as :func:`uniform_ranks`.
    """
    shapes = _shapes(model, dense)
    options: list[list[int | None]] = [
        [*range(1, (m * n - 1) // (m + n) + 1), None] for m, n in shapes.values()
    ]
    count = prod(len(each) for each in options)
    if count > limit:
        raise ValueError(
            f"there are {count:,} combinations of ranks, more than the limit of {limit:,}: "
            "take a smaller network, or keep layers dense"
        )

    def within() -> Iterator[Ranks]:
        for combination in product(*options):
            ranks: Ranks = dict.fromkeys(dense) | dict(zip(shapes, combination, strict=True))
            if _size(model, ranks) <= params:
                yield ranks

    found = min(within(), key=evaluate, default=None)
    if found is None:
        raise _too_small(params)
    return found


def _threshold(
    model: nn.Module, params: int, dense: Collection[str], lost: Callable[[Tensor], Tensor]
) -> Ranks:
    """The smallest ranks whose error is below a threshold common to all: the lowest it can be."""
    shapes = _shapes(model, dense)
    errors = {
        name: lost(torch.linalg.svdvals(model.get_parameter(name).detach().double())).cpu()
        for name in shapes
    }

    def at(threshold: float) -> Ranks:
        return {
            name: _saving(
                min(int((errors[name] > -threshold).sum()) + 1, min(m, n)),
                m,
                n,
            )
            for name, (m, n) in shapes.items()
        }

    # Downwards from all errors allowed, as budgets grow; 0 at the end, where all are dense.
    ends = [torch.ones(1), torch.zeros(1)]
    candidates = torch.cat([*errors.values(), *ends]).sort(descending=True).values
    return _largest(at, -candidates, model, params, dense)


def _largest(
    at: Callable[[float], Ranks],
    candidates: Tensor,
    model: nn.Module,
    params: int,
    dense: Collection[str],
) -> Ranks:
    """The ranks at the last of ascending candidates that is within the budget, by bisection."""

    def ranks(index: int) -> Ranks:
        return dict.fromkeys(dense) | at(float(candidates[index]))

    if _size(model, ranks(0)) > params:
        raise _too_small(params)
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _size(model, ranks(middle)) <= params else (low, middle)
    return ranks(low)


def _shapes(model: nn.Module, dense: Collection[str]) -> dict[str, tuple[int, int]]:
    found, _ = linear_weights(model)
    refuse_unknown("weight", list(dense), tuple(found))
    return {
        name: (layer.out_features, layer.in_features)
        for name, layer in found.items()
        if name not in dense
    }


def _saving(rank: int, m: int, n: int) -> int | None:
    return rank if LowRankLinear.saves(n, m, rank) else None


def _size(model: nn.Module, ranks: Ranks) -> int:
    total = 0
    for name, rank in ranks.items():
        m, n = model.get_parameter(name).shape
        total += m * n if rank is None else rank * (m + n)
    return total


def _too_small(params: int) -> ValueError:
    return ValueError(f"no ranks have {params:,} numbers or fewer: give a larger budget")
