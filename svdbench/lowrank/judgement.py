"""How a model is evaluated: its loss, its targets and how it is called; found on one batch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import out_of_memory
from svdbench.lowrank.losses import DISTILLATIONS, IGNORED, Distillation, usual_loss
from svdbench.lowrank.ranks.curvature import needs_teacher
from svdbench.lowrank.ranks.evaluation import (
    Unit,
    batch_loss,
    loss_input,
    losses_of,
    losses_of_examples,
)
from svdbench.lowrank.ranks.examples import LABELS, Data, Inputs, Loss, Targets, called, size
from svdbench.lowrank.ranks.outputs import named_outputs, tensors_of
from svdbench.lowrank.splits import Change, Splits
from svdbench.members import refuse_unknown

# The kind of distillation that suits the model's output.
AUTO = "auto"

# How far apart two ways to compute a loss may be, relatively.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}

# What code that doesn't fit raises.
MISFITS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Judgement:
    """How a model is evaluated on examples.

    Attributes:
        loss: function of the model's output and the targets, the mean over a batch.
        name: name of the loss, in words.
        unit: what losses are of: each "example", or each "batch" if the loss of a batch is not the
            mean over its examples.
        value: the loss of the batch that was tried; 0 for distillation.
        change: function applied to the inputs and targets of every batch; None: no change.
        note: a remark about the loss, or "".
        graph_bytes: that autograd keeps between the forward and the backward pass, for each number
            among the inputs; 0 where there is no backward pass.
        blockwise: whether what it keeps of a single example is so much that blocks of the model
            are computed again instead.
    """

    loss: Loss
    name: str
    unit: Unit = "example"
    value: float = 0.0
    change: Change | None = None
    note: str = ""
    graph_bytes: float = 0.0
    blockwise: bool = False

    def numbers(self, budget: int) -> int | None:
        """Numbers among the inputs whose graph takes so many bytes; None where batches stay."""
        if self.unit == "batch" or not self.graph_bytes:
            return None
        return max(1, int(budget / self.graph_bytes))

    def of(self, splits: Splits) -> Splits:
        """The examples in the form that the model and the loss take."""
        return splits if self.change is None else splits.changed(self.change)

    def losses(self, model: nn.Module, data: Data) -> Tensor:
        """The losses of a model on some of these examples, one per unit."""
        return losses_of(model, data, self.loss, self.unit)


def judgement(
    model: nn.Module,
    x: Inputs,
    y: Targets,
    *,
    labelled: bool = False,
    loss: Loss | None = None,
    distill: str | None = None,
    temperature: float = 1.0,
) -> Judgement:
    """How to judge a model, by what it returns for a batch.

    Args:
        model: in evaluation mode.
        x, y: inputs and targets of the batch.
        labelled: whether the targets are the ``labels`` in a dict of inputs. The model is called
            without them, unless it can't be or the loss needs what it then returns; and where it
            has a loss of its own for them, the usual one must agree with it: targets are shifted
            by one where that is of the next token, and else the model's own is taken.
        loss: one's own; by default the usual one, or distillation where there are no targets.
        distill: a kind of :class:`~svdbench.lowrank.losses.Distillation` in place of a loss, or
            "auto" for the one that suits the output.
        temperature: of distillation by kl.

    Raises:
        ValueError: an output that the loss is not of; and what model and loss raise.
    """
    if distill is not None:
        refuse_unknown("distillation", [distill], (AUTO, *DISTILLATIONS))
    output, change = _called(model, x, y, labelled)
    if distill is not None or (loss is None and y is None):
        if distill in (None, AUTO):
            distilled = Distillation.fitting(output, y, temperature)
        else:
            distilled = Distillation(distill, temperature)  # type: ignore[arg-type]
        batch_loss(distilled, output, loss_input(distilled, output))
        return Judgement(distilled, _name(distilled), change=change)
    if loss is not None and needs_teacher(loss):  # which uses no targets of the data
        batch_loss(loss, output, loss_input(loss, output))
        return Judgement(loss, _name(loss), change=change)
    if loss is not None:
        return _own(model, x, y, output, loss, change, labelled)
    if labelled and (own := _models_loss(model, x, y)) is not None:
        return _as_the_models(own, x, y, output, change)
    value = float(batch_loss(usual_loss, output, y))
    return Judgement(usual_loss, _usual_name(y), value=value, change=change)


def with_labels(x: Inputs, y: Targets) -> tuple[Inputs, Targets]:
    """The targets among the inputs, too."""
    return {**x, LABELS: y} if isinstance(x, Mapping) else x, y


def next_tokens(x: Inputs, y: Targets) -> tuple[Inputs, Targets]:
    """Targets (B, T) moved by one, as the next token is predicted; the last has none."""
    return x, torch.cat((y[:, 1:], torch.full_like(y[:, :1], IGNORED)), 1)


def _called(model: nn.Module, x: Inputs, y: Targets, labelled: bool) -> tuple[Any, Change | None]:
    """What the model returns, without the labels if it can do without."""
    try:
        return called(model, x), None
    except MISFITS as error:
        if not labelled or out_of_memory(error):
            raise
        try:
            return called(model, with_labels(x, y)[0]), with_labels
        except MISFITS:
            raise error from None


def _own(
    model: nn.Module,
    x: Inputs,
    y: Targets,
    output: Any,
    loss: Loss,
    change: Change | None,
    labelled: bool,
) -> Judgement:
    """By a loss of the user's own."""
    try:
        value = float(batch_loss(loss, output, y))
    except MISFITS as error:
        if not labelled or change is not None or out_of_memory(error):
            raise
        # A model of transformers returns a loss where it is called with labels.
        try:
            output, change = called(model, with_labels(x, y)[0]), with_labels
            value = float(batch_loss(loss, output, y))
        except MISFITS:
            raise error from None
    found = Judgement(loss, _name(loss), value=value, change=change)
    return replace(found, **_unit(loss, value, output, y, size(x)))


def _unit(loss: Loss, value: float, output: Any, y: Targets, count: int) -> dict[str, Any]:
    """In what unit the losses are compared, by that of a batch and those of its examples."""
    if count < 2:
        return {}
    try:
        losses = losses_of_examples(loss, output, y, count)
    except MISFITS as error:
        if out_of_memory(error):
            raise
        note = f"the loss is of a batch and of no example alone ({error}): batches are compared"
        return {"unit": "batch", "note": " ".join(note.split())}
    mean = float(losses.mean())
    if not math.isfinite(value) or not math.isfinite(mean):
        return {}
    if bool((losses == losses[0]).all()) and _agree(value, mean, output):
        # Of something that has no row for each example, as a loss that the model returns.
        return {"unit": "batch"}
    if _agree(value, mean, output):
        return {}
    if _agree(value, count * mean, output):
        note = "the loss is a sum over the batch: it is divided by the number of examples"
        return {"loss": _Mean(loss), "note": note}
    note = (
        f"the loss of a batch ({value:.3g}) is not the mean of its examples' ({mean:.3g}): "
        "batches are compared, and not examples"
    )
    return {"unit": "batch", "note": note}


@dataclass(frozen=True)
class _Mean:
    """A loss that is a sum over the batch, divided by the number of examples."""

    loss: Loss

    def __call__(self, output: Any, target: Targets) -> Tensor:
        output = loss_input(self.loss, output)
        count = len(next(part for part in tensors_of(output) if part.ndim))
        return self.loss(output, target) / count


def _models_loss(model: nn.Module, x: Inputs, y: Targets) -> float | None:
    """The loss that the model itself returns for labels; None where it returns none."""
    try:
        found = named_outputs(called(model, with_labels(x, y)[0]))
    except MISFITS as error:
        if out_of_memory(error):
            raise
        return None
    value = (found or {}).get("loss")
    return float(value) if isinstance(value, Tensor) and value.numel() == 1 else None


def _as_the_models(
    own: float, x: Inputs, y: Targets, output: Any, change: Change | None
) -> Judgement:
    """By the loss that agrees with the model's own."""
    for name, shift in ((_usual_name(y), None), ("cross entropy of the next token", next_tokens)):
        if shift is not None and (not isinstance(y, Tensor) or y.ndim != 2 or change is not None):
            continue
        try:
            value = float(batch_loss(usual_loss, output, y if shift is None else shift(x, y)[1]))
        except ValueError:
            continue
        if _agree(value, own, output):
            return Judgement(usual_loss, name, value=value, change=shift or change)
    return Judgement(_returned_loss, "the model's own", "batch", own, with_labels)


def _returned_loss(output: Any, target: Targets) -> Tensor:
    """The loss that a model returns for labels."""
    found: Tensor = (named_outputs(output) or {})["loss"]
    return found


def _agree(one: float, other: float, output: Any) -> bool:
    floats = [t.dtype for t in tensors_of(output) if t.dtype in TOLERANCE]
    tolerance = max((TOLERANCE[kind] for kind in floats), default=TOLERANCE[torch.float32])
    return abs(one - other) <= tolerance * max(abs(one), abs(other)) + 1e-6


def _usual_name(y: Targets) -> str:
    classes = isinstance(y, Tensor) and not y.is_floating_point()
    return "cross entropy" if classes else "mean squared error"


def _name(loss: Loss) -> str:
    if isinstance(loss, Distillation):
        return f"distillation ({loss.kind})"
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))
