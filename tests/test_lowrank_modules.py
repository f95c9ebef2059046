"""Layers as two thin factors, whole models of them, and the way back."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from svdbench.lowrank import (
    LowRankConv2d,
    LowRankLinear,
    LowRankRecurrent,
    factor,
    truncated_svd,
    unfactor,
)
from svdbench.lowrank.layers.base import two_factors
from svdbench.lowrank.layers.conv import folded_shape

EXACT: dict[str, Any] = {"svd": lambda A, k: truncated_svd(A, k, driver="svd")}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class TestLinear:
    @pytest.mark.parametrize("shape", [(7,), (1, 7), (4, 7), (2, 3, 7), (0, 7)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_full_rank_is_the_same_function(self, shape: tuple[int, ...], bias: bool) -> None:
        linear = nn.Linear(7, 5, bias=bias)
        layer = LowRankLinear.from_linear(linear, 5)
        x = torch.randn(shape)
        close(layer(x), linear(x))
        close(layer.to_linear()(x), linear(x))
        assert layer.to_linear().weight.is_leaf

    def test_truncates_as_the_svd_does(self) -> None:
        linear = nn.Linear(9, 6).double()
        layer = LowRankLinear.from_linear(linear, 2, **EXACT)
        lost = torch.linalg.matrix_norm(linear.weight - layer.weight, ord=2)
        close(lost, torch.linalg.svdvals(linear.weight)[2])
        assert layer.bias is not None
        assert layer.bias.shape == (6,)  # outside W₁

    @pytest.mark.parametrize("split", ["balanced", "left", "right"])
    def test_splits_have_one_product(self, split: Any) -> None:
        A = torch.randn(6, 4)
        W1, W2 = two_factors(A, 4, split=split)
        close(W1 @ W2, A)
        if split == "balanced":
            close(W1.norm(dim=0), W2.norm(dim=1))

    def test_gradients_are_those_of_the_product(self) -> None:
        layer = LowRankLinear(5, 4, 3).double()
        x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, W1, W2, b: torch.func.functional_call(
                layer, {"W1": W1, "W2": W2, "bias": b}, x
            ),
            (x, *layer.parameters()),
        )

    def test_starts_with_the_variance_of_a_linear_layer(self) -> None:
        variance = LowRankLinear(300, 200, 50).weight.var().item()
        assert variance == pytest.approx(1 / 900, rel=0.1)

    def test_saves(self) -> None:
        # 512×784 saves below 309.7, as its factors have 1,296 numbers for each of the rank.
        assert LowRankLinear.saves(784, 512, 309)
        assert not LowRankLinear.saves(784, 512, 310)
        assert not LowRankLinear.saves(20, 20, 10)  # as many is not fewer

    @pytest.mark.parametrize("rank", [0, 6, -1])
    def test_refuses_a_rank_that_there_is_not(self, rank: int) -> None:
        with pytest.raises(ValueError, match="from 1 to 5"):
            LowRankLinear(7, 5, rank)
        with pytest.raises(ValueError, match="from 1 to 5"):
            LowRankLinear.from_linear(nn.Linear(7, 5), rank)

    def test_refuses_other_mistakes(self) -> None:
        with pytest.raises(ValueError, match="in_features is 0: give 1 or more"):
            LowRankLinear(0, 5, 1)
        with pytest.raises(ValueError, match="unknown split 'middle'"):
            two_factors(torch.randn(3, 3), 1, split="middle")  # type: ignore[arg-type]


class TestConv:
    @pytest.mark.parametrize("folding", ["spatial", "channel"])
    @pytest.mark.parametrize(
        "options",
        [
            {"kernel_size": 3},
            {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2), "bias": False},
            {"kernel_size": (1, 3), "dilation": (1, 2)},
            {"kernel_size": 3, "padding": "same", "padding_mode": "circular"},
            {"kernel_size": 3, "groups": 2},
        ],
    )
    def test_full_rank_is_the_same_function(self, folding: Any, options: dict[str, Any]) -> None:
        conv = nn.Conv2d(4, 6, **options)
        rank = min(folded_shape(conv, folding))
        layer = LowRankConv2d.from_conv(conv, rank, folding=folding)
        x = torch.randn(2, 4, 9, 11)
        close(layer(x), conv(x))
        close(layer.weight, conv.weight)
        back = layer.to_conv()
        close(back(x), conv(x))
        assert repr(back) == repr(conv)

    @pytest.mark.parametrize("folding", ["spatial", "channel"])
    def test_truncates_the_folded_kernel(self, folding: Any) -> None:
        conv = nn.Conv2d(4, 6, 3)
        layer = LowRankConv2d.from_conv(conv, 2, folding=folding)
        lost = (layer.weight - conv.weight).norm()
        kernel = conv.weight.permute(0, 3, 1, 2) if folding == "spatial" else conv.weight
        rows = 18 if folding == "spatial" else 6
        close(lost, torch.linalg.svdvals(kernel.reshape(rows, -1))[2:].norm())

    def test_refuses_unknown_foldings(self) -> None:
        with pytest.raises(ValueError, match="choose spatial or channel"):
            LowRankConv2d(nn.Conv2d(4, 6, 3), 1, folding="diagonal")  # type: ignore[arg-type]


RECURRENT = [
    lambda: nn.RNN(5, 6, nonlinearity="relu"),
    lambda: nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True),
    lambda: nn.GRU(5, 6, bias=False),
]


class TestRecurrent:
    @pytest.mark.parametrize("make", RECURRENT)
    def test_full_rank_is_the_same_function(self, make: Any) -> None:
        rnn = make()
        ranks = {name: min(p.shape) for name, p in rnn.named_parameters() if p.ndim == 2}
        layer = LowRankRecurrent.from_recurrent(rnn, ranks)
        x = torch.randn(4, 3, 5)
        close(layer(x)[0], rnn(x)[0])
        back = layer.to_recurrent()
        close(back(x)[0], rnn(x)[0])
        lengths = [3, 2, 2, 1] if rnn.batch_first else [4, 2, 1]
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=rnn.batch_first)
        close(layer(packed)[0].data, rnn(packed)[0].data)

    def test_learns_through_its_factors(self) -> None:
        layer = LowRankRecurrent(nn.LSTM(5, 6), {"weight_hh_l0": 2})
        layer(torch.randn(4, 3, 5))[0].sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        names = {name for name, _ in layer.named_parameters()}
        assert {"weight_hh_l0_W1", "weight_hh_l0_W2", "weight_ih_l0"} <= names
        assert "weight_hh_l0" not in names
        copy = deepcopy(layer)
        copy.load_state_dict(layer.state_dict())
        assert "weight_hh_l0: 2" in repr(copy)

    def test_refuses_what_it_can_not_factor(self) -> None:
        with pytest.raises(ValueError, match="no weight 'weight_xy'"):
            LowRankRecurrent(nn.GRU(5, 6), {"weight_xy": 1})
        with pytest.raises(ValueError, match="from 1 to 6"):
            LowRankRecurrent(nn.GRU(5, 6), {"weight_hh_l0": 7})
        with pytest.raises(ValueError, match="proj_size"):
            LowRankRecurrent(nn.LSTM(5, 6, proj_size=2), {"weight_hh_l0": 1})


class Mixed(nn.Module):
    """An image to a sequence to a class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.rnn = nn.GRU(80, 12)
        self.hidden = nn.Linear(12, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.grouped(self.conv(x)).permute(2, 0, 1, 3).flatten(2)
        last: Tensor = self.head(self.hidden(self.rnn(y)[0][-1]))
        return last


class TestFactor:
    def test_whole_models_there_and_back(self) -> None:
        model = Mixed()
        x = torch.randn(2, 2, 6, 10)
        before = model(x)
        small, report = factor(model, lambda weight: min(weight.rows, weight.columns, 4))
        close(model(x), before)  # a copy was changed
        assert isinstance(small.conv, LowRankConv2d)
        assert isinstance(small.rnn, LowRankRecurrent)
        assert isinstance(small.hidden, LowRankLinear)
        reasons = {found.weight.name: found.reason for found in report}
        assert reasons["grouped.weight"] == ""
        assert small.grouped.groups == 2
        assert reasons["head.weight"] == "the last layer"
        assert reasons["rnn.weight_ih_l0"] == ""
        numbers = sum(found.numbers[1] for found in report)
        assert numbers == sum(p.numel() for p in small.parameters() if p.ndim > 1)
        back = unfactor(small)
        close(back(x), small(x))
        assert repr(back) == repr(model)

    def test_full_rank_changes_nothing(self) -> None:
        model = Mixed()
        x = torch.randn(2, 2, 6, 10)
        full, report = factor(
            model, lambda w: min(w.rows, w.columns), only_if_saves=False, skip_last=False
        )
        assert all(found.rank for found in report)
        torch.testing.assert_close(full(x), model(x), rtol=1e-3, atol=1e-4)

    def test_a_model_may_be_a_layer(self) -> None:
        layer, (found,) = factor(nn.Linear(9, 8), 2, skip_last=False)
        assert isinstance(layer, LowRankLinear)
        assert found.weight.name == "weight"
        assert isinstance(unfactor(layer), nn.Linear)

    def test_in_place_and_by_name(self) -> None:
        model = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 9), nn.Linear(9, 2))
        same, report = factor(model, {"1.weight": 3}, inplace=True)
        assert same is model
        assert [found.rank for found in report] == [None, 3, None]
        assert report[0].reason == "not asked for"
        with pytest.raises(ValueError, match=r"no weight is called '7.weight'"):
            factor(model, {"7.weight": 3})

    def test_leaves_what_would_not_be_the_same(self) -> None:
        square = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 1))
        _, report = factor(square, 10)
        assert report[0].reason == "rank 10 saves no parameters"
        normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(9, 9)))
        _, report = factor(normed, 2, skip_last=False)
        assert report == []

    def test_keeps_modes_and_dtypes(self) -> None:
        model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 2)).double().eval()
        model.requires_grad_(False)
        small, _ = factor(model, 2)
        assert not small[0].training
        assert small[0].W1.dtype == torch.float64
        assert not any(p.requires_grad for p in small.parameters())
