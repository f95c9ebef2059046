"""Whole models of several kinds of layers, from calibration to a compressed model."""

import warnings
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import LowRankAttention, example_losses, factor, rank_frontier, unfactor
from svdbench.lowrank.layers.factor import low_rank_modules, with_empty_factors
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.ranks.examples import called

TOKENS, WIDTH, STEPS = 40, 16, 6


class Encoder(nn.Module):
    """Tokens to a class."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.1, batch_first=True)
        self.embedding = nn.Embedding(TOKENS, WIDTH, padding_idx=0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        y = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        if padding is not None:
            y = y.masked_fill(padding.unsqueeze(-1), 0.0)
        out: Tensor = self.head(y.mean(1))
        return out


class Decoder(nn.Module):
    """Two inputs, the second attending to the first."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(WIDTH, 2, 32, batch_first=True, norm_first=True)
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.decoder = nn.TransformerDecoder(layer, 1)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        y = self.decoder(self.embedding(target), self.embedding(source))
        out: Tensor = self.head(y.mean(1))
        return out


class Language(nn.Module):
    """The next token, by a head that shares the embedding's table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, TOKENS)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(self.embedding(tokens))[0][:, -1])
        return out


class Sequence(nn.Module):
    """An LSTM's last state to a class."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0].mean(1))
        return out


def image_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
        nn.Conv2d(12, 12, 3, groups=12, padding=1), nn.Conv2d(12, 16, 3, groups=2),
        nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def tokens(count: int) -> Tensor:
    return torch.randint(1, TOKENS, (count, STEPS))


# A model, its inputs, and how many classes there are.
MODELS: dict[str, tuple[Any, Any, int]] = {
    "encoder": (Encoder, lambda n: tokens(n), 3),
    "encoder, padded": (Encoder, lambda n: (tokens(n), torch.arange(STEPS).expand(n, -1) > 3), 3),
    "decoder": (Decoder, lambda n: {"target": tokens(n), "source": tokens(n)}, 3),
    "language": (Language, lambda n: tokens(n), TOKENS),
    "sequence": (Sequence, lambda n: torch.randn(n, STEPS, WIDTH), 3),
    "images": (image_net, lambda n: torch.randn(n, 2, 6, 6), 3),
}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*nested tensor.*")
        yield


def made(name: str, count: int = 96, steps: int = 10) -> tuple[nn.Module, Any, Tensor]:
    """A model, a little trained, and what it was trained on."""
    make, inputs, classes = MODELS[name]
    model, x, y = make(), inputs(count), torch.randint(classes, (count,))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(called(model, x), y).backward()
        optimizer.step()
    return model.eval(), x, y


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_compressed_as_foretold(name: str) -> None:
    model, x, y = made(name)
    before = [parameter.clone() for parameter in model.parameters()]
    frontier = rank_frontier(model, (x, y), F.cross_entropy)
    assert all(map(torch.equal, before, model.parameters()))
    last = frontier.n_params
    for fraction in (0.9, 0.6, 0.3):
        ranks = frontier.ranks(fraction=fraction)
        small = frontier.compressed(model, ranks)
        assert frontier.params(ranks) < last
        last = frontier.params(ranks)
        saved = sum(p.numel() for p in model.parameters()) - frontier.n_params + last
        assert sum(p.numel() for p in small.parameters()) == saved
        shared = frontier.view(model, ranks)
        torch.testing.assert_close(called(small, x), called(shared, x), rtol=1e-4, atol=1e-5)
        restored = deepcopy(with_empty_factors(model, ranks))
        restored.load_state_dict(small.state_dict())
        torch.testing.assert_close(called(restored, x), called(small, x))


@pytest.mark.parametrize("name", MODELS)
def test_a_small_step_costs_about_what_was_predicted(name: str) -> None:
    model, x, y = made(name, count=256)
    model = model.double()
    x = x.double() if isinstance(x, Tensor) and x.is_floating_point() else x
    # With labels drawn from its own answers, E[g gᵀ] is the curvature.
    with torch.no_grad():
        y = torch.distributions.Categorical(logits=called(model, x)).sample()
    frontier = rank_frontier(
        model, (x, y), F.cross_entropy, damping=1e-4, recentre=False, effects=False
    )
    predicted = measured = 0.0
    with torch.no_grad():
        dense = called(model, x).log_softmax(-1)
        for each, spectrum in frontier.layers.items():
            ranks: dict[str, int | None] = {each: spectrum.weight.most}
            now = called(frontier.view(model, ranks), x).log_softmax(-1)
            predicted += frontier.predicted_loss(ranks)
            measured += float((dense.exp() * (dense - now)).sum(-1).mean())
    assert predicted / 2 < measured < 2 * predicted


def test_factors_of_tied_weights_are_tied() -> None:
    model, x, y = made("language")
    frontier = rank_frontier(model, (x, y), F.cross_entropy)
    assert "head.weight" not in frontier.layers
    assert frontier.layers["embedding.weight"].numbers(None) == TOKENS * WIDTH
    spectrum = frontier.layers["embedding.weight"]
    assert spectrum.short is not None
    assert spectrum.short.shape == (WIDTH, spectrum.weight.most)
    ranks: dict[str, int | None] = {"embedding.weight": 5}
    small = frontier.compressed(model, ranks)
    assert small.head.W1 is small.embedding.W1
    assert small.head.W2 is small.embedding.W2
    assert not torch.equal(small.head.bias, model.head.bias)  # recentred, and its own
    back = unfactor(small)
    assert back.head.weight is back.embedding.weight
    torch.testing.assert_close(called(back, x), called(small, x), rtol=1e-4, atol=1e-5)
    by_alias, report = factor(model, {"head.weight": 5}, skip_last=False)
    assert by_alias.head.W1 is by_alias.embedding.W1
    assert [found.weight.name for found in report if found.rank] == ["embedding.weight"]
    assert factor(model, 5)[1][0].reason == "the last layer"


def test_two_linear_layers_with_one_weight_share_its_factors() -> None:
    model = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9), nn.Linear(9, 2))
    model[2].weight = model[0].weight
    x = torch.randn(50, 9)
    small, report = factor(model, 3)
    assert [found.rank for found in report] == [3, None]
    assert small[0].W1 is small[2].W1
    assert small[0].bias is not small[2].bias
    frontier = rank_frontier(model, (x, torch.randint(2, (50,))), F.cross_entropy)
    assert list(frontier.layers) == ["0.weight", "3.weight"]
    small = frontier.compressed(model, {"0.weight": 3})
    assert small[0].W2 is small[2].W2


def test_what_cannot_be_tied_stays() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.LSTM(8, 8), nn.LSTM(8, 8)
            self.b.weight_hh_l0 = self.a.weight_hh_l0
            self.tables = nn.ModuleList([nn.Embedding(9, 8, max_norm=1.0), nn.Embedding(9, 8)])
            self.odd = nn.MultiheadAttention(8, 2, add_zero_attn=True)
            self.projected = nn.LSTM(8, 8, proj_size=2)
            self.depthwise = nn.Conv1d(8, 8, 3, groups=8)

    sites, others = factorable_weights(Odd())
    reasons = {site.name: site.refusal for site in sites if site.refusal}
    assert others == {}
    assert "a.weight_hh_l0 and b.weight_hh_l0" in reasons["a.weight_hh_l0"]
    assert "max_norm" in reasons["tables.0.weight"]
    assert "tables.1.weight" not in reasons
    assert "add_zero_attn" in reasons["odd.q_proj_weight"]
    assert "proj_size" in reasons["projected.weight_hh_l0"]
    assert reasons["depthwise.weight"] == "8 groups of 1×3: rank 1 saves no parameters"


@pytest.mark.parametrize("name", ["encoder", "encoder, padded"])
@pytest.mark.parametrize("which", ["linear1", "out_proj", "q_proj", ""])
def test_a_factored_encoder_never_takes_the_way_around_its_layers(name: str, which: str) -> None:
    model, x, _ = made(name, steps=0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    small, _ = factor(model, lambda weight: 2 if which in weight.name else None)
    assert low_rank_modules(small)
    trained = called(small.train(), x)
    evaluated = called(small.eval(), x)
    torch.testing.assert_close(evaluated, trained, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(called(small, x), trained, rtol=1e-4, atol=1e-5)
        dense = unfactor(small)
        torch.testing.assert_close(called(dense, x), trained, rtol=1e-4, atol=1e-5)
    assert dense.encoder.layers[0].activation_relu_or_gelu == 1
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", MODELS)
def test_compressed_models_are_exported(name: str) -> None:
    model, x, _ = made(name, steps=0)
    small, report = factor(model, 2)
    assert any(found.rank for found in report)
    args, kwargs = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
    program = torch.export.export(small, args, kwargs, strict=False)
    torch.testing.assert_close(
        program.module()(*args, **kwargs), called(small, x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_calibrated_in_single(dtype: torch.dtype) -> None:
    model, x, y = made("encoder")
    frontier = rank_frontier(model, (x, y), F.cross_entropy)
    half = rank_frontier(deepcopy(model).to(dtype), (x, y), _in_single)
    for name, spectrum in half.layers.items():
        assert spectrum.short is not None
        assert spectrum.short.dtype == dtype
        expected = frontier.layers[name].energies
        assert abs(spectrum.energies.sum() / expected.sum() - 1) < 0.2
    small = half.compressed(deepcopy(model).to(dtype), half.ranks(fraction=0.8))
    assert example_losses(small, (x, y), _in_single).mean().isfinite()


def _in_single(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.float(), y)


def test_data_that_goes_by_only_once_is_gone_through_once() -> None:
    model, x, y = made("encoder", steps=0)
    batches = [(x[:50], y[:50]), (x[50:], y[50:])]
    several = rank_frontier(model, batches, F.cross_entropy, budget=1)
    once = rank_frontier(model, iter(batches), F.cross_entropy, budget=1)
    for name, spectrum in several.layers.items():
        torch.testing.assert_close(once.layers[name].energies, spectrum.energies)


def test_a_frozen_model_stays_frozen_and_its_modes_too() -> None:
    model, x, y = made("encoder", steps=0)
    model.requires_grad_(False)
    model.encoder.layers[1].eval()
    frontier = rank_frontier(model, (x, y), F.cross_entropy)
    small = frontier.compressed(model, frontier.ranks(fraction=0.5))
    assert not any(p.requires_grad for p in small.parameters())
    attention = [m for _, m in low_rank_modules(small) if isinstance(m, LowRankAttention)]
    assert attention
    assert not any(m.training for m in attention[-1].modules())
