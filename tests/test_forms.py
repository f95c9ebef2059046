"""What real models take and return: dicts, masks and ``None``; tuples, dataclasses, no targets."""

import math
from collections import UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from svdbench.lowrank import compress, compression, example_losses, rank_frontier
from svdbench.lowrank.ranks.evaluation import batch_losses
from svdbench.lowrank.ranks.examples import batches, check_batch, in_pieces, size, take
from svdbench.lowrank.ranks.outputs import each_output, output_tensor, tensors_of
from svdbench.lowrank.splits import split_examples

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* calibration rows are fewer"),
]

Named = namedtuple("Named", ["scores", "logits"])
Plain = namedtuple("Plain", ["first", "second"])


@dataclass
class Result:
    """As models return them: what there is has a name, what there isn't is None."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden: Tensor | None = None
    cache: object = None


ones, whole = torch.ones(4, 3), torch.ones(4, dtype=torch.long)


@pytest.mark.parametrize(
    "output",
    [
        ones,
        (ones, ones + 1),
        [whole, ones],
        (whole, None, ones, "text"),
        {"hidden": ones + 1, "logits": ones},
        {"pooler_output": ones + 1, "last_hidden_state": ones},
        {"labels": whole, "anything": ones},
        UserDict({"anything": ones}),
        Named(ones + 1, ones),
        Plain(ones, ones + 1),
        Result(logits=ones, hidden=ones + 1),
        Result(hidden=ones, cache=object()),
    ],
)
def test_the_tensor_in_an_output(output: Any) -> None:
    assert output_tensor(output) is ones
    doubled = each_output(output, lambda part: 2 * part)
    assert torch.equal(output_tensor(doubled), 2 * ones)
    assert type(doubled) is (dict if isinstance(output, UserDict) else type(output))
    assert torch.equal(ones, torch.ones(4, 3))
    assert len(tensors_of(output)) == len(tensors_of(doubled)) >= 1


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (None, "returns None: return a tensor"),
        ("text", "returns a str"),
        ((), "an empty tuple"),
        ((whole, None), r"a tuple of \(4\), \(a NoneType\)"),
        (
            {"a": ones, "b": ones[:2]},
            r"a dict of a \(4, 3\), b \(2, 3\): return a",
        ),
        (Result(loss=ones[0], hidden=ones), r"a Result of loss \(3\), hidden \(4, 3\)"),
        (Result(), "an empty Result"),
    ],
)
def test_an_output_without_such_a_tensor_is_named(output: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        output_tensor(output)


def test_a_model_output_of_transformers() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    hidden, pooled = torch.randn(4, 5, 3), torch.randn(4, 3)
    found = outputs.BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)
    assert output_tensor(found) is hidden
    half = each_output(found, lambda part: part[:2])
    assert type(half) is type(found)
    assert (half["pooler_output"].shape, half[0].shape) == ((2, 3), (2, 5, 3))
    assert half.pooler_output is half["pooler_output"]
    assert found.last_hidden_state is hidden
    scored = outputs.CausalLMOutputWithPast(logits=hidden, past_key_values=object())
    assert output_tensor(scored) is hidden


X = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
y = (X[:, 0] > 0).long()
mask = torch.zeros(60, 1, 4)
mask[:, :, 2:] = -math.inf


@pytest.mark.parametrize(
    ("given", "count", "targets"),
    [
        ((X, y), 60, True),
        ([X, y], 60, True),
        (X, 60, False),
        ([X], 60, False),
        ((X, None), 60, False),
        ({"x": X, "labels": y}, 60, True),
        ([{"x": X, "labels": y}], 60, True),
        ({"x": X, "labels": None}, 60, False),
        (UserDict({"x": X, "labels": y}), 60, True),
        (({"x": X, "mask": mask, "n": 3, "flag": True, "none": None, "mode": "a"}, y), 60, True),
        (((X, None, torch.ones(1, 4), torch.tensor(2.0)), y), 60, True),
        ((X, {"a": y, "b": X}), 60, True),
        ((X[:1], y[:1]), 1, True),
    ],
)
def test_forms_of_a_batch(given: Any, count: int, targets: bool) -> None:
    found, target = check_batch(given)
    assert size(found) == count
    assert (target is not None) == targets
    few = take(found, slice(2 if count > 1 else 1))
    assert size(few) == min(count, 2)
    model = nn.Linear(10, 3)
    ((copy, other),) = batches([given], model)
    assert size(copy) == count
    assert (other is not None) == targets


def test_what_is_one_for_all_examples_is_not_cut() -> None:
    inputs = {"x": X, "positions": torch.arange(4)[None], "scale": torch.tensor(2.0), "none": None}
    few = take(inputs, torch.arange(7))
    assert few["x"].shape == (7, 10)
    assert few["positions"].shape == (1, 4)
    assert few["scale"].ndim == 0
    parts = split_examples((inputs, y))
    assert [len(part[1]) for part in (parts.calibration, parts.search)] == [30, 15]  # type: ignore[index]
    assert parts.search[0]["positions"].shape == (1, 4)  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"x": X, "labels": y[:7]}, ValueError, "60 inputs and 7 targets"),
        ({"x": X, "other": X[:7]}, ValueError, "inputs of 7 and of 60 examples"),
        ((X[:1], y), ValueError, "1 inputs and 60 targets"),
        (({"x": X[:1]}, y), ValueError, "1 inputs and 60 targets"),
        ((X, {"a": y, "b": y[:7]}), ValueError, "7 and 60 targets"),
        ({"labels": y}, ValueError, "has no inputs"),
        ({"x": None, "labels": y}, ValueError, "has no inputs"),
        (({"x": {"deep": X}}, y), TypeError, "among the inputs of a batch is a dict"),
        ((X, "text"), TypeError, "the targets of a batch are a str"),
        ((X, X, y), TypeError, "a batch is a tuple of 3: give"),
        ((), TypeError, "a batch is a tuple of 0"),
        (torch.tensor(1.0), ValueError, "without dimensions"),
    ],
)
def test_what_is_no_batch_is_named(given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        check_batch(given)


@pytest.mark.parametrize(
    ("spoil", "fits"),
    [
        (lambda: {"x": X, "mask": mask}, True),
        (lambda: (X, mask), True),
        (lambda: {"x": X, "mask": -mask}, False),
        (lambda: {"x": X, "mask": mask * math.nan}, False),
        (lambda: X.clone().fill_(-math.inf), False),
        (lambda: {"x": X.clone().fill_(-math.inf)}, False),
    ],
)
def test_minus_infinity_may_mask(spoil: Callable[[], Any], fits: bool) -> None:
    given = [(spoil(), y)]
    if fits:
        assert list(batches(given, nn.Linear(10, 2)))
    else:
        with pytest.raises(ValueError, match="NaN or infinite inputs"):
            list(batches(given, nn.Linear(10, 2)))


class Network(nn.Module):
    """Two layers for inputs by name, with an output of a given form."""

    def __init__(self, wrapped: Callable[[Tensor], Any] = lambda out: out) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.wrapped = nn.Linear(10, 32), nn.Linear(32, 3), wrapped

    def forward(
        self,
        x: Tensor,
        scale: Tensor | None = None,
        mask: Tensor | None = None,
        flag: bool = False,
    ) -> Any:
        assert isinstance(flag, bool)
        out = self.last(self.first(x if scale is None else x * scale).relu())
        return self.wrapped(out if mask is None else out + mask)


WRAPPED: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda out: (out, None),
    "dict": lambda out: {"logits": out, "hidden": out.exp()},
    "named": lambda out: Named(out.exp(), out),
    "dataclass": lambda out: Result(logits=out, cache=object()),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_any_output_gives_the_same(form: str) -> None:
    model = Network(WRAPPED[form])
    options: dict[str, Any] = {"params": 0.5, "timing_s": 0}
    found, same = (compress(each, (X, y), **options) for each in (model, Network()))
    assert found.ranks == same.ranks
    assert found.certificate == same.certificate
    tuned = compress(model, (X, y), finetune_epochs=1, **options)
    assert len(tuned.tuned) == 2


@pytest.mark.parametrize(
    "form",
    [
        lambda: ({"x": X, "scale": torch.ones(1, 10), "mask": None, "flag": True}, y),
        lambda: {"x": X, "labels": y},
        lambda: ((X, torch.ones(60, 1), torch.tensor(0.0)), y),
        lambda: DataLoader(TensorDataset(X, y), batch_size=60),
        lambda: ({"x": X, "mask": torch.zeros(1, 3)}, y),
    ],
)
def test_any_batch_gives_the_same(form: Callable[[], Any]) -> None:
    found, same = (
        compress(Network(), data, params=0.5, timing_s=0, finetune_epochs=1)
        for data in (form(), (X, y))
    )
    assert found.ranks == same.ranks
    assert found.certificate.search.mean == pytest.approx(same.certificate.search.mean, abs=1e-6)


def with_if(output: Tensor, target: Tensor) -> Tensor:
    """A loss that ``torch.vmap`` can't map."""
    found = F.cross_entropy(output, target)
    return found * 0 if float(found) < 0 else found


def of_logits(output: Result, target: Tensor) -> Tensor:
    """A loss of what the model returns."""
    assert output.logits is not None
    return F.cross_entropy(output.logits, target)


def of_several(output: Tensor, target: dict[str, Tensor]) -> Tensor:
    """A loss of targets by name."""
    return F.cross_entropy(output, target["a"]) + (output - target["b"]).square().mean()


@pytest.mark.parametrize("loss", [with_if, F.cross_entropy, nn.CrossEntropyLoss()])
def test_losses_of_examples(loss: Any) -> None:
    model = Network()
    expected = F.cross_entropy(model(X), y, reduction="none").double()
    torch.testing.assert_close(example_losses(model, (X, y), loss), expected)
    wrapped = Network(WRAPPED["dataclass"])
    if loss is not with_if:  # PyTorch's own are given the tensor
        torch.testing.assert_close(example_losses(wrapped, (X, y), loss), expected)
    torch.testing.assert_close(example_losses(wrapped, (X, y), of_logits), expected)
    assert len(batch_losses(model, [(X[:20], y[:20]), (X[20:], y[20:])], loss)) == 2


def test_losses_of_other_targets() -> None:
    model = Network()
    single = [
        of_several(model(X[i : i + 1]), {"a": y[i : i + 1], "b": X[i : i + 1, :3]})
        for i in range(60)
    ]
    found = example_losses(model, (X, {"a": y, "b": X[:, :3]}), of_several)
    torch.testing.assert_close(found, torch.stack(single).double())
    nothing = example_losses(model, X, lambda output, target: output.square().mean())
    torch.testing.assert_close(nothing, model(X).square().mean(1).double())
    with pytest.raises(ValueError, match="no default loss for targets in a dict: give a loss"):
        compress(model, (X, {"a": y, "b": X[:, :3]}), timing_s=0)
    assert rank_frontier(model, (X, {"a": y, "b": X[:, :3]}), of_several).layers


def test_an_output_without_a_row_for_each_example_is_refused() -> None:
    class Pooled(Network):
        def forward(self, x: Tensor) -> Any:  # type: ignore[override]
            return super().forward(x).mean(0)

    with pytest.raises(ValueError, match=r"returns a float32 tensor \(3\) for 60 examples"):
        example_losses(Pooled(), (X, y), lambda output, target: output.mean())


def test_a_loader_that_shuffles_is_read_in_order() -> None:
    """As losses of examples are compared in pairs, pass by pass."""
    loader = DataLoader(TensorDataset(X, y), batch_size=20, shuffle=True)
    parts = split_examples((X, y), loader, loader)
    for part in (parts.search, parts.held_out):
        first, again = (torch.cat([batch[0] for batch in part]) for _ in range(2))  # type: ignore[index]
        assert torch.equal(first, again)


def test_batches_are_cut_by_their_numbers() -> None:
    X, y = torch.randn(10, 20), torch.arange(10)
    loader = [(X[:7], y[:7]), (X[7:], y[7:])]
    for data in (loader, (X, y)):
        pieces = list(in_pieces(data, 50))
        assert max(len(x) for x, _ in pieces) == 2
        assert torch.equal(torch.cat([x for x, _ in pieces]), X)
        assert torch.equal(torch.cat([labels for _, labels in pieces]), y)
    assert [len(x) for x, _ in in_pieces(loader, 1)] == [1] * 10  # never less than an example
    once = iter(loader)
    assert in_pieces(once, 50) is once
    assert in_pieces(loader, None) is loader


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_calibration_in_pieces_gives_the_same(
    reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the graph of some of a batch's examples is kept at a time."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    batches = [(torch.randn(40, 6), torch.randint(4, (40,))) for _ in range(6)]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction=reduction)

    seen: list[int] = []
    model.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    found = []
    for least in (2**24, 1):
        monkeypatch.setattr(compression, "LEAST_GRAPH", least)
        seen.clear()
        found.append(
            compress(model, batches, loss=loss, params=0.6, curvature="fisher", timing_s=0)
        )
    assert sum(count == 40 for count in seen) < sum(count < 40 for count in seen)
    whole, pieces = (each.frontier for each in found)
    assert found[0].ranks == found[1].ranks
    for name, spectrum in whole.layers.items():
        torch.testing.assert_close(
            spectrum.energies, pieces.layers[name].energies, rtol=1e-4, atol=0
        )
    assert found[1].certificate.held_out.mean == pytest.approx(
        found[0].certificate.held_out.mean, rel=1e-4
    )


def test_batches_of_a_loss_of_batches_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "LEAST_GRAPH", 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    pairs = [(torch.randn(12, 6), torch.randn(12, 4)) for _ in range(6)]

    def contrastive(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output @ target.mT, torch.arange(len(output)))

    seen: list[int] = []
    model.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    compress(model, pairs, loss=contrastive, params=0.6, timing_s=0)
    assert set(seen) <= {1, 12}  # 1: where it is found that the loss is of a batch
