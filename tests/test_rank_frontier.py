"""The frontier of all sizes: components, sorting, knapsack, and what the compressed model does."""

import warnings
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import (
    LowRankLinear,
    energy_ranks,
    exhaustive_ranks,
    minimax_ranks,
    rank_frontier,
    uniform_ranks,
)
from svdbench.lowrank.reveal.allocation import choices, greedy_path, knapsack
from svdbench.lowrank.reveal.statistics import calibrate, linear_weights

KINDS: list[Any] = ["kronecker", "whitened", "plain"]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 20), nn.ReLU(inplace=True), nn.Linear(20, 14, bias=False), nn.Tanh(),
        nn.Linear(14, 4),
    ).double()  # fmt: skip


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    mix = torch.randn(12, 12, dtype=torch.float64)
    X = torch.randn(600, 12, dtype=torch.float64) @ mix + 1
    return X, torch.randint(4, (600,))


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_moments_are_those_of_whole_activations(data: tuple[Tensor, Tensor]) -> None:
    model = network()
    layers, skipped = linear_weights(model)
    assert not skipped
    found = calibrate(model, data, F.cross_entropy, layers)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    X, y = data
    h = X
    for i, module in enumerate(model):
        before, h = h, module(h.clone())
        if f"{i}.weight" in layers:
            out = h.detach().clone().requires_grad_()
            F.cross_entropy(model[i + 1 :](out.clone()), y, reduction="sum").backward()
            moments, g = found[f"{i}.weight"], out.grad
            assert g is not None
            assert moments.rows == 600
            torch.testing.assert_close(moments.C, (before.T @ before).detach() / 600)
            torch.testing.assert_close(moments.mean, before.mean(0).detach())
            torch.testing.assert_close(moments.G, g.T @ g / 600)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["0.weight", "2.weight"])
def test_components_are_those_of_the_weighted_svd(
    kind: Any, layer: str, data: tuple[Tensor, Tensor]
) -> None:
    model, damping = network(), 0.05
    frontier = rank_frontier(
        model, data, F.cross_entropy, kind=kind, damping=damping, recentre=False
    )
    found = frontier.layers[layer]
    W = model.get_parameter(layer).detach()
    moments = calibrate(model, data, F.cross_entropy, linear_weights(model)[0])[layer]
    assert moments.G is not None
    roots = []
    for A in (moments.G, moments.C):
        values, Q = torch.linalg.eigh(A + damping * A.diagonal().mean() * torch.eye(len(A)))
        roots.append((Q * values.sqrt()) @ Q.T)
    if kind != "kronecker":
        roots[0] = torch.eye(len(roots[0]), dtype=W.dtype)
    if kind == "plain":
        roots[1] = torch.eye(len(roots[1]), dtype=W.dtype)
    U, S, Vh = torch.linalg.svd(roots[0] @ W @ roots[1], full_matrices=False)
    torch.testing.assert_close(found.energies, S.square())
    for k in (1, 5, len(S)):
        expected = roots[0].inverse() @ (U[:, :k] * S[:k]) @ Vh[:k] @ roots[1].inverse()
        torch.testing.assert_close(found.left[:, :k] @ found.right[:k], expected)
    torch.testing.assert_close(found.left.norm(dim=0), found.right.norm(dim=1))


def test_whitened_energies_are_the_error_of_the_output(data: tuple[Tensor, Tensor]) -> None:
    model = network()
    for recentre in (False, True):
        frontier = rank_frontier(
            model, data, F.cross_entropy, kind="whitened", damping=1e-12, recentre=recentre
        )
        ranks: dict[str, int | None] = {"0.weight": 3}
        small = frontier.compressed(model, ranks)
        with torch.no_grad():
            change = small[0](data[0]) - model[0](data[0])
        error = float(change.square().sum(1).mean()) / 2
        assert error == pytest.approx(frontier.predicted_loss(ranks), rel=1e-6)
    assert change.mean(0).abs().max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_models_are_what_the_ranks_say(kind: Any, data: tuple[Tensor, Tensor]) -> None:
    model = network()
    frontier = rank_frontier(model, data, F.cross_entropy, kind=kind)
    ranks: dict[str, int | None] = {"0.weight": 12, "2.weight": 14, "4.weight": None}
    full = frontier.compressed(model, ranks)
    torch.testing.assert_close(full(data[0]), model(data[0]))
    assert isinstance(full[0], LowRankLinear)
    assert type(model[0]) is type(full[4]) is nn.Linear
    ranks = frontier.ranks(fraction=0.5)
    small = frontier.compressed(model, ranks)
    kept = sum(p.numel() for p in small.parameters() if p.ndim == 2)
    assert kept == frontier.params(ranks) <= 0.5 * frontier.n_params
    with pytest.raises(ValueError, match=r"1\.weight"):
        frontier.compressed(model, {"1.weight": 3})


def test_points_fall_from_the_smallest_to_the_dense_network(data: tuple[Tensor, Tensor]) -> None:
    frontier = rank_frontier(network(), data, F.cross_entropy)
    points = frontier.points
    assert (np.diff(points.params) > 0).all()
    assert (np.diff(points.losses) < 0).all()
    assert set(frontier.ranks_at(0).values()) == {1}
    assert set(frontier.ranks_at(-1).values()) == {None}
    assert points.losses[-1] == 0
    assert points.params[-1] == frontier.n_params == 12 * 20 + 20 * 14 + 14 * 4
    for point in range(0, len(points.params), 3):
        ranks = frontier.ranks_at(point)
        assert frontier.params(ranks) == points.params[point]
        assert frontier.predicted_loss(ranks) == pytest.approx(points.losses[point], abs=1e-12)


@pytest.mark.parametrize("multiple_of", [1, 2])
def test_the_knapsack_is_the_best_of_all_combinations(multiple_of: int) -> None:
    generator = np.random.default_rng(0)
    shapes = [(8, 8), (6, 12), (4, 9)]
    layers = [
        choices(m, n, np.sort(generator.exponential(size=min(m, n)) ** 3)[::-1], multiple_of)
        for m, n in shapes
    ]
    everything = [
        (
            sum(int(layer.params[i]) for layer, i in zip(layers, chosen, strict=True)),
            sum(float(layer.losses[i]) for layer, i in zip(layers, chosen, strict=True)),
        )
        for chosen in product(*(range(len(layer.ranks)) for layer in layers))
    ]
    path = greedy_path(layers)
    for budget in range(int(path.params[0]), int(path.params[-1]) + 20, 7):
        chosen = knapsack(layers, params=budget)
        loss = sum(float(layer.losses[i]) for layer, i in zip(layers, chosen, strict=True))
        best = min(b for a, b in everything if a <= budget)
        assert best - 1e-12 <= loss <= best * (1 + 1e-3)
        assert sum(layer.params[i] for layer, i in zip(layers, chosen, strict=True)) <= budget
    for limit in (0.0, 0.01, 0.3, 5.0):
        chosen = knapsack(layers, loss=limit)
        size = sum(int(layer.params[i]) for layer, i in zip(layers, chosen, strict=True))
        assert size == min(a for a, b in everything if b <= limit * (1 + 1e-9))
    with pytest.raises(ValueError, match="the smallest"):
        knapsack(layers, params=10)


def test_ranks_take_one_limit_and_multiples(data: tuple[Tensor, Tensor]) -> None:
    frontier = rank_frontier(network(), data, F.cross_entropy)
    ranks = frontier.ranks(fraction=0.7, multiple_of=4)
    assert all(rank is None or rank % 4 == 0 for rank in ranks.values())
    loss = frontier.predicted_loss(ranks)
    again = frontier.ranks(predicted_loss=loss, multiple_of=4)
    assert frontier.params(again) <= frontier.params(ranks)
    for wrong in ({}, {"params": 9, "fraction": 0.5}, {"fraction": 0.5, "multiple_of": 0}):
        with pytest.raises(ValueError, match="give"):
            frontier.ranks(**wrong)  # type: ignore[arg-type]


def test_leaves_out_what_it_cannot_factor(data: tuple[Tensor, Tensor]) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.unused = (nn.Linear(12, 12).double() for _ in range(3))
            self.tied = nn.Linear(12, 12).double()
            self.tied.weight = self.b.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.tied(self.b(self.a(x)))
            return out

    frontier = rank_frontier(Odd(), data, F.cross_entropy)
    assert list(frontier.layers) == ["a.weight"]
    assert frontier.skipped == {
        "b.weight": "shared by two modules",
        "tied.weight": "shared by two modules",
        "unused.weight": "no calibration row comes to it",
    }
    with pytest.raises(ValueError, match="no linear layer"):
        rank_frontier(nn.Sequential(nn.ReLU()), data, F.cross_entropy)


def test_says_what_is_wrong_with_the_data(data: tuple[Tensor, Tensor]) -> None:
    X, y = data
    with pytest.warns(UserWarning, match=r"15 calibration rows are fewer than the 20 inputs"):
        rank_frontier(network(), (X[:15], y[:15]), F.cross_entropy)
    with pytest.warns(UserWarning, match="all 600 labels are 1"):
        rank_frontier(network(), (X, torch.ones_like(y)), F.cross_entropy)
    with pytest.raises(ValueError, match="kind"):
        rank_frontier(network(), data, F.cross_entropy, kind="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="damping"):
        rank_frontier(network(), data, F.cross_entropy, damping=0.0)
    with pytest.raises(ValueError, match="gradient"):
        rank_frontier(network(), data, lambda out, y: (out - out).sum().sqrt())


@pytest.mark.parametrize("rival", [uniform_ranks, energy_ranks, minimax_ranks])
def test_rivals_use_the_budget_and_no_more(rival: Any, data: tuple[Tensor, Tensor]) -> None:
    model = network()
    frontier = rank_frontier(model, data, F.cross_entropy, kind="plain")
    before = 0
    for budget in (110, 200, 300, 450, 576):
        ranks = rival(model, budget)
        assert list(ranks) == list(frontier.layers)
        assert before <= frontier.params(ranks) <= budget
        before = frontier.params(ranks)
    assert set(rival(model, 576).values()) == {None}
    assert rival(model, 300, dense=["4.weight"])["4.weight"] is None
    with pytest.raises(ValueError, match="larger budget"):
        rival(model, 20)


def test_the_exhaustive_search_is_the_best(data: tuple[Tensor, Tensor]) -> None:
    model = network()
    frontier = rank_frontier(model, data, F.cross_entropy)
    best = exhaustive_ranks(model, 300, frontier.predicted_loss)
    assert frontier.predicted_loss(best) == pytest.approx(
        frontier.predicted_loss(frontier.ranks(params=300)), rel=1e-3
    )
    with pytest.raises(ValueError, match="combinations"):
        exhaustive_ranks(model, 300, frontier.predicted_loss, limit=10)
