"""Calibration: passes over data in which weights are watched, and what is seen is added up."""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.layers.base import Folding, Observer
from svdbench.lowrank.layers.weights import FactorableWeight, Use
from svdbench.lowrank.losses import check_classes, usual_loss
from svdbench.lowrank.reveal.examples import Data, Loss, batches, called, evaluating, size
from svdbench.lowrank.reveal.moments import Moments, Sums, precision
from svdbench.lowrank.sizes import bytes_of

NO_GRADIENT = (
    "the loss has no gradient in the model: take torch.no_grad(), detach() and item() out of the "
    "model and the loss"
)


@dataclass
class Pass:
    """A pass over data: how many examples there were, and whether any loss had a gradient."""

    examples: int = 0
    backward: bool = False


def calibrate(
    model: nn.Module,
    data: Data,
    loss: Loss | None,
    weights: Sequence[FactorableWeight],
    *,
    budget: int | None = None,
) -> Iterator[tuple[FactorableWeight, list[Moments]]]:
    """The moments of weights, for each use of each, by forward passes and, with a loss, backward.

    Activations and gradients are added up batch by batch and not kept. The moments of some
    weights at a time are made in one pass over the data, and given out before the next pass.
    The model is in evaluation mode meanwhile and comes back as it was; no gradient of a weight
    is formed.

    Args:
        data: calibration examples.
        loss: the mean over a batch; without one there is no backward pass.
        weights: of the model; one that no row reaches is left out.
        budget: bytes of moments at a time, but for a single weight; by default a quarter of
            those of the model's parameters. Data that can be gone through only once is,
            whatever it takes.

    Warns where a weight has more columns than rows came in: E[x xᵀ] is singular then, and the
    damping decides about the directions that were not seen.

    Raises:
        ValueError: NaN or infinity among inputs, activations, losses or gradients; a loss that
            has no gradient; no examples.

    Source: Martens and Grosse, "Optimizing neural networks with Kronecker-factored
    approximate curvature", ICML 2015, for C ⊗ R as the curvature of a layer.
    """
    if budget is None:
        budget = bytes_of(model) // 4
    groups = [list(weights)] if isinstance(data, Iterator) else _passes(weights, budget)
    for group in groups:
        sums = {site: [Sums(site, use, loss is not None) for use in site.uses] for site in group}
        observers = [(each.use, each) for each in chain.from_iterable(sums.values())]
        seen = observe(model, data, observers, folding=group[0].folding, loss=loss)
        del observers
        if (
            loss is not None
            and not seen.backward
            and any(each.count for each in chain(*sums.values()))
        ):
            raise ValueError(f"{NO_GRADIENT}, or choose kind=whitened, which needs none")
        for site in group:
            _give_back()
            found = [each.moments(seen.examples) for each in sums.pop(site) if each.count]
            if len(found) == len(site.uses):
                yield site, found


def observe(
    model: nn.Module,
    data: Data,
    observers: Sequence[tuple[Use, Observer]],
    *,
    folding: Folding,
    loss: Loss | None = None,
) -> "Pass":
    """One pass over the data, forward and with a loss backward, as observers look on.

    Args:
        observers: of uses of the model's weights.
        folding: of convolutions.

    Raises:
        ValueError: NaN or infinity among inputs, or losses of batches; no examples.
    """
    of_module: dict[nn.Module, tuple[Use, dict[str, Observer]]] = {}
    for use, observer in observers:
        of_module.setdefault(use.module, (use, {}))[1][use.part.own] = observer
    found, uncounted, number = Pass(), list[int](), -1
    with ExitStack() as stack:
        stack.enter_context(_watchable(model))
        stack.enter_context(torch.set_grad_enabled(loss is not None))
        for use, each in of_module.values():
            stack.enter_context(use.kind.watch(use.module, each, folding))
        for number, (x, y) in enumerate(batches(data, model)):
            found.examples += size(x)
            output = called(model, x)
            if loss is not None:
                value = _mean(loss, output, y)
                if not value.isfinite():
                    uncounted.append(number)
                elif value.requires_grad:  # not if none of the weights was used
                    # Of a mean over the batch: times B, gradients are an example's own.
                    (value * size(x)).backward()
                    found.backward = True
                del value
            del output
            _give_back()
    if uncounted:
        raise ValueError(
            f"the loss is not a finite number on {len(uncounted):,} of {number + 1:,} calibration "
            f"batches ({found.examples:,} examples), the first of them batch {uncounted[0]}: leave "
            "out batches in which nothing counts, as where all targets are -100, and look at the "
            "loss"
        )
    return found


def _mean(loss: Loss, output: Any, y: Tensor) -> Tensor:
    """The loss of a batch, checked."""
    if loss is usual_loss:
        check_classes(output, y)
    value = loss(output, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
        raise ValueError(f"the loss of a batch is {what}: return its mean, a tensor of one number")
    return value


def _passes(weights: Sequence[FactorableWeight], budget: int) -> list[list[FactorableWeight]]:
    """The weights in groups whose moments fit into so many bytes, where one alone does."""
    groups: list[list[FactorableWeight]] = []
    left = -1
    for site in weights:
        each, bytes_each = site.weight, precision(site.matrix).itemsize
        needed = 2 * min(each.rows, each.columns) ** 2 * each.groups * len(site.uses) * bytes_each
        if not groups or left < needed:
            groups.append([])
            left = budget
        groups[-1].append(site)
        left -= needed
    return groups


def _give_back() -> None:
    """Returns memory that was freed to the system, where the C library (glibc) would keep it.

    Activations and moments come and go between spectra that stay, and would leave holes as
    large as the model.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@contextmanager
def _watchable(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients of parameters, and none of torch's ways around its modules."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        # cuDNN's recurrent layers have no backward pass in evaluation mode.
        cudnn = torch.backends.cudnn.enabled and not recurrent
        with evaluating(model), torch.backends.cudnn.flags(enabled=cudnn):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter in trained:
            parameter.requires_grad_(True)
