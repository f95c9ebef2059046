"""``svdbench.lowrank.compress``: budgets, what they cost, how it is judged, and its parts."""

import math
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from svdbench.lowrank import (
    Frontier,
    LowRankLinear,
    compress,
    example_losses,
    factor,
    loss_curves,
    rank_frontier,
)
from svdbench.lowrank.compressed import output_errors
from svdbench.lowrank.costs import latencies, layer_latencies, layer_macs, multiply_adds
from svdbench.lowrank.finetuning import finetune
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.losses import usual_loss
from svdbench.lowrank.ranks.allocation import Cost
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.lowrank.splits import split_examples

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network that has learnt three classes of ten numbers."""
    torch.manual_seed(0)
    X = torch.randn(800, 10)
    y = (X[:, :2].sum(1) > 0).long() + (X[:, 2] > 0).long()
    model = nn.Sequential(
        nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(model(X[:500]), y[:500]).backward()
        optimizer.step()
    return model.eval(), (X, y)


class TinyClock:
    """A clock by which a layer takes a second for each time that it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def stamp(self) -> float:
        self.now += 1.0
        return self.now

    def sync(self) -> None:
        pass

    def seconds(self, start: float, end: float) -> float:
        return end - start


def test_finds_the_smallest_within_the_loss(trained: tuple[nn.Module, Any]) -> None:
    model, data = trained
    before = {name: p.clone() for name, p in model.state_dict().items()}
    found = compress(model, data, max_loss_increase=0.02, timing_s=0)
    for name, p in model.state_dict().items():
        assert torch.equal(p, before[name])
    certificate = found.certificate
    assert certificate.search.mean <= 0.02
    assert certificate.search.examples == 200
    assert certificate.held_out is not None
    assert found.n_params.after < 0.5 * found.n_params.before
    assert found.n_params.after == sum(p.numel() for p in found.model.parameters())
    assert found.latency_s is None
    parts = split_examples(data)
    for part, increase in (
        (parts.search, certificate.search),
        (parts.held_out, certificate.held_out),
    ):
        small, dense = (example_losses(m, part, usual_loss) for m in (found.model, model))
        assert float((small - dense).mean()) == pytest.approx(increase.mean, abs=1e-6)
        assert float(dense.mean()) == pytest.approx(increase.dense, abs=1e-6)
    for layer in found.layers:
        assert (layer.error is None) == (layer.rank is None)
        if layer.rank is not None:
            assert (
                layer.numbers.after == layer.macs.after == layer.rank * (layer.rows + layer.columns)
            )


@pytest.mark.parametrize("budget", ["params", "macs", "latency"])
def test_keeps_a_budget(trained: tuple[nn.Module, Any], budget: str) -> None:
    model, data = trained
    part = 1.0 if budget == "latency" else 0.4
    limits: dict[str, Any] = {budget: part}
    found = compress(model, data, timing_s=0.05, multiple_of=2, **limits)
    assert not any(rank % 2 for rank in found.ranks.values() if rank is not None)
    assert found.certificate.max_loss_increase == math.inf
    assert found.certificate.confirmed
    costs = {"params": "numbers", "macs": "macs"}
    if budget in costs:
        pairs = [getattr(layer, costs[budget]) for layer in found.layers]
        assert sum(p.after for p in pairs) <= part * sum(p.before for p in pairs)
    assert found.latency_s is not None


def test_a_column_stays_dense() -> None:
    """A logit of two classes: no factors of its weight have fewer numbers."""
    model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1))
    data = torch.randn(90, 10), torch.randint(2, (90,))
    for limits in ({"params": 0.6}, {"macs": 0.6}, {"latency": 1.0, "keep_if": "latency"}):
        found = compress(model, data, timing_s=0.02, **limits)  # type: ignore[arg-type]
        assert found.ranks["2.weight"] is None
        assert found.layers[1].macs.after == 24
    frontier = found.frontier
    assert frontier.highest_rank("2.weight") == 0


def test_factors_must_be_faster(
    trained: tuple[nn.Module, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a measurement that says so of the first layer alone, and changes its mind on others."""
    calls = []

    def timed(frontier: Frontier, model: nn.Module, x: Tensor, **options: Any) -> dict[str, Cost]:
        calls.append(options.get("ranks"))
        names = options.get("ranks") or frontier.layers
        fast = {"0.weight"} if options.get("ranks") else {"0.weight", "2.weight"}
        return {
            name: Cost(1.0, np.array([1]), np.array([0.5 if name in fast else 1.5]))
            for name in names
        }

    monkeypatch.setattr("svdbench.lowrank.compression.layer_latencies", timed)
    model, data = trained
    found = compress(model, data, params=0.9, keep_if="latency", timing_s=0.01)
    assert [name for name, rank in found.ranks.items() if rank is not None] == ["0.weight"]
    assert len(calls) == 3


def test_refuses_nonsense(trained: tuple[nn.Module, Any]) -> None:
    model, (X, y) = trained
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"params": 0.5, "macs": 0.5}, "give one of"),
        ({"params": 0.5, "max_loss_increase": 0.1}, "give one of"),
        ({"macs": 0.0}, "0 to 1"),
        ({"keep_if": "smaller"}, "no keep_if"),
        ({"latency": 0.5, "timing_s": 0}, "takes seconds to measure"),
        ({"params": 1e-3}, "the smallest factors take"),
        ({"max_loss_increase": -1.0}, "0 or more"),
        ({"layers": ["nope"]}, "nope"),
        ({"calibration": 0}, "calibration is 0: give 1 or more"),
    ]
    for options, says in wrong:
        with pytest.raises(ValueError, match=says):
            compress(model, (X, y), **({"timing_s": 0.01} | options))
    with pytest.raises(ValueError, match="NaN"):
        compress(model, (X * math.nan, y), timing_s=0)
    with pytest.raises(ValueError, match="give a loss"):
        compress(model, (X, X), timing_s=0)


def pairs(X: Tensor, y: Tensor) -> Any:
    return [(X[i : i + 20], y[i : i + 20]) for i in range(0, 80, 20)]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda X, y: None, TypeError, "data is None: give"),
        (lambda X, y: 3, TypeError, "data is a int: give"),
        (lambda X, y: (X, y, y), TypeError, "data is a tuple of 3: give"),
        (lambda X, y: (X, y[:7]), ValueError, "800 inputs and 7 targets"),
        (lambda X, y: ((X, X[:7]), y), ValueError, "7 inputs and 800 targets"),
        (lambda X, y: (X.numpy(), y), TypeError, "the inputs of data are a ndarray"),
        (lambda X, y: (X, y.tolist()), TypeError, "the targets of data are a list of 800"),
        (lambda X, y: (X, y[0]), ValueError, "without dimensions"),
        (lambda X, y: ({1: X}, y), TypeError, "have the key 1: give the names"),
        (lambda X, y: ({"input": [X]}, y), TypeError, "among the inputs of data is a list"),
        (lambda X, y: ({"input": 3}, y), ValueError, "data has no inputs"),
        (lambda X, y: (X, [y, None]), TypeError, "the targets of data are a list of 2"),
        (lambda X, y: ((), y), ValueError, "data has no inputs"),
        (lambda X, y: [(X, y, 1)] * 4, TypeError, "a batch is a tuple of 3: give"),
        (lambda X, y: [({1: X}, y)] * 4, TypeError, "have the key 1: give the names"),
        (lambda X, y: (X, y + 1), ValueError, "target 3 is outside the classes 0 to 2"),
        (lambda X, y: (X, y - 1), ValueError, "target -1 is outside the classes 0 to 2"),
        (lambda X, y: (X, y.to(torch.complex64)), ValueError, "no default loss"),
    ],
)
def test_data_of_another_kind_is_refused(
    trained: tuple[nn.Module, Any],
    change: Callable[[Tensor, Tensor], Any],
    error: type[Exception],
    says: str,
) -> None:
    model, (X, y) = trained
    with pytest.raises(error, match=says):
        compress(model, change(X, y), timing_s=0)
    if "usual" not in says:
        with pytest.raises(error, match=says):
            rank_frontier(model, change(X, y), usual_loss)
        with pytest.raises(error, match=says):
            example_losses(model, change(X, y), usual_loss)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"loss": "mse"}, TypeError, "loss is a str: give a function"),
        ({"params": "0.5"}, TypeError, "params is '0.5': give a number"),
        ({"max_loss_increase": True}, TypeError, "max_loss_increase is True: give a number"),
        ({"multiple_of": 2.5}, TypeError, "multiple_of is 2.5: give a whole number"),
        ({"multiple_of": 0}, ValueError, "multiple_of is 0: give 1 or more"),
        ({"finetune_epochs": -1}, ValueError, "finetune_epochs is -1: give 0 or more"),
        ({"timing_s": -1.0}, ValueError, "timing_s is -1: give 0 or more"),
        ({"lr": "fast"}, TypeError, "lr is 'fast': give a number"),
        ({"calibration": 1.5}, TypeError, "calibration is 1.5: give a whole number"),
        ({"validation": 3}, TypeError, "validation is a int: give"),
        ({"loss": lambda out, y: 1.0}, ValueError, "the loss of a batch is 1.0: return its mean"),
        ({"loss": lambda out, y: out}, ValueError, "the loss of a batch is shape"),
    ],
)
def test_options_of_another_kind_are_refused(
    trained: tuple[nn.Module, Any], options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        compress(*trained, **({"timing_s": 0} | options))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_may_be_of_any_integral_type(
    trained: tuple[nn.Module, Any], dtype: torch.dtype
) -> None:
    model, (X, y) = trained
    found, same = (compress(model, (X, each), params=0.5, timing_s=0) for each in (y.to(dtype), y))
    assert found.ranks == same.ranks
    assert found.certificate == same.certificate


def test_two_classes_may_be_booleans(trained: tuple[nn.Module, Any]) -> None:
    model, (X, y) = trained
    assert compress(model, (X, y > 0), params=0.5, timing_s=0).certificate.search.dense > 0


def test_batches_may_have_a_graph(trained: tuple[nn.Module, Any]) -> None:
    """Of another network's outputs, say: nothing is sent back into it."""
    model, (X, y) = trained
    scale = torch.ones(10, requires_grad=True)
    found, same = (
        compress(model, data, params=0.5, timing_s=0, finetune_epochs=1)
        for data in ((X * scale, y), (X, y))
    )
    assert found.certificate == same.certificate
    assert compress(model, pairs(X * scale, y), params=0.5, timing_s=0).ranks
    assert scale.grad is None


def spoilt(value: float, name: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.Linear(32, 3))
    model.state_dict()[name].view(-1)[0] = value
    return model


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: None, TypeError, "model is None: give a torch.nn.Module"),
        (lambda: nn.Linear, TypeError, "model is a type: give"),
        (lambda: spoilt(math.inf, "0.weight"), ValueError, "0.weight has 1 NaN or infinite among"),
        (lambda: spoilt(math.nan, "2.bias"), ValueError, "2.bias has 1 NaN or infinite among"),
        (lambda: spoilt(math.nan, "1.running_var"), ValueError, "1.running_var has 1 NaN among"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), ValueError, "0.weight is not initialised"),
        (lambda: nn.Linear(10, 3, device="meta"), ValueError, "weight is on the meta device"),
    ],
)
def test_a_model_that_cannot_be_computed_with_is_refused_by_name(
    trained: tuple[nn.Module, Any], make: Callable[[], Any], error: type[Exception], says: str
) -> None:
    data = trained[1]
    for use in (
        lambda model: compress(model, data, timing_s=0),
        lambda model: rank_frontier(model, data, usual_loss),
        lambda model: loss_curves(model, data, usual_loss),
    ):
        with pytest.raises(error, match=says):
            use(make())


def prune_weight(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[0], "weight", 0.3)


def old_weight_norm(model: nn.Sequential) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[0])


MADE_ANEW: dict[str, tuple[Callable[[nn.Sequential], Any], str, str]] = {
    "pruned": (prune_weight, "0.weight", r"prune.remove\(module, 'weight'\)"),
    "pruned bias": (
        lambda model: prune.random_unstructured(model[0], "bias", 0.3),
        "0.bias",
        r"prune.remove\(module, 'bias'\)",
    ),
    "weight_norm": (old_weight_norm, "0.weight", r"remove_weight_norm\(module, 'weight'\)"),
    "spectral_norm": (
        lambda model: nn.utils.spectral_norm(model[0]),
        "0.weight",
        r"remove_spectral_norm\(module, 'weight'\)",
    ),
    "parametrized": (
        lambda model: nn.utils.parametrizations.weight_norm(model[0]),
        "0.weight",
        "parametrized",
    ),
}


@pytest.mark.parametrize("name", MADE_ANEW)
def test_weights_that_hooks_make_are_left_alone(name: str, trained: tuple[nn.Module, Any]) -> None:
    """What they compute stays as it was, and the report says how to have a plain weight."""
    change, weight, remedy = MADE_ANEW[name]
    model, data = deepcopy(trained[0]), trained[1]
    assert isinstance(model, nn.Sequential)
    change(model)
    model.eval()
    before = model(data[0])
    found = compress(model, data, params=0.6, kind="plain", timing_s=0)
    assert re.search(remedy, found.skipped[weight])
    assert found.ranks.keys() == {"2.weight", "4.weight"}
    torch.testing.assert_close(model(data[0]), before)
    assert factor(model, 2)[0](data[0]).shape == before.shape
    with pytest.raises(ValueError, match=remedy):
        rank_frontier(model[0], (torch.randn(40, 10), torch.zeros(40, 32)), usual_loss)


def test_recurrent_and_attention_weights_that_hooks_make_are_left_alone() -> None:
    rnn, attention = nn.LSTM(5, 7), nn.MultiheadAttention(8, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(rnn, "weight_hh_l0")
    prune.random_unstructured(attention.out_proj, "weight", 0.5)
    for module, name in ((rnn, "weight_hh_l0"), (attention, "out_proj.weight")):
        sites, others = factorable_weights(module)
        assert not sites
        assert "makes it a parameter again" in others[name]


@pytest.mark.filterwarnings("ignore")  # that PyTorch is about to move its quantisation
def test_quantised_layers_are_named() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 3))
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    with pytest.raises(ValueError, match=r"0 \(a quantised Linear: compress the model first"):
        compress(small, (torch.randn(40, 10), torch.zeros(40, 3)), timing_s=0)


def test_a_float8_weight_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 3))
    model[0].weight = nn.Parameter(model[0].weight.to(torch.float8_e4m3fn), requires_grad=False)
    (first, second), _ = factorable_weights(model)
    assert "torch.float8_e4m3fn" in first.refusal
    assert not second.refusal


def test_what_cannot_be_copied_is_told() -> None:
    model = nn.Sequential(nn.Linear(30, 30))
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="the model can't be copied"):
        factor(model, 2, skip_last=False)


def test_a_weight_that_has_no_svd_is_named() -> None:
    with pytest.raises(ValueError, match=r"0\.weight can't be factored: A has NaN"):
        factor(spoilt(math.nan, "0.weight"), 2)


@pytest.mark.parametrize("kind", ["kronecker", "whitened", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_of_low_rank_have_finite_factors(kind: Any, dtype: torch.dtype) -> None:
    """Components that are nothing had factors of 0 and infinity."""
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 3)).to(dtype)
    model[0].weight = nn.Parameter(torch.ones(24, 12, dtype=dtype))
    X = torch.randn(60, 12).to(dtype)
    frontier = rank_frontier(model, (X, (X[:, 0] > 0).long()), usual_loss, kind=kind)
    for rank in (1, 4, 7):
        small = frontier.compressed(model, {"0.weight": rank})
        torch.testing.assert_close(small(X), model(X), atol=1e-2, rtol=1e-2)


class Overwriting(nn.Module):
    """A model that changes its input in place, and one that has no gradient."""

    def __init__(self, grad: bool = True) -> None:
        super().__init__()
        self.linear, self.grad = nn.Linear(10, 3), grad

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
            y: Tensor = self.linear(x.mul_(0.5))
        return y


def test_data_stay_as_they_are(trained: tuple[nn.Module, Any]) -> None:
    X, y = trained[1]
    for data in ((X.clone(), y), pairs(X.clone(), y)):
        compress(Overwriting(), data, params=0.8, timing_s=0, finetune_epochs=1)
        given = data[0] if isinstance(data, tuple) else torch.cat([x for x, _ in data])
        assert torch.equal(given, X[: len(given)])


def test_a_model_without_gradients_is_refused_by_name(trained: tuple[nn.Module, Any]) -> None:
    with pytest.raises(ValueError, match=r"linear\.weight is used under torch\.no_grad"):
        compress(Overwriting(grad=False), trained[1], timing_s=0)
    frozen = deepcopy(trained[0]).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        compress(frozen, trained[1], params=0.5, timing_s=0, finetune_epochs=1)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_whitening_needs_no_gradients(
    context: Callable[[], Any], trained: tuple[nn.Module, Any]
) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = deepcopy(trained[0])

        def forward(self, x: Tensor) -> Tensor:
            with context():
                y: Tensor = self.inner(x)
            return y

    found = compress(Wrapped(), trained[1], params=0.5, kind="whitened", timing_s=0)
    same = compress(trained[0], trained[1], params=0.5, kind="whitened", timing_s=0)
    assert list(found.ranks.values()) == list(same.ranks.values())


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda X, y: (X.double(), y), TypeError, "inputs are torch.float64 and the model's param"),
        (lambda X, y: (X.long(), y), TypeError, "inputs are torch.int64 and the model's param"),
        (lambda X, y: (X.to("meta"), y), ValueError, "data is on the meta device"),
        (
            lambda X, y: TensorDataset(X, y),
            TypeError,
            "data is a TensorDataset, which holds single",
        ),
        (lambda X, y: [(X[:0], y[:0])] * 4, ValueError, "0 batches, which can't be split"),
    ],
)
def test_data_that_do_not_fit_the_model(
    trained: tuple[nn.Module, Any],
    change: Callable[[Tensor, Tensor], Any],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        compress(trained[0], change(*trained[1]), timing_s=0)


def test_batches_without_examples_are_passed_over(trained: tuple[nn.Module, Any]) -> None:
    model, (X, y) = trained
    found = compress(model, [(X[:0], y[:0]), *pairs(X, y), (X[:0], y[:0])], timing_s=0)
    assert found.splits.startswith("2 + 1 + 1 batches")


def test_tokens_without_a_row_are_told() -> None:
    model = nn.Sequential(nn.Embedding(30, 20), nn.Flatten(), nn.Linear(60, 3))
    tokens = torch.randint(0, 40, (80, 3))
    tokens[0] = 39
    with pytest.raises(ValueError, match=r"integer inputs from \d to 39: check that an embedding"):
        rank_frontier(model, (tokens, torch.zeros(80).long()), usual_loss)


def test_inputs_too_large_to_square_are_told(trained: tuple[nn.Module, Any]) -> None:
    model, (X, y) = trained
    with pytest.raises(ValueError, match=r"the input of 0\.weight is too large to be squared"):
        rank_frontier(model, (X * 1e25, y), lambda out, y: out.tanh().mean())


def test_warns_once_of_what_the_data_is_like(trained: tuple[nn.Module, Any]) -> None:
    model, (X, y) = trained
    with pytest.warns(DataWarning) as caught:
        found = compress(model, (X, torch.zeros_like(y)), params=0.5, calibration=5, timing_s=0)
    assert [str(each.message) for each in caught] == found.warnings
    assert len(set(found.warnings)) == len(found.warnings)
    assert any("all 5 labels are 0" in line for line in found.warnings)
    assert any("5 calibration rows are fewer than the 10 inputs" in line for line in found.warnings)


def test_fine_tuning_helps_and_keeps_the_best(trained: tuple[nn.Module, Any]) -> None:
    model, data = trained
    coarse = compress(model, data, params=0.15, timing_s=0)
    fine = compress(model, data, params=0.15, timing_s=0, finetune_epochs=3, lr=3e-3)
    assert fine.ranks == coarse.ranks
    assert len(fine.tuned) == 4
    assert fine.certificate.search.mean < coarse.certificate.search.mean
    parts = split_examples(data)
    now = example_losses(fine.model, parts.search, usual_loss).mean()
    assert float(now) == pytest.approx(min(fine.tuned))
    small = coarse.model
    start = {name: p.clone() for name, p in small.state_dict().items()}
    losses = finetune(small, parts.calibration, usual_loss, search=parts.search, epochs=2, lr=1e6)
    assert min(loss for loss in losses if loss == loss) == losses[0]
    assert all(torch.equal(p, start[name]) for name, p in small.state_dict().items())
    assert not small.training
    with pytest.raises(ValueError, match="use float32"):
        finetune(small.bfloat16(), parts.calibration, usual_loss, search=parts.search)


def test_fine_tuning_leaves_torchs_generator_where_it_was(
    trained: tuple[nn.Module, Any],
) -> None:
    model, data = trained
    before = torch.get_rng_state()
    compress(model, data, params=0.5, timing_s=0, finetune_epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.filterwarnings("ignore:the loss of a batch")
def test_fine_tuning_by_a_loss_of_batches_is_judged_by_batches(
    trained: tuple[nn.Module, Any],
) -> None:
    """Of one example alone a contrastive loss is 0."""
    model, (X, y) = trained
    batches = list(zip(X.split(40), y.split(40), strict=True))

    def contrastive(output: Tensor, target: Tensor) -> Tensor:
        rows = F.normalize(output, dim=-1)
        return F.cross_entropy(rows @ rows.mT / 0.1, torch.arange(len(rows)))

    found = compress(
        model, batches, loss=contrastive, params=0.2, timing_s=0, finetune_epochs=2, lr=1e-3
    )
    assert found.unit == "batch"
    search = found.certificate.search
    assert min(found.tuned) == pytest.approx(search.dense + search.mean)
    assert min(found.tuned) < found.tuned[0]


def test_the_bound_holds_where_it_calibrated(trained: tuple[nn.Module, Any]) -> None:
    model, data = trained
    for kind in ("kronecker", "whitened", "plain"):
        frontier = rank_frontier(model, data, F.cross_entropy, kind=kind, damping=1e-6)  # type: ignore[arg-type]
        ranks = {"0.weight": 4, "2.weight": 7, "4.weight": None}
        small = frontier.compressed(model, ranks)
        inputs, factored, dense = data[0], small[0], model[0]  # type: ignore[index]
        assert isinstance(factored, LowRankLinear)
        errors = output_errors(frontier, model, ranks, data)
        assert set(errors) == {"0.weight", "2.weight"}
        with torch.no_grad():
            lost = (factored(inputs) - dense(inputs)).norm() / (inputs @ dense.weight.T).norm()
        assert errors["0.weight"].measured == pytest.approx(float(lost), rel=1e-4)
        for error in errors.values():
            assert error.measured is not None
            assert (error.bound is None) == (kind == "plain")
            if error.bound is not None:
                assert error.bound == pytest.approx(error.measured, rel=1e-3)


class Mixed(nn.Module):
    """An attention, a convolution in groups and an LSTM, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.conv = nn.Conv1d(12, 12, 3, padding=1, groups=2)
        self.loop = nn.LSTM(12, 10, batch_first=True)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x, x, x, need_weights=False)[0]
        x = self.conv(x.mT).mT
        y: Tensor = self.out(self.loop(x)[0][:, -1])
        return y


def test_counts_and_times_any_layer() -> None:
    model = Mixed().eval()
    x, y = torch.randn(6, 5, 12), torch.randint(3, (6,))
    frontier = rank_frontier(model, (x, y), F.cross_entropy, kind="plain")
    macs = layer_macs(frontier, model, x, 6)
    # An example has 5 rows; attention itself takes 2·5²·12 beside its four projections.
    for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"):
        cost = macs[f"attention.{name}"]
        assert cost.dense == 5 * 12 * 12 + 5 * 5 * 12 / 2
        rest = cost.dense - 5 * 12 * 12
        assert cost.at(np.array([3]))[0] == pytest.approx(rest + 5 * 3 * 24)
    conv = macs["conv.weight"]
    assert conv.dense == 5 * 12 * 6 * 3
    assert conv.at(np.array([2]))[0] == 5 * 2 * (2 * 6 * 3 + 12)
    # An LSTM makes its dense weights from factors once for a batch: nothing is saved.
    recurrent = macs["loop.weight_ih_l0"]
    assert recurrent.dense == pytest.approx(5 * 40 * 12)
    assert recurrent.at(np.array([3]))[0] == pytest.approx(5 * 40 * 12 + 3 * 40 * 12 / 6)
    assert multiply_adds(model, x) == pytest.approx(6 * sum(each.dense for each in macs.values()))
    timed = layer_latencies(frontier, model, x, budget_s=0.05)
    assert all(0 < each.dense < 1 for each in timed.values())
    ranks = {"out.weight": 1, "conv.weight": 3}
    at_ranks = layer_latencies(frontier, model, x, ranks=ranks, budget_s=0.02, clock=TinyClock())
    assert {name: list(each.ranks) for name, each in at_ranks.items()} == {
        "out.weight": [1],
        "conv.weight": [3],
    }
    assert all(each.dense == each.factors[0] == 2.0 for each in at_ranks.values())
    whole = latencies({"one": model, "other": model}, x, budget_s=0.02, clock=TinyClock())
    assert whole == {"one": 2.0, "other": 2.0}


def test_multiply_adds_are_counted_without_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Embedding(50, 12), nn.Linear(12, 9)).eval()
    x = torch.randint(50, (6, 5))
    frontier = rank_frontier(model, (x, torch.randn(6, 5, 9)), F.mse_loss, kind="plain")
    monkeypatch.delattr(Frontier, "view")
    macs = layer_macs(frontier, model, x, 6)
    assert macs["0.weight"].at(np.array([3]))[0] == 5 * 3 * 12  # rows of W₁ are looked up
    assert macs["1.weight"].at(np.array([3]))[0] == 5 * 3 * (12 + 9)


def test_costs_choose_ranks(trained: tuple[nn.Module, Any]) -> None:
    model, data = trained
    frontier = rank_frontier(model, data, F.cross_entropy)
    with pytest.raises(ValueError, match=r"macs of 0\.weight is unknown"):
        frontier.ranks(macs=0.5)
    # A latency that has a step: rank 4 takes no less than 8.
    names, ranks = list(frontier.layers), np.array([1, 3, 4, 8, 9])
    latency = {name: Cost(1.0, ranks, np.array([0.2, 0.3, 0.8, 0.8, 1.2])) for name in names}
    timed = replace(frontier, latency=latency, only_faster=True)
    for part in (0.3, 0.55, 0.8, 0.9, 1.0):
        found = timed.ranks(latency=part)
        spent = sum(
            1.0 if rank is None else float(latency[name].at(np.array([rank]))[0])
            for name, rank in found.items()
        )
        assert spent <= part * len(names) + 1e-9
        assert not any(4 <= rank < 8 for rank in found.values() if rank is not None)
    assert all(rank is None or rank < 9 for rank in timed.ranks_at(-2).values())
    with pytest.raises(ValueError, match=r"the smallest factors take 0\.2"):
        timed.ranks(latency=0.1)


def test_parts_examples_without_overlap() -> None:
    X, y = torch.arange(40.0).reshape(40, 1), torch.arange(40)

    def seen(data: Any) -> list[int]:
        every = [data] if isinstance(data, tuple) else data
        return sorted(int(label) for _, labels in every for label in labels)

    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(zip(X.split(4), y.split(4), strict=True))

    loader: DataLoader[Any] = DataLoader(TensorDataset(X, y), batch_size=4, shuffle=True)
    streams = DataLoader(Stream(), batch_size=None)
    once = (batch for batch in zip(X.split(4), y.split(4), strict=True))
    for data in ((X, y), loader, streams, once, list(zip(X.split(4), y.split(4), strict=True))):
        parts = split_examples(data, seed=1)
        counts = [seen(part) for part in (parts.calibration, parts.search, parts.held_out)]
        assert sorted(chain(*counts)) == list(range(40))
        assert len(counts[0]) in (20, 24)
        assert counts == [seen(part) for part in (parts.calibration, parts.search, parts.held_out)]
    first, again = split_examples((X, y), seed=1), split_examples((X, y), seed=2)
    assert seen(first.search) != seen(again.search)
    assert len(seen(split_examples((X, y), calibration=30).search)) == 5
    given = split_examples((X, y), (X[:2], y[:2]))
    assert (len(seen(given.calibration)), seen(given.search)) == (27, [0, 1])
    whole = split_examples((X, y), (X[:2], y[:2]), (X[2:4], y[2:4]))
    assert seen(whole.calibration) == list(range(40))
    named = split_examples(({"a": X, "b": X}, y))
    assert set(named.search[0]) == {"a", "b"}  # type: ignore[index]
    half = first.cast(torch.float64).search
    assert half[0].dtype is torch.float64  # type: ignore[index]
    with pytest.raises(ValueError, match="can't be split in 3"):
        split_examples((X[:2], y[:2]))


@pytest.mark.parametrize("kind", ["no end", "sampler"])
def test_examples_to_judge_by_are_the_same_each_time(kind: str) -> None:
    """Models are compared in pairs: of what can't be gone through again, examples are kept."""
    X, y = torch.arange(40.0).reshape(40, 1), torch.arange(40)

    def without_end() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from zip(X.split(4), y.split(4), strict=True)

    if kind == "no end":
        held_out: Any = without_end()
    else:
        batch_sampler = BatchSampler(RandomSampler(y), 4, drop_last=False)
        held_out = DataLoader(TensorDataset(X, y), batch_sampler=batch_sampler)
    parts = split_examples((X, y), (X, y), held_out, max_examples=12)
    first, second = (torch.cat([y for _, y in parts.held_out]) for _ in range(2))  # type: ignore[misc]
    assert len(first) == 12
    assert torch.equal(first, second)


def test_the_usual_loss_is_what_fits() -> None:
    output, classes = torch.randn(6, 4), torch.randint(4, (6,))
    assert torch.equal(usual_loss(output, classes), F.cross_entropy(output, classes))
    tokens, picture = torch.randn(6, 5, 4), torch.randn(6, 4, 3, 3)
    labels = torch.randint(4, (6, 5))
    assert torch.equal(usual_loss(tokens, labels), F.cross_entropy(tokens.mT, labels))
    pixels = torch.randint(4, (6, 3, 3))
    assert torch.equal(usual_loss(picture, pixels), F.cross_entropy(picture, pixels))
    logit, truth = torch.randn(6, 1), torch.randint(2, (6,))
    expected = F.binary_cross_entropy_with_logits(logit[:, 0], truth.float())
    assert torch.equal(usual_loss(logit, truth), expected)
    assert torch.equal(usual_loss(output, output + 1), F.mse_loss(output, output + 1))
    for wrong, target in ((output, output[:, :2]), (output, labels)):
        with pytest.raises(ValueError, match="give a loss"):
            usual_loss(wrong, target)
    with pytest.raises(ValueError, match="returns a tuple: wrap it"):
        usual_loss((output,), classes)
