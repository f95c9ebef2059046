"""Certification: few evaluations, the smallest point that fits, and a judge of its own."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import Frontier, Increase, Ranks, certify, example_losses, rank_frontier
from svdbench.lowrank.ranks.certify import judge


@pytest.fixture
def frontier() -> Frontier:
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU())
    return rank_frontier(model, [], F.mse_loss, kind="plain")


class Counted:
    """An increase that the size alone decides, over examples of unequal difficulty."""

    def __init__(self, frontier: Frontier, increase: Callable[[int], float]) -> None:
        self.frontier, self.increase = frontier, increase
        self.base = torch.rand(50, dtype=torch.float64)
        self.calls = 0

    def __call__(self, ranks: Ranks) -> Tensor:
        self.calls += 1
        return self.base + self.increase(self.frontier.params(ranks))


@pytest.mark.parametrize("allowed", [0.0, 1e-4, 0.03, 0.2, 0.7, 5.0])
def test_finds_the_smallest_point_in_few_evaluations(frontier: Frontier, allowed: float) -> None:
    increase = lambda params: 1 - params / frontier.n_params  # noqa: E731
    judge = Counted(frontier, increase)
    apart = Counted(frontier, increase)
    found = certify(frontier, judge, max_loss_increase=allowed, held_out=apart)
    fitting = [p for p in frontier.points.params if increase(p) <= allowed + 1e-12]
    assert found.params == fitting[0] == frontier.params(found.ranks)
    count = judge.calls + apart.calls
    assert found.evaluations == count
    assert count <= math.ceil(math.log2(len(frontier.points.params))) + 5
    assert found.confirmed
    assert found.held_out is not None
    assert found.held_out.mean == pytest.approx(increase(found.params))
    assert found.held_out.standard_error < 1e-9  # the same for every example


def test_looks_below_a_bump(frontier: Frontier) -> None:
    points = list(frontier.points.params)
    bump = points[11]
    judge = Counted(frontier, lambda params: float(params < points[10] or params == bump))
    assert certify(frontier, judge, max_loss_increase=0.5).params == points[10]


def test_a_loss_that_is_not_finite_does_not_fit(frontier: Frontier) -> None:
    judge = Counted(frontier, lambda params: math.nan if params < frontier.n_params else 0.0)
    found = certify(frontier, judge, max_loss_increase=1.0)
    assert set(found.ranks.values()) == {None}
    assert found.held_out is None
    assert not found.confirmed


def test_held_out_examples_can_say_no(frontier: Frontier) -> None:
    found = certify(
        frontier,
        Counted(frontier, lambda params: 0.0),
        max_loss_increase=0.1,
        held_out=Counted(frontier, lambda params: 1 - params / frontier.n_params),
    )
    assert found.params == frontier.points.params[0]
    assert not found.confirmed


def test_pairs_share_their_difficulty() -> None:
    dense = 10 * torch.randn(400)
    noise = 0.1 * torch.randn(400)
    found = Increase.of(dense + noise, dense)
    assert found.mean == pytest.approx(float(noise.mean()), abs=1e-5)
    assert found.standard_error == pytest.approx(float(noise.std()) / 20, rel=1e-3)
    with pytest.raises(ValueError, match="one for each"):
        Increase.of(dense[1:], dense)


def test_refuses_a_negative_increase(frontier: Frontier) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        certify(frontier, lambda ranks: torch.zeros(3), max_loss_increase=-1.0)


def test_a_trained_network_end_to_end() -> None:
    X = torch.randn(900, 10)
    y = (X[:, :2].sum(1) > 0).long() + (X[:, 2] > 0).long()
    model = nn.Sequential(
        nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(X[:500]), y[:500]).backward()
        optimizer.step()
    splits = [(X[a:b], y[a:b]) for a, b in ((0, 500), (500, 700), (700, 900))]
    frontier = rank_frontier(model, splits[0], F.cross_entropy)

    def on(split: tuple[Tensor, Tensor]) -> Callable[[Ranks], Tensor]:
        return lambda ranks: example_losses(frontier.view(model, ranks), split, F.cross_entropy)

    found = certify(frontier, on(splits[1]), max_loss_increase=0.02, held_out=on(splits[2]))
    assert found.params < 0.5 * frontier.n_params
    assert found.search.mean <= 0.02
    assert found.held_out is not None
    assert found.held_out.mean - 4 * found.held_out.standard_error < 0.02


def test_judges_any_ranks(frontier: Frontier) -> None:
    """Chosen by a budget, there is nothing that the loss must stay below."""
    evaluate = Counted(frontier, lambda params: 1 - params / frontier.n_params)
    ranks = frontier.ranks(fraction=0.5)
    found = judge(frontier, ranks, evaluate, held_out=evaluate)
    assert (found.ranks, found.params) == (ranks, frontier.params(ranks))
    assert found.evaluations == evaluate.calls == 4
    assert found.search.mean == pytest.approx(1 - found.params / frontier.n_params)
    assert found.search.dense == pytest.approx(float(evaluate.base.mean()))
    assert found.confirmed
    assert not judge(frontier, ranks, evaluate, held_out=evaluate, max_loss_increase=0.1).confirmed


def test_multiples_are_certified_too(frontier: Frontier) -> None:
    eights = replace(frontier, multiple_of=8)
    judge_ = Counted(eights, lambda params: 1 - params / eights.n_params)
    found = certify(eights, judge_, max_loss_increase=0.3)
    assert any(found.ranks.values())
    assert all(rank is None or rank % 8 == 0 for rank in found.ranks.values())
    with pytest.raises(ValueError, match="multiple_of is 0"):
        frontier.ranks(fraction=0.5, multiple_of=0)
