"""Every kind of layer: what passes through its weights, and what takes their place."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from svdbench.lowrank import factor, rank_frontier, unfactor
from svdbench.lowrank.layers.base import as_rows
from svdbench.lowrank.layers.factor import with_empty_factors
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.ranks.moments import observe


class Called(nn.Module):
    """A layer, and how it is called; puts out one tensor (B, …)."""

    def __init__(self, layer: nn.Module, call: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) if self.call is None else self.call(self.layer, x)
        return out


def packed(layer: nn.Module, x: Tensor) -> Tensor:
    lengths = torch.tensor([3, 5, 1, 4][: len(x)])
    sequences = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, state = layer(sequences)
    ends = state if isinstance(state, tuple) else (state,)
    padded, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    return torch.cat([padded.flatten(1), *(end.transpose(0, 1).flatten(1) for end in ends)], 1)


def started(layer: nn.Module, x: Tensor) -> Tensor:
    h = x[:, :1, :4].transpose(0, 1).contiguous()
    out: Tensor = layer(x, h)[0]
    return out


def attending(**options: Any) -> Callable[[nn.Module, Tensor], Tensor]:
    def call(layer: nn.Module, x: Tensor) -> Tensor:
        out, weights = layer(x, x, x, **options)
        return out if weights is None else torch.cat([out, weights.flatten(2)], 2)

    return call


def causal(layer: nn.Module, x: Tensor) -> Tensor:
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
    out: Tensor = layer(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
    return out


def crossed(layer: nn.Module, x: Tensor) -> Tensor:
    padding = torch.zeros(len(x), x.shape[1], dtype=torch.bool)
    padding[:, -2:] = True
    out: Tensor = layer(x, x[..., :5], x[..., 3:], key_padding_mask=padding)[0]
    return out


def looked_up(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer((x.abs() * 4).long().clamp(max=8))
    return out


def two_times(layer: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = layer(layer(x).tanh())
    return out


SEQUENCE, IMAGE, SERIES = (4, 5, 8), (3, 4, 7, 9), (3, 6, 11)
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "embedding": (lambda: Called(nn.Embedding(9, 4, padding_idx=2), looked_up), SEQUENCE),
    "embedding, wide": (lambda: Called(nn.Embedding(9, 12), looked_up), SEQUENCE),
    "linear": (lambda: Called(nn.Linear(8, 6)), SEQUENCE),
    "linear twice": (lambda: Called(nn.Linear(8, 8), two_times), SEQUENCE),
    "conv1d": (lambda: Called(nn.Conv1d(6, 8, 3, stride=2, padding=1)), SERIES),
    "conv1d groups": (lambda: Called(nn.Conv1d(6, 8, 3, groups=2, padding="same")), SERIES),
    "conv2d": (lambda: Called(nn.Conv2d(4, 6, 3, padding=1)), IMAGE),
    "conv2d strides": (
        lambda: Called(nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 2), dilation=(1, 2))),
        IMAGE,
    ),
    "conv2d sparse": (lambda: Called(nn.Conv2d(4, 6, 2, stride=3, bias=False)), IMAGE),
    "conv2d groups": (
        lambda: Called(nn.Conv2d(4, 6, 3, groups=2, padding="same", padding_mode="circular")),
        IMAGE,
    ),
    "conv2d reflect": (
        lambda: Called(nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect")),
        IMAGE,
    ),
    "rnn": (lambda: Called(nn.RNN(8, 4, batch_first=True, nonlinearity="relu"), started), SEQUENCE),
    "rnn, no batch": (lambda: Called(nn.RNN(8, 4), lambda m, x: m(x.flatten(0, 1))[0]), SEQUENCE),
    "gru packed": (
        lambda: Called(nn.GRU(8, 4, 2, batch_first=True, bidirectional=True), packed),
        SEQUENCE,
    ),
    "lstm": (
        lambda: Called(nn.LSTM(8, 5, bias=False), lambda m, x: m(x.transpose(0, 1))[0]),
        SEQUENCE,
    ),
    "lstm packed": (
        lambda: Called(nn.LSTM(8, 4, 2, batch_first=True, bidirectional=True), packed),
        SEQUENCE,
    ),
    "attention": (
        lambda: Called(nn.MultiheadAttention(8, 2, batch_first=True), attending()),
        SEQUENCE,
    ),
    "attention heads": (
        lambda: Called(nn.MultiheadAttention(8, 2, bias=False), _heads),
        SEQUENCE,
    ),
    "attention causal": (
        lambda: Called(nn.MultiheadAttention(8, 2, batch_first=True), causal),
        SEQUENCE,
    ),
    "attention unpacked": (
        lambda: Called(nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True), crossed),
        SEQUENCE,
    ),
    "attention, no batch": (
        lambda: Called(nn.MultiheadAttention(8, 2), lambda m, x: m(*(x.flatten(0, 1),) * 3)[0]),
        SEQUENCE,
    ),
}


def _heads(layer: nn.Module, x: Tensor) -> Tensor:
    mask = torch.randn(len(x) * 2, x.shape[1], x.shape[1], generator=torch.Generator())
    x = x.transpose(0, 1)
    out, weights = layer(x, x, x, attn_mask=mask.to(x), average_attn_weights=False)
    return torch.cat([out.transpose(0, 1).flatten(1), weights.flatten(1)], 1)


class Recorder:
    """An observer that keeps what it is shown."""

    def __init__(self) -> None:
        self.x: list[Tensor] = []
        self.g: list[Tensor] = []
        self.looked_up = False

    def columns(self, X: Tensor) -> None:
        self.x.append(X)

    def picks(self, rows: Tensor) -> None:
        self.x.append(F.one_hot(rows.flatten(), 9).double())
        self.looked_up = True

    def output(self, y: Tensor, arrange: Any = None, *, side: str = "rows") -> Tensor:
        y = y if y.requires_grad else y.detach().requires_grad_().clone()

        def hook(g: Tensor) -> None:
            found: Iterable[Tensor] = [as_rows(g)] if arrange is None else arrange(g)
            self.g.append(torch.cat(list(found), -2))

        y.register_hook(hook)
        return y

    @property
    def gradient(self) -> Tensor:
        """Of the weight: Σ g xᵀ, of calls in any order but each with all of its rows."""
        on_columns, on_rows = self.sides
        return on_rows.mT @ on_columns

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Rows on the side of the columns, and on that of the rows."""
        # The last call's gradient comes first.
        x, g = torch.cat(self.x, -2), torch.cat(self.g[::-1], -2)
        return (g, x) if self.looked_up else (x, g)


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make().double().eval(), torch.randn(shape, dtype=torch.float64)


def squares(output: Tensor, y: Tensor) -> Tensor:
    return output.square().sum() / len(y)


@pytest.mark.parametrize("folding", ["spatial", "channel"])
@pytest.mark.parametrize("name", LAYERS)
def test_what_passes_through_a_weight_makes_its_gradient(name: str, folding: Any) -> None:
    """Σ g xᵀ of the rows that are shown is the weight's own gradient: they are the right ones."""
    model, x = made(name)
    before = model(x)
    before.square().sum().backward()
    sites, _ = factorable_weights(model, folding)
    recorders = [Recorder() for _ in sites]
    outputs = []
    keep = model.register_forward_hook(lambda module, args, output: outputs.append(output))
    data = [(x, torch.zeros(len(x)))]
    observers = [(site.uses[0], each) for site, each in zip(sites, recorders, strict=True)]
    observe(model, data, observers, folding=folding, loss=squares)
    keep.remove()
    torch.testing.assert_close(outputs[0], before, rtol=1e-10, atol=1e-12)
    for site, recorder in zip(sites, recorders, strict=True):
        (use,) = site.uses
        parameter = use.part.parameter
        saved, gradient = parameter.data, parameter.grad
        assert gradient is not None
        parameter.data = gradient
        expected = site.matrix.clone()
        parameter.data = saved
        torch.testing.assert_close(recorder.gradient, expected, rtol=1e-9, atol=1e-10)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("folding", ["spatial", "channel"])
@pytest.mark.parametrize("name", LAYERS)
def test_full_rank_is_the_same_function(name: str, folding: Any) -> None:
    model, x = made(name)
    options: dict[str, Any] = {"skip_last": False, "only_if_saves": False, "folding": folding}
    small, report = factor(model, lambda w: min(w.rows, w.columns), **options)
    assert all(found.rank for found in report)
    tight = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(small(x), model(x), **tight)
    back = unfactor(small)
    torch.testing.assert_close(back(x), model(x), **tight)
    assert repr(back) == repr(model)
    assert back.state_dict().keys() == model.state_dict().keys()
    ranks = {found.weight.name: found.rank for found in report}
    empty = deepcopy(with_empty_factors(model, ranks, folding))
    empty.load_state_dict(small.state_dict())
    torch.testing.assert_close(empty(x), small(x))
    small(x).square().sum().backward()
    assert all(p.grad is not None for p in small.parameters())


@pytest.mark.parametrize("folding", ["spatial", "channel"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", ["kronecker", "whitened", "plain"])
def test_spectra_are_those_of_the_rows(name: str, folding: Any, kind: Any) -> None:
    model, x = made(name)
    options: dict[str, Any] = {"damping": 0.03, "recentre": False, "curvature": "fisher"}
    data = [(x, torch.zeros(len(x)))]
    frontier = rank_frontier(model, data, squares, kind=kind, folding=folding, **options)
    sites, _ = factorable_weights(model, folding)
    recorders = [Recorder() for _ in sites]
    observers = [(site.uses[0], each) for site, each in zip(sites, recorders, strict=True)]
    observe(model, data, observers, folding=folding, loss=squares)
    for site, recorder in zip(sites, recorders, strict=True):
        found, W = frontier.layers[site.name], site.matrix
        C, R = (A.mT @ A for A in recorder.sides)
        came, gone = recorder.sides[0].shape[-2], len(x)
        came, gone = (gone, came) if recorder.looked_up else (came, gone)
        C, R = C / came, R / gone
        C, R = (A + 0.03 * A.diagonal(0, -2, -1).mean(-1)[..., None, None] * eye(A) for A in (C, R))
        if kind == "plain" or (kind == "whitened" and recorder.looked_up):
            C = eye(C)
        if kind == "plain" or (kind == "whitened" and not recorder.looked_up):
            R = eye(R)
        U, S, Vh = torch.linalg.svd(root(R) @ W @ root(C), full_matrices=False)
        energies = S.square().sum(0) if site.weight.groups > 1 else S.square()
        torch.testing.assert_close(found.energies, energies, rtol=1e-8, atol=1e-10)
        for k in {1, found.weight.most}:
            left, right = found.components(W, k)
            W_k = left @ right
            best = (U[..., :k] * S[..., None, :k]) @ Vh[..., :k, :]
            expected = root(R).inverse() @ best @ root(C).inverse()
            torch.testing.assert_close(W_k, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "conv2d groups", "conv2d reflect"])
def test_whitening_makes_the_error_of_the_output_smaller(name: str) -> None:
    model, x = made(name)
    errors = []
    for kind in ("plain", "whitened"):
        frontier = rank_frontier(
            model, [(x, torch.zeros(len(x)))], squares, kind=kind, folding="channel"
        )
        small = frontier.view(model, dict.fromkeys(frontier.layers, 1))
        errors.append(float((small(x) - model(x)).detach().norm()))
    assert errors[1] < errors[0]
    # With the bias that takes over the mean, and next to no damping, the error is known.
    known = rank_frontier(
        model, [(x, torch.zeros(len(x)))], squares, kind="whitened", folding="channel",
        damping=1e-9,
    )  # fmt: skip
    ranks: dict[str, int | None] = dict.fromkeys(known.layers, 1)
    change = (known.view(model, ranks)(x) - model(x)).detach()
    change = change.movedim(-1 if name == "linear" else 1, -1).flatten(0, -2)
    error = float(change.square().sum(1).mean()) / 2
    assert error == pytest.approx(known.predicted_loss(ranks), rel=1e-5)


class Aside(nn.Module):
    """A layer, and one whose output no loss sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.unseen = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.seen(x) + 0 * self.unseen(x)


def test_what_the_loss_does_not_see_is_free() -> None:
    model, x = Aside().double(), torch.randn(50, 8, dtype=torch.float64)
    frontier = rank_frontier(model, (x, torch.zeros(50)), squares)
    assert frontier.layers["unseen.weight"].energies.max() < 1e-20
    assert frontier.layers["seen.weight"].energies.min() > 1e-3
    for loss in (lambda output, y: output.sum() * 0, lambda output, y: 0 * output.square().sum()):
        with pytest.raises(ValueError, match="neither a gradient nor a curvature"):
            rank_frontier(model, (x, torch.zeros(50)), loss)


def eye(A: Tensor) -> Tensor:
    return torch.eye(A.shape[-1], dtype=A.dtype).expand_as(A)


def root(A: Tensor) -> Tensor:
    values, Q = torch.linalg.eigh(A)
    return (Q * values.sqrt().unsqueeze(-2)) @ Q.mT
