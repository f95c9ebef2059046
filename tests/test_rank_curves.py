"""Exact curves of loss against rank: what the naive loop finds, for any model."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import example_losses, loss_curves


def examples(n: int = 150, features: int = 12, classes: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(n, features), torch.randint(classes, (n,))


def sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4)
    )


class Residual(nn.Module):
    """No sequence: a layer's output is used twice, and one layer sees sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 5, bias=False)
        self.first = nn.Linear(15, 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.inner(x.unflatten(1, (3, 4))).relu_().flatten(1))
        out: Tensor = self.last(h + self.second(h.relu()))
        return out


class Encoder(nn.Module):
    """Torch's own, which goes round its layers in evaluation mode where it can."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.encoder(x.unflatten(1, (3, 4))).flatten(1))
        return out


@torch.no_grad()
def naive(model: nn.Module, name: str, X: Tensor, y: Tensor) -> Tensor:
    losses = []
    for k in range(1, min(model.get_parameter(name).shape) + 1):
        copy = deepcopy(model).eval()
        W = copy.get_parameter(name)
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
        W.copy_((U[:, :k] * S[:k]) @ Vh[:k])
        losses.append(F.cross_entropy(copy(X), y))
    return torch.stack(losses).double()


@pytest.mark.parametrize("make", [sequential, Residual, Encoder, lambda: nn.Linear(12, 4)])
@pytest.mark.parametrize("batch", [None, 64])
def test_losses_are_those_of_the_naive_loop(make: type, batch: int | None) -> None:
    model = make()
    X, y = examples()
    data = (X, y) if batch is None else list(zip(X.split(batch), y.split(batch), strict=True))
    before = deepcopy(model.state_dict())
    curves = loss_curves(model, data, F.cross_entropy)
    assert model.training
    torch.testing.assert_close(model.state_dict(), before)
    layers = [f"{n}.weight".lstrip(".") for n, m in model.named_modules() if type(m) is nn.Linear]
    assert list(curves) == layers
    for name, curve in curves.items():
        expected = naive(model, name, X, y)
        torch.testing.assert_close(curve.losses, expected, rtol=0, atol=1e-5)
        assert curve.losses[-1] == pytest.approx(curve.dense, abs=1e-5)


def test_the_rank_is_one_after_which_no_loss_is_too_high() -> None:
    model = sequential()
    data = examples()
    curve = loss_curves(model, data, F.cross_entropy, ["0.weight"])["0.weight"]
    for allowed in (0.0, 1e-3, 0.1, 10.0):
        k = curve.rank(allowed)
        assert (curve.losses[k - 1 :] <= curve.dense + max(allowed, 1e-5)).all()
        assert k == 1 or curve.losses[k - 2] > curve.dense + allowed


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"7\.weight"):
        loss_curves(sequential(), examples(), F.cross_entropy, ["7.weight"])

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(self.layer(x))
            return out

    with pytest.raises(ValueError, match="2 times"):
        loss_curves(Twice(), examples(features=4), F.cross_entropy)
    X, y = examples()
    with pytest.raises(ValueError, match="149 targets"):
        loss_curves(sequential(), (X, y[1:]), F.cross_entropy)
    with pytest.raises(ValueError, match="no examples"):
        loss_curves(sequential(), [], F.cross_entropy)
    X[3, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        loss_curves(sequential(), (X, y), F.cross_entropy)
    with pytest.warns(UserWarning, match="all 10 labels are 2"):
        loss_curves(
            sequential(), (torch.randn(10, 12), torch.full((10,), 2)), F.cross_entropy, ["0.weight"]
        )


def test_example_losses_average_to_the_loss() -> None:
    model = sequential()
    X, y = examples(700)
    found = example_losses(model, (X, y), F.cross_entropy)
    assert found.shape == (700,)
    expected = F.cross_entropy(deepcopy(model).eval()(X), y).detach()
    assert float(found.mean()) == pytest.approx(float(expected), abs=1e-6)
