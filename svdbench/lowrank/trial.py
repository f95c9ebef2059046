"""A model tried on one batch before anything is calibrated: its output, its loss, its gradient."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from svdbench.lowrank.judgement import Judgement, judgement
from svdbench.lowrank.layers.base import Arrange, Folding, Side
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.ranks.examples import (
    Inputs,
    Loss,
    Targets,
    batches,
    evaluating,
    numbers_in,
    take,
    whole,
)
from svdbench.lowrank.ranks.moments import NO_GRADIENT, Pass, observe, with_graph
from svdbench.lowrank.splits import Splits

# Examples of a split that is given whole which are tried.
TRIED = 16


def try_batch(
    model: nn.Module,
    splits: Splits,
    *,
    loss: Loss | None = None,
    distill: str | None = None,
    temperature: float = 1.0,
    backward: bool = True,
    folding: Folding = "spatial",
) -> Judgement:
    """Call a model on one batch, with its loss and a backward pass; return how to judge it.

    What would fail after a long calibration fails here, in a moment.

    Args:
        splits: the first batch of the calibration examples is taken, of a split that is given
            whole the first 16 examples.
        loss, distill, temperature: as of :func:`svdbench.lowrank.judgement.judgement`.
        backward: whether gradients will be needed.
        folding: of convolutions.

    Raises:
        ValueError: no tensor for the loss in what the model returns, a loss that is no number,
            or no gradient; and what the model and the loss raise.
    """
    x, y, labelled = splits.first()
    if whole(splits.calibration) is not None:
        x, y = take(x, slice(TRIED)), take(y, slice(TRIED))
    ((x, y),) = batches([(x, y)], model)
    with evaluating(model), torch.no_grad():
        found = judgement(
            model, x, y, labelled=labelled, loss=loss, distill=distill, temperature=temperature
        )
    if backward and math.isfinite(found.value):  # or it will be said of how many it isn't
        batch = (x, y) if found.change is None else found.change(x, y)
        observers = [
            (use, _Onlooker(use.name))
            for site in factorable_weights(model, folding)[0]
            if not site.refusal
            for use in site.uses
        ]
        if observers:
            seen, kept = _observed(model, batch, observers, folding=folding, loss=found.loss)
            if not seen.backward and any(each.seen for _, each in observers):
                raise ValueError(f"{NO_GRADIENT}, or choose kind=whitened, which needs none")
            found = replace(found, graph_bytes=kept / numbers_in(x))
    return found


def _observed(
    model: nn.Module, batch: tuple[Inputs, Targets], observers: Any, **options: Any
) -> tuple[Pass, int]:
    """A pass over a batch, and the bytes of all that autograd keeps of it."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            return observe(model, [batch], observers, **options), sum(kept.values())
    except RuntimeError:  # torch.func, which a model may use, takes no such hooks
        return observe(model, [batch], observers, **options), 0


class _Onlooker:
    """An observer that only lets a graph begin, as that of moments does."""

    def __init__(self, name: str) -> None:
        self.name, self.seen = name, False

    def columns(self, X: Tensor) -> None:
        self.seen = True

    def picks(self, rows: Tensor) -> None:
        self.seen = True

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        return with_graph(y, self.name)
