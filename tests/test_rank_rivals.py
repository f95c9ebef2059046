"""Other ways to share out ranks: what they find within a budget."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import (
    Frontier,
    energy_ranks,
    exhaustive_ranks,
    minimax_ranks,
    rank_frontier,
    uniform_ranks,
)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 14, bias=False), nn.Tanh(), nn.Linear(14, 4)
    ).double()


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    return torch.randn(300, 12, dtype=torch.float64), torch.randint(4, (300,))


@pytest.fixture
def plain(data: tuple[Tensor, Tensor]) -> Frontier:
    return rank_frontier(network(), data, F.cross_entropy, kind="plain")


@pytest.mark.parametrize("rival", [uniform_ranks, energy_ranks, minimax_ranks])
def test_rivals_use_the_budget_and_no_more(rival: Any, plain: Frontier) -> None:
    before = 0
    for budget in (110, 200, 300, 450, 576):
        ranks = rival(plain, budget)
        assert list(ranks) == list(plain.layers)
        assert before <= plain.params(ranks) <= budget
        before = plain.params(ranks)
    assert set(rival(plain, 576).values()) == {None}
    assert rival(plain, 300, dense=["4.weight"])["4.weight"] is None
    with pytest.raises(ValueError, match="larger budget"):
        rival(plain, 20)
    with pytest.raises(ValueError, match=r"5\.weight"):
        rival(plain, 300, dense=["5.weight"])


def test_no_weight_could_lose_less_without_passing_the_budget(plain: Frontier) -> None:
    values = {name: each.energies.sqrt() for name, each in plain.layers.items()}
    ranks = minimax_ranks(plain, 250)
    worst = max(float(S[ranks[n]] / S[0]) for n, S in values.items() if ranks[n] is not None)
    one_less = {
        n: next(k for k in range(1, len(S) + 1) if k == len(S) or S[k] / S[0] < worst)
        for n, S in values.items()
    }
    saving = {
        n: k if plain.params({**dict.fromkeys(values), n: k}) < plain.n_params else None
        for n, k in one_less.items()
    }
    assert plain.params(saving) > 250


def test_the_exhaustive_search_is_the_best(data: tuple[Tensor, Tensor]) -> None:
    frontier = rank_frontier(network(), data, F.cross_entropy)
    best = exhaustive_ranks(frontier, 300, frontier.predicted_loss)
    assert frontier.predicted_loss(best) == pytest.approx(
        frontier.predicted_loss(frontier.ranks(params=300)), rel=1e-3
    )
    with pytest.raises(ValueError, match="combinations"):
        exhaustive_ranks(frontier, 300, frontier.predicted_loss, limit=10)
    with pytest.raises(ValueError, match="larger budget"):
        exhaustive_ranks(frontier, 20, frontier.predicted_loss)
