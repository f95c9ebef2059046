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

from svdbench.lowrank import LowRankLinear, rank_frontier
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.ranks.allocation import choices, greedy_path, knapsack
from svdbench.lowrank.ranks.moments import _passes, calibrate
from svdbench.nn import SVDLinear

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


def whole_moments(
    model: nn.Sequential, layer: str, data: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """E[x xᵀ] and E[g gᵀ] of a layer, from all activations and gradients at once."""
    X, y = data
    i = int(layer[0])
    x = model[:i](X.clone()).detach()
    out = model[i](x).detach().requires_grad_()
    F.cross_entropy(model[i + 1 :](out.clone()), y, reduction="sum").backward()
    assert out.grad is not None
    return x.T @ x / len(x), out.grad.T @ out.grad / len(x)


@pytest.mark.parametrize("budget", [None, 1])
def test_moments_are_those_of_whole_activations(
    budget: int | None, data: tuple[Tensor, Tensor]
) -> None:
    model = network()
    sites, others = factorable_weights(model)
    assert not others
    found = dict(calibrate(model, data, F.cross_entropy, sites, budget=budget))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    for site in sites:
        C, G = whole_moments(model, site.name, data)
        W, (moments,) = site.matrix, found[site]
        tall = len(W) > W.shape[1]
        torch.testing.assert_close(moments.short, C if tall else G)
        torch.testing.assert_close(moments.long, W.T @ G @ W if tall else W @ C @ W.T)
        torch.testing.assert_close(moments.long_trace, (G if tall else C).trace())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["0.weight", "2.weight"])
def test_components_are_those_of_the_weighted_svd(
    kind: Any, layer: str, data: tuple[Tensor, Tensor]
) -> None:
    model, damping = network(), 0.05
    frontier = rank_frontier(
        model, data, F.cross_entropy, kind=kind, curvature="fisher", damping=damping, recentre=False
    )
    found = frontier.layers[layer]
    W = model.get_parameter(layer).detach()
    C, G = whole_moments(model, layer, data)
    roots = []
    for A in (G, C):
        values, Q = torch.linalg.eigh(A + damping * A.diagonal().mean() * torch.eye(len(A)))
        roots.append((Q * values.sqrt()) @ Q.T)
    if kind != "kronecker":
        roots[0] = torch.eye(len(roots[0]), dtype=W.dtype)
    if kind == "plain":
        roots[1] = torch.eye(len(roots[1]), dtype=W.dtype)
    U, S, Vh = torch.linalg.svd(roots[0] @ W @ roots[1], full_matrices=False)
    torch.testing.assert_close(found.energies, S.square())
    for k in (1, 5, found.weight.most):
        expected = roots[0].inverse() @ (U[:, :k] * S[:k]) @ Vh[:k] @ roots[1].inverse()
        left, right = found.components(W, k)
        torch.testing.assert_close(left @ right, expected)
        torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))


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
        assert error == pytest.approx(float(frontier.layers["0.weight"].lost[3:].sum()) / 2)
        predicted = error * frontier.scales["0.weight"]
        assert predicted == pytest.approx(frontier.predicted_loss(ranks), rel=1e-6)
    assert change.mean(0).abs().max() < 1e-10


def test_whitened_layers_are_weighed_by_what_they_do_to_the_output() -> None:
    """The first layer's output is a hundred times as large, and the second undoes that."""
    model = network()
    x = torch.randn(300, 12, dtype=torch.float64)
    data = [(x[:64], torch.zeros(64)), (x[64:], torch.zeros(236))]
    plain = rank_frontier(model, data, F.mse_loss, kind="whitened")
    for name, k in (("0.weight", 1), ("2.weight", 2)):
        with torch.no_grad():
            change = plain.view(model, {name: k})(x.clone()) - model(x.clone())
        error = float(change.square().sum(1).mean())
        assert plain.predicted_loss({name: k}) == pytest.approx(error, rel=1e-6)
    ranks = plain.ranks(fraction=0.6)
    first = model[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight *= 100
        first.bias *= 100
    model[1] = Shrunk()
    scaled = rank_frontier(model, data, F.mse_loss, kind="whitened")
    assert scaled.ranks(fraction=0.6) == ranks
    once = rank_frontier(model, iter(data), F.mse_loss, kind="whitened")
    assert not once.scales


class Shrunk(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x / 100).relu()


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_models_are_what_the_ranks_say(kind: Any, data: tuple[Tensor, Tensor]) -> None:
    model = network()
    frontier = rank_frontier(model, data, F.cross_entropy, kind=kind)
    ranks: dict[str, int | None] = {"0.weight": 7, "2.weight": 8, "4.weight": None}
    some = frontier.compressed(model, ranks)
    assert isinstance(some[0], LowRankLinear)
    assert type(model[0]) is type(some[4]) is nn.Linear
    view = frontier.view(model, ranks)
    torch.testing.assert_close(view(data[0]), some(data[0]))
    assert view[4].weight is model[4].weight is not some[4].weight
    short = frontier.layers["0.weight"].short
    assert short is not None
    assert short.data_ptr() in (view[0].W1.data_ptr(), view[0].W2.data_ptr())
    assert short.data_ptr() not in (some[0].W1.data_ptr(), some[0].W2.data_ptr())
    ranks = frontier.ranks(fraction=0.5)
    small = frontier.compressed(model, ranks)
    kept = sum(p.numel() for p in small.parameters() if p.ndim == 2)
    assert kept == frontier.params(ranks) <= 0.5 * frontier.n_params
    with pytest.raises(ValueError, match=r"1\.weight"):
        frontier.compressed(model, {"1.weight": 3})
    with pytest.raises(ValueError, match="give 7 at most"):
        frontier.compressed(model, {"0.weight": 8})


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
        choices(
            ranks := np.arange(multiple_of, (m * n - 1) // (m + n) + 1, multiple_of),
            np.append(ranks * (m + n), m * n),
            np.sort(generator.exponential(size=min(m, n)) ** 3)[::-1],
        )
        for m, n in shapes
    ]
    everything = [
        (
            sum(int(layer.costs[i]) for layer, i in zip(layers, chosen, strict=True)),
            sum(float(layer.losses[i]) for layer, i in zip(layers, chosen, strict=True)),
        )
        for chosen in product(*(range(len(layer.ranks)) for layer in layers))
    ]
    path = greedy_path(layers)
    for budget in range(int(path.costs[0]), int(path.costs[-1]) + 20, 7):
        chosen = knapsack(layers, cost=budget)
        loss = sum(float(layer.losses[i]) for layer, i in zip(layers, chosen, strict=True))
        best = min(b for a, b in everything if a <= budget)
        assert best - 1e-12 <= loss <= best * (1 + 1e-3)
        assert sum(layer.costs[i] for layer, i in zip(layers, chosen, strict=True)) <= budget
    for limit in (0.0, 0.01, 0.3, 5.0):
        chosen = knapsack(layers, loss=limit)
        size = sum(int(layer.costs[i]) for layer, i in zip(layers, chosen, strict=True))
        assert size == min(a for a, b in everything if b <= limit * (1 + 1e-9))
    with pytest.raises(ValueError, match="the smallest"):
        knapsack(layers, cost=10)


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
    class Own(nn.Linear):
        pass

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.unused = (nn.Linear(12, 12).double() for _ in range(3))
            self.c = nn.utils.parametrizations.weight_norm(nn.Linear(12, 12).double())
            self.d = Own(12, 12).double()
            self.scale = nn.Parameter(torch.ones(1, 12).double())
            self.head = nn.Linear(12, 4).double()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.d(self.c(self.b(self.a(x)) * self.scale)))
            return out

    options: dict[str, Any] = {"layers": ["a.weight", "unused.weight", "head.weight"]}
    frontier = rank_frontier(Odd(), data, F.cross_entropy, skip_last=True, **options)
    assert list(frontier.layers) == ["a.weight"]
    assert frontier.skipped == {
        "scale": "a weight of Odd, an unsupported layer",
        "c.weight": "parametrized: recomputed at every step; "
        "parametrize.remove_parametrizations(module, 'weight') makes it a parameter again",
        "d.weight": "of Own, a Linear that may use it in another way",
        "b.weight": "not asked for",
        "head.weight": "the last layer",
        "unused.weight": "no calibration row reaches it",
    }
    with pytest.raises(ValueError, match="no layer to factor"):
        rank_frontier(nn.Sequential(nn.ReLU()), data, F.cross_entropy)
    with pytest.raises(ValueError, match=r"no weight is called 'e\.weight'"):
        rank_frontier(Odd(), data, F.cross_entropy, layers=["e.weight"])


def test_says_how_our_own_layers_can_be_factored(data: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(SVDLinear(12, 8), nn.Linear(8, 4)).double()
    frontier = rank_frontier(model, data, F.cross_entropy)
    reason = "a weight of SVDLinear, an unsupported layer: replace it by its to_linear()"
    assert frontier.skipped == {"0.U": reason, "0.V": reason}
    model[0] = model[0].to_linear()  # type: ignore[operator]
    assert list(rank_frontier(model, data, F.cross_entropy).layers) == ["0.weight", "1.weight"]


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


def test_the_last_model_takes_the_components(data: tuple[Tensor, Tensor]) -> None:
    model = network()
    frontier = rank_frontier(model, data, F.cross_entropy)
    ranks = frontier.ranks(fraction=0.5)
    before = frontier.compressed(model, ranks)
    small = frontier.compressed(model, ranks, last=True)
    torch.testing.assert_close(small(data[0]), before(data[0]), rtol=0, atol=0)
    assert all(each.short is each.through is None for each in frontier.layers.values())
    assert frontier.ranks(fraction=0.5) == ranks
    with pytest.raises(ValueError, match="went into the compressed model"):
        frontier.view(model, ranks)
    stored = {id(p) for p in model.parameters()}
    assert not any(id(p) in stored for p in small.parameters())


def test_moments_are_made_in_the_fewest_passes() -> None:
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(10)], nn.Linear(8, 2))
    sites, _ = factorable_weights(model)
    for budget, passes in ((10**6, 1), (2 * 4 * 64 * 5 + 32, 2), (2 * 4 * 64, 10), (1, 11)):
        groups = _passes(sites, budget)
        assert len(groups) == passes
        assert [site for group in groups for site in group] == sites
