"""Other ways to choose ranks, from the weights alone, for comparison.

Each takes a frontier of kind "plain", which has the singular values of every weight, and a budget,
the number of parameters in all weights; it returns the rank of each by name, None for dense.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import product
from math import prod

import torch
from torch import Tensor

from svdbench.lowrank.layers.factor import Weight
from svdbench.lowrank.ranks.frontier import Frontier, Ranks
from svdbench.members import refuse_unknown


def uniform_ranks(plain: Frontier, params: int, *, dense: Collection[str] = ()) -> Ranks:
    """Ranks that are the same fraction of every weight, rounded down, at least 1.

    Args:
        plain: frontier of the network, of kind "plain".
        params: the budget, in parameters.
        dense: weights that stay dense, as the last layer often does; they count towards the budget.

    Raises:
        ValueError: the budget is too small, or a weight is unknown.

    Example:
        >>> net, X, y = torch.nn.Linear(20, 30), torch.randn(2, 20), torch.randn(2, 30)
        >>> plain = rank_frontier(net, (X, y), torch.nn.functional.mse_loss, kind="plain")
        >>> uniform_ranks(plain, params=250)
        {'weight': 5}
    """
    weights = _weights(plain, dense)
    candidates = torch.linspace(0, 1, 10_001, dtype=torch.float64)

    def at(fraction: float) -> Ranks:
        if fraction == 1:
            return dict.fromkeys(weights)
        return {
            name: _saving(max(1, int(fraction * w.rows * w.columns / (w.rows + w.columns))), w)
            for name, w in weights.items()
        }

    return _largest(at, candidates, plain, params, dense)


def energy_ranks(plain: Frontier, params: int, *, dense: Collection[str] = ()) -> Ranks:
    """Ranks that keep the same share of ‖W‖² of every weight, the largest within the budget.

    Args and errors as in :func:`uniform_ranks`.

    Example:
        >>> net, X, y = torch.nn.Linear(20, 30), torch.randn(2, 20), torch.randn(2, 30)
        >>> plain = rank_frontier(net, (X, y), torch.nn.functional.mse_loss, kind="plain")
        >>> energy_ranks(plain, params=250)
        {'weight': 5}
    """
    return _threshold(plain, params, dense, lambda squares: 1 - squares.cumsum(0) / squares.sum())


def minimax_ranks(plain: Frontier, params: int, *, dense: Collection[str] = ()) -> Ranks:
    """Ranks that minimise the largest relative error ‖W − W_k‖₂/‖W‖₂ = σ_{k+1}/σ₁.

    Args and errors as in :func:`uniform_ranks`.

    Example:
        >>> net, X, y = torch.nn.Linear(20, 30), torch.randn(2, 20), torch.randn(2, 30)
        >>> plain = rank_frontier(net, (X, y), torch.nn.functional.mse_loss, kind="plain")
        >>> minimax_ranks(plain, params=250)
        {'weight': 5}

    Source: Liebenwein, Maalouf, Feldman, Rus, "Compressing neural networks: towards
    determining the optimal layer-wise decomposition" (ALDS), NeurIPS 2021, §2.2, without
    its folding into several subspaces.
    """

    def lost(squares: Tensor) -> Tensor:
        S = squares.sqrt()
        return torch.cat([S[1:], S.new_zeros(1)]) / S[0]

    return _threshold(plain, params, dense, lost)


def exhaustive_ranks(
    frontier: Frontier,
    params: int,
    evaluate: Callable[[Ranks], float],
    *,
    dense: Collection[str] = (),
    limit: int = 10_000,
) -> Ranks:
    """The best of all ranks within the budget, by their true losses.

    Args:
        frontier: frontier of any kind; only its weights are used, not their spectra.
        evaluate: function that returns the loss at some ranks.
        limit: largest number of combinations, within the budget or not.

    Raises:
        ValueError: more combinations than ``limit``; otherwise as in :func:`uniform_ranks`.

    Example:
        >>> from torch import nn
        >>> net, X, y = nn.Sequential(nn.Linear(6, 5)), torch.randn(9, 6), torch.randn(9, 5)
        >>> frontier = rank_frontier(net, (X, y), nn.functional.mse_loss)
        >>> loss = lambda ranks: (frontier.view(net, ranks)(X) - y).square().mean().item()
        >>> frontier.params(exhaustive_ranks(frontier, 25, loss)) <= 25
        True
    """
    weights = _weights(frontier, dense)
    count = combinations(frontier, dense=dense)
    if count > limit:
        raise ValueError(
            f"there are {count:,} combinations of ranks, more than the limit of {limit:,}: "
            "take a smaller network, or keep layers dense"
        )
    options: list[list[int | None]] = [
        [*range(1, _most(weight) + 1), None] for weight in weights.values()
    ]

    def within() -> Iterator[Ranks]:
        for combination in product(*options):
            ranks: Ranks = dict.fromkeys(dense) | dict(zip(weights, combination, strict=True))
            if frontier.params(ranks) <= params:
                yield ranks

    found = min(within(), key=evaluate, default=None)
    if found is None:
        raise _too_small(params)
    return found


def combinations(frontier: Frontier, *, dense: Collection[str] = ()) -> int:
    """How many :func:`exhaustive_ranks` would look through, in any budget."""
    return prod(_most(weight) + 1 for weight in _weights(frontier, dense).values())


def _threshold(
    plain: Frontier, params: int, dense: Collection[str], lost: Callable[[Tensor], Tensor]
) -> Ranks:
    """The smallest ranks whose error is below a threshold common to all: the lowest it can be."""
    weights = _weights(plain, dense)
    errors = {name: lost(plain.layers[name].energies.double()).cpu() for name in weights}

    def at(threshold: float) -> Ranks:
        return {
            name: _saving(min(int((errors[name] > -threshold).sum()) + 1, len(errors[name])), own)
            for name, own in weights.items()
        }

    # Downwards from all errors allowed, as budgets grow; 0 at the end, where all are dense.
    ends = [torch.ones(1), torch.zeros(1)]
    candidates = torch.cat([*errors.values(), *ends]).sort(descending=True).values
    return _largest(at, -candidates, plain, params, dense)


def _largest(
    at: Callable[[float], Ranks],
    candidates: Tensor,
    plain: Frontier,
    params: int,
    dense: Collection[str],
) -> Ranks:
    """The ranks at the last of ascending candidates that is within the budget, by bisection."""

    def ranks(index: int) -> Ranks:
        return dict.fromkeys(dense) | at(float(candidates[index]))

    if plain.params(ranks(0)) > params:
        raise _too_small(params)
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if plain.params(ranks(middle)) <= params else (low, middle)
    return ranks(low)


def _weights(frontier: Frontier, dense: Collection[str]) -> dict[str, Weight]:
    refuse_unknown("weight", list(dense), tuple(frontier.layers))
    return {name: each.weight for name, each in frontier.layers.items() if name not in dense}


def _most(weight: Weight) -> int:
    """The largest rank at which factors have fewer numbers than the matrix."""
    return (weight.rows * weight.columns - 1) // (weight.rows + weight.columns)


def _saving(rank: int, weight: Weight) -> int | None:
    return rank if rank <= _most(weight) else None


def _too_small(params: int) -> ValueError:
    return ValueError(f"no ranks have {params:,} parameters or fewer: give a larger budget")
