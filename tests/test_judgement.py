"""By which loss a model is judged, of what, and what one batch shows before anything else."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import compress
from svdbench.lowrank.judgement import judgement, next_tokens
from svdbench.lowrank.losses import Distillation, usual_loss
from svdbench.lowrank.splits import split_examples
from svdbench.lowrank.trial import try_batch

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* calibration rows are fewer"),
    pytest.mark.filterwarnings("ignore:the loss (is a sum|of a batch)"),
]

X = torch.randn(80, 10, generator=torch.Generator().manual_seed(0))
y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
PAIRS = [(X[i : i + 20], y[i : i + 20]) for i in range(0, 80, 20)]


def network(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, outputs)).eval()


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class Transformer(nn.Module):
    """As of transformers: a loss of its own where it is called with labels."""

    def __init__(self, own: Callable[[Tensor, Tensor], Tensor], needs: bool = False) -> None:
        super().__init__()
        self.inner, self.own, self.needs = network(), own, needs
        self.calls: list[bool] = []

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Output:
        self.calls.append(labels is not None)
        logits = self.inner(x)
        if self.needs and labels is None:
            raise ValueError("You have to specify either decoder_input_ids or labels")
        return Output(logits, None if labels is None else self.own(logits, labels))


def shifted(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of a causal language model."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    found = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - (-found).exp()) ** 2 * found).mean()


def contrastive(output: Tensor, target: Any) -> Tensor:
    """Each example against the others of its batch: of one alone it is 0."""
    z = F.normalize(output, dim=-1)
    return F.cross_entropy(z @ z.mT / 0.1, torch.arange(len(z)))


def of_logits(output: Output, target: Tensor) -> Tensor:
    return F.cross_entropy(output.logits, target)


def of_the_model(output: Output, target: Tensor) -> Tensor:
    assert output.loss is not None
    return output.loss


def weighted(output: Tensor, target: Tensor) -> Tensor:
    """By the weights of classes, which cancel in a batch of one."""
    return F.cross_entropy(output, target, weight=torch.tensor([1.0, 5.0, 25.0]))


def summed(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="sum")


@pytest.mark.parametrize(
    ("model", "given", "options", "name", "unit"),
    [
        (network(), (X, y), {}, "cross entropy", "example"),
        (network(), (X, X[:, :3]), {}, "mean squared error", "example"),
        (network(), (X, None), {}, "distillation (cosine)", "example"),
        (network(), (X, y), {"distill": "auto"}, "distillation (kl)", "example"),
        (network(), (X, y), {"distill": "mse"}, "distillation (mse)", "example"),
        (network(), (X, y), {"loss": F.cross_entropy}, "cross_entropy", "example"),
        (network(), (X, y), {"loss": weighted}, "weighted", "batch"),
        (network(), (X, y), {"loss": summed}, "summed", "example"),
        (network(), (X, y), {"loss": contrastive}, "contrastive", "batch"),
        (network(), (X, None), {"loss": contrastive}, "contrastive", "batch"),
        (Transformer(focal), (X, None), {}, "distillation (kl)", "example"),
        (Transformer(focal), (X, y), {"loss": of_logits}, "of_logits", "example"),
    ],
)
def test_the_loss_and_its_unit(
    model: nn.Module, given: Any, options: dict[str, Any], name: str, unit: str
) -> None:
    with torch.no_grad():
        found = judgement(model, *given, **options)
    assert (found.name, found.unit, found.change) == (name, unit, None)


def test_a_sum_is_divided() -> None:
    model = network()
    with torch.no_grad():
        found = judgement(model, X, y, loss=summed)
    assert "a sum over the batch" in found.note
    expected = F.cross_entropy(model(X), y)
    torch.testing.assert_close(found.loss(model(X), y), expected)
    own, same = (
        compress(model, (X, y), loss=loss, params=0.6, timing_s=0)
        for loss in (summed, lambda output, target: F.cross_entropy(output, target))
    )
    assert own.ranks == same.ranks
    assert own.certificate.search.mean == pytest.approx(same.certificate.search.mean, abs=1e-6)
    assert own.warnings[0] == found.note


@pytest.mark.parametrize(
    ("own", "name", "unit"),
    [
        (F.cross_entropy, "cross entropy", "example"),
        (focal, "the model's own", "batch"),
    ],
)
def test_the_usual_loss_must_agree_with_the_models_own(own: Any, name: str, unit: str) -> None:
    model = Transformer(own)
    with torch.no_grad():
        found = judgement(model, {"x": X}, y, labelled=True)
    assert (found.name, found.unit) == (name, unit)
    data = [{"x": x, "labels": labels} for x, labels in PAIRS]
    small = compress(model, data, params=0.7, timing_s=0)
    assert (small.loss, small.unit) == (name, unit)
    assert small.certificate.search.examples == (20 if unit == "example" else 1)
    with torch.no_grad():
        expected = sum(float(own(model.inner(x), labels)) for x, labels in PAIRS) / 4
    assert small.certificate.search.dense == pytest.approx(expected, rel=0.3)


def test_labels_of_a_language_model_are_moved_by_one() -> None:
    """As transformers move them; else a model would be judged by repeating its input."""

    class Language(Transformer):
        def __init__(self) -> None:
            super().__init__(shifted)
            self.inner = nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 9))

    tokens = torch.randint(9, (40, 6))
    model = Language()
    with torch.no_grad():
        found = judgement(model, {"x": tokens}, tokens, labelled=True)
        assert found.name == "cross entropy of the next token"
        assert found.change is next_tokens
        moved = next_tokens(tokens, tokens)[1]
        own = shifted(model.inner(tokens), tokens)
        torch.testing.assert_close(usual_loss(model.inner(tokens), moved), own)
        small = compress(model, {"x": tokens, "labels": tokens}, params=0.7, timing_s=0)
    assert small.loss == "cross entropy of the next token"


def test_labels_are_given_to_a_model_that_needs_them() -> None:
    model = Transformer(F.cross_entropy, needs=True)
    data = {"x": X, "labels": y}
    assert compress(model, data, params=0.7, timing_s=0).loss == "cross entropy"
    model = Transformer(focal)
    small = compress(model, data, loss=of_the_model, params=0.7, timing_s=0)
    assert (small.loss, small.unit) == ("of_the_model", "batch")
    with torch.no_grad(), pytest.raises(AssertionError):
        judgement(model, {"x": X}, None, loss=of_the_model)  # without labels to give


def test_batches_are_compared_where_examples_say_nothing() -> None:
    """A contrastive loss was certified at a constant 0."""
    small = compress(network(8), PAIRS * 3, loss=contrastive, params=0.5, timing_s=0)
    assert small.unit == "batch"
    assert small.certificate.held_out is not None
    assert small.certificate.held_out.examples == 3
    assert small.certificate.held_out.dense > 0.01
    assert "not the mean of its examples'" in small.warnings[0]


@pytest.mark.parametrize("form", [X, (X,), (X, None), {"input": X}, [(x,) for x, _ in PAIRS]])
def test_without_targets_outputs_are_compared(form: Any) -> None:
    model = network(8)
    small = compress(model, form, params=0.6, timing_s=0, finetune_epochs=1)
    assert small.loss == "distillation (cosine)"
    assert small.certificate.search.dense == pytest.approx(0, abs=1e-6)
    assert 0 < small.certificate.search.mean < 1
    assert len(small.tuned) == 2


def test_distillation_takes_the_place_of_targets() -> None:
    model = network()
    options: dict[str, Any] = {"params": 0.6, "timing_s": 0}
    found = compress(model, (X, y), distill="kl", temperature=2.0, **options)
    assert found.loss == "distillation (kl)"
    assert found.certificate.search.mean > 0
    parts = split_examples((X, y))
    x, _ = parts.held_out  # type: ignore[misc]
    assert isinstance(x, Tensor)
    with torch.no_grad():
        expected = Distillation("kl", 2.0)(found.model(x), model(x))
    assert found.certificate.held_out is not None
    assert found.certificate.held_out.mean == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distill": "mse", "loss": F.mse_loss}, "give one of loss and distill"),
        ({"distill": "cosinus"}, "did you mean 'cosine'"),
        ({"distill": "mse", "temperature": 2.0}, "temperature is of distillation by kl"),
        ({"distill": "kl", "temperature": 0.0}, "temperature is 0"),
        ({"loss": F.mse_loss, "temperature": 2.0}, "temperature is of distillation"),
    ],
)
def test_choices_that_contradict_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        compress(network(), (X, y), timing_s=0, **options)


class Strange(nn.Module):
    """A model that returns what has no tensor to compare, in its last call of a layer."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change, self.calls = network(), change, 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda out: None, "the model returns None"),
        (lambda out: {"a": out, "b": out}, "the model returns a dict of a"),
        (lambda out: out.detach(), "the loss has no gradient in the model"),
        (lambda out: out[:, 0], "no default loss for outputs"),
    ],
)
def test_one_batch_fails_before_anything_is_calibrated(
    change: Callable[[Tensor], Any], says: str
) -> None:
    model = Strange(change)
    with pytest.raises(ValueError, match=says):
        compress(model, PAIRS * 50, timing_s=0)
    assert model.calls <= 2


def test_a_batch_is_tried_without_a_backward_pass_where_none_is_needed() -> None:
    model = Strange(lambda out: out.detach())
    splits = split_examples((X, y))
    assert try_batch(model, splits, backward=False).name == "cross entropy"
    with pytest.raises(ValueError, match="no gradient"):
        try_batch(model, splits)


@pytest.mark.parametrize("kind", ["kronecker", "whitened", "plain"])
def test_examples_without_a_target_are_counted_before_calibration(kind: Any) -> None:
    some = y.clone()
    some[:7] = -100
    model = Strange(lambda out: out)
    with pytest.raises(ValueError, match="not a finite number on 7 of 80 search examples"):
        compress(model, PAIRS * 20, validation=(X, some), timing_s=0, kind=kind)
    assert model.calls < 10
    with pytest.raises(ValueError, match="not a finite number on 2 of 4 search batches"):
        compress(
            model,
            PAIRS,
            validation=PAIRS[:2] + [(X[:20] * 1e4, y[:20])] * 2,
            loss=lambda out, t: contrastive(out, t) * (math.nan if out.max() > 1e3 else 1.0),
            timing_s=0,
            kind=kind,
        )


def test_embeddings_may_stay() -> None:
    model = nn.Sequential(nn.Embedding(50, 16), nn.Flatten(), nn.Linear(64, 20), nn.Linear(20, 3))
    tokens = torch.randint(50, (80, 4))
    with_them, without = (
        compress(model, (tokens, y), params=0.5, timing_s=0, embeddings=each)
        for each in (True, False)
    )
    assert "0.weight" in with_them.ranks
    assert list(without.ranks) == ["2.weight", "3.weight"]
    assert without.skipped["0.weight"] == "an embedding"
