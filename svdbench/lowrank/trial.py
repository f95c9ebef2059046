"""A model tried on one batch before anything is calibrated: its output, its loss, its gradient."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from svdbench.lowrank.judgement import Judgement, judgement
from svdbench.lowrank.layers.base import Arrange, Folding, Side, bytes_of
from svdbench.lowrank.layers.weights import Use, factorable_weights
from svdbench.lowrank.ranks.examples import (
    Inputs,
    Loss,
    Targets,
    batches,
    evaluating,
    numbers_in,
    size,
    take,
    whole,
)
from svdbench.lowrank.ranks.moments import NO_GRADIENT, Pass, observe, with_graph
from svdbench.lowrank.splits import Splits

# Examples of a split that is given whole which are tried.
TRIED = 16

# What autograd may keep of a single example: a part of the model's bytes, and so many at least.
LARGE, LEAST_LARGE = 2, 2**28


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
            found = _with_gradient(model, batch, observers, found, folding)
    return found


def _with_gradient(
    model: nn.Module,
    batch: tuple[Inputs, Targets],
    observers: list[tuple[Use, "_Onlooker"]],
    found: Judgement,
    folding: Folding,
) -> Judgement:
    """The judgement with what autograd keeps, once a backward pass was tried."""
    own, alone = bytes_of(model), found.unit == "batch" or size(batch[0]) == 1
    large = max(own // LARGE, LEAST_LARGE)
    one = batch if alone else (take(batch[0], slice(1)), take(batch[1], slice(1)))
    options: dict[str, Any] = {"folding": folding, "loss": found.loss}
    seen: Pass | None = None
    for some, most in ((batch, max(own, LEAST_LARGE)), (one, large)):
        try:
            seen, kept = _observed(model, some, observers, most, blockwise=False, **options)
            break
        except _TooMuch:
            kept = most
    blockwise = seen is None or kept > large * (1 if alone else size(some[0]))
    if blockwise:  # but where a block can't be computed again
        seen, inputs = _observed(model, one, observers, math.inf, blockwise=True, **options)
        blockwise = inputs > 0
    if seen is None or (not seen.backward and any(each.seen for _, each in observers)):
        raise ValueError(f"{NO_GRADIENT}, or choose kind=whitened, which needs none")
    return replace(found, graph_bytes=kept / numbers_in(some[0]), blockwise=blockwise)


class _TooMuch(Exception):
    """Autograd keeps more of a batch than it may."""


def _observed(
    model: nn.Module, batch: tuple[Inputs, Targets], observers: Any, most: float, **options: Any
) -> tuple[Pass, int]:
    """A pass over a batch, and the bytes of all that autograd keeps of it.

    Raises:
        _TooMuch: these are more than ``most``.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            if sum(kept.values()) > most:
                raise _TooMuch
        return tensor.detach()

    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            return observe(model, [batch], observers, **options), sum(kept.values())
    except RuntimeError:  # torch.func, which a model may use, takes no such hooks or blocks
        return observe(model, [batch], observers, **{**options, "blockwise": False}), 0


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
