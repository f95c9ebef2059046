"""Calibration block by block: what is kept for the backward pass, and that nothing else changes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import compress, rank_frontier
from svdbench.lowrank import trial as trials
from svdbench.lowrank.ranks.blocks import blocks_of
from svdbench.lowrank.splits import split_examples
from svdbench.lowrank.trial import try_batch

pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    def __init__(self, overwrites: bool = False) -> None:
        super().__init__()
        self.up, self.down, self.overwrites = nn.Linear(6, 96), nn.Linear(96, 6), overwrites

    def forward(self, x: Tensor, *, scale: float) -> Tensor:
        added = scale * self.down(F.gelu(self.up(x)))
        return x.add_(added) if self.overwrites else x + added


class Deep(nn.Module):
    """Eight residual blocks between two layers."""

    def __init__(self, overwrites: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.blocks = nn.ModuleList([Block(overwrites) for _ in range(8)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x, scale=0.5)
        found: Tensor = self.last(x)
        return found


@pytest.fixture
def subject() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return Deep().eval(), (torch.randn(60, 5), torch.randint(3, (60,)))


def test_blocks_are_the_items_of_lists() -> None:
    model = Deep()
    assert blocks_of(model) == list(model.blocks)
    layer = [nn.TransformerEncoderLayer(4, 2, 8) for _ in range(3)]
    stages = nn.Sequential(nn.Linear(4, 4), nn.Sequential(*layer[:2]), nn.Sequential(layer[2]))
    assert blocks_of(nn.ModuleDict({"stages": stages})) == layer
    assert blocks_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))) == []


@pytest.mark.parametrize("curvature", ["ggn", "fisher"])
def test_spectra_are_the_same(subject: Any, curvature: Any) -> None:
    model, data = subject
    one, other = (
        rank_frontier(model, data, F.cross_entropy, curvature=curvature, blockwise=blockwise)
        for blockwise in (False, True)
    )
    assert list(one.layers) == list(other.layers)
    for name, each in one.layers.items():
        assert torch.equal(each.energies, other.layers[name].energies), name
        assert torch.equal(each.short, other.layers[name].short), name  # type: ignore[arg-type]
    assert "forward" not in vars(model.blocks[0])


def test_only_what_comes_into_blocks_is_kept(subject: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = subject
    splits, kept = split_examples(data), {}
    observed = trials._observed

    def seen(*args: Any, **options: Any) -> Any:
        found = observed(*args, **options)
        kept[options["blockwise"]] = found[1] / len(args[1][0])
        return found

    monkeypatch.setattr(trials, "_observed", seen)
    assert not try_batch(model, splits).blockwise
    monkeypatch.setattr(trials, "LEAST_LARGE", 1)
    monkeypatch.setattr(trials, "LARGE", 2**20)
    judged = try_batch(model, splits)
    assert judged.blockwise
    assert judged.numbers(1) <= 5  # an example at a time
    assert kept[True] < 0.1 * kept[False]


def test_compress_goes_block_by_block_where_an_example_is_large(
    subject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = subject
    usual = compress(model, data, params=0.5, timing_s=0, blockwise=True)
    monkeypatch.setattr(trials, "LEAST_LARGE", 1)
    monkeypatch.setattr(trials, "LARGE", 2**20)
    found = compress(model, data, params=0.5, timing_s=0)
    assert found.certificate.params == pytest.approx(usual.certificate.params, rel=0.05)


def test_blocks_whose_input_is_overwritten_are_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, data = Deep(overwrites=True).eval(), (torch.randn(60, 5), torch.randint(3, (60,)))
    with pytest.raises(RuntimeError, match=r"overwritten|inplace"):
        rank_frontier(model, data, F.cross_entropy, blockwise=True)
    monkeypatch.setattr(trials, "LEAST_LARGE", 1)
    monkeypatch.setattr(trials, "LARGE", 2**20)
    assert not try_batch(model, split_examples(data)).blockwise
