"""Second moments of what goes into a layer and of the gradient at what comes out of it."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.reveal.examples import Data, Loss, batches, evaluating


@dataclass(frozen=True)
class Moments:
    """Of one linear layer, in float64.

    Attributes:
        C: E[x xᵀ] (n, n) over the rows x that came in.
        mean: E[x] (n,).
        G: Σ g gᵀ (m, m) over the rows, for each example, where g is the gradient of an
            example's own loss at a row of the output; None where no gradient was asked for.
        rows: how many came in: examples, times positions for a layer that sees sequences.
    """

    C: Tensor
    mean: Tensor
    G: Tensor | None
    rows: int


def calibrate(
    model: nn.Module,
    data: Data,
    loss: Loss | None,
    layers: Mapping[str, nn.Linear],
) -> dict[str, Moments]:
    """The moments of layers, by one forward pass and, with a loss, one backward.

    Activations and gradients are added up batch by batch and not kept. The model is in
    evaluation mode meanwhile and comes back as it was; no gradient of a weight is formed.

    Args:
        data: calibration examples.
        loss: the mean over a batch; without one there is no backward pass.
        layers: by name; one that no row reaches has no moments.

    Warns where a layer has more inputs than rows came in: E[x xᵀ] is singular then, and the
    damping decides about the directions that were not seen.

    Raises:
        ValueError: NaN or infinity among inputs, activations or gradients; no examples.

    Source: Martens and Grosse, "Optimizing neural networks with Kronecker-factored
    approximate curvature", ICML 2015, for C ⊗ G as the curvature of a layer.
    """
    sums = {name: _Sums() for name in layers}
    examples = 0
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(_frozen(model))
        stack.enter_context(torch.set_grad_enabled(loss is not None))
        for name, layer in layers.items():
            stack.enter_context(layer.register_forward_hook(sums[name]))
        for x, y in batches(data, model):
            examples += len(x)
            for each in sums.values():
                each.batch = len(x)
            output = model(x)
            if loss is not None:
                loss(output, y).backward()
    found: dict[str, Moments] = {}
    for name, each in sums.items():
        if each.C is None or each.x is None:
            continue
        G = None if each.G is None else each.G / examples
        moments = Moments(each.C / each.rows, each.x / each.rows, G, each.rows)
        _check(name, moments)
        found[name] = moments
    return found


def linear_weights(model: nn.Module) -> tuple[dict[str, nn.Linear], dict[str, str]]:
    """The linear layers by the full names of their weights, and why others are left out.

    Left out are classes derived from ``nn.Linear``, which may do something else with their
    weight, and weights that two modules share.
    """
    shared = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    found: dict[str, nn.Linear] = {}
    skipped: dict[str, str] = {}
    for name, module in model.named_modules():
        weight = f"{name}.weight" if name else "weight"
        if not isinstance(module, nn.Linear):
            continue
        if type(module) is not nn.Linear:
            skipped[weight] = f"a {type(module).__name__}, which may use it in another way"
        elif shared[id(module.weight)] > 1:
            skipped[weight] = "shared by two modules"
        else:
            found[weight] = module
    return found, skipped


class _Sums:
    """A forward hook that adds up Σ x xᵀ, and by a hook on the output Σ g gᵀ."""

    def __init__(self) -> None:
        self.C: Tensor | None = None
        self.x: Tensor | None = None
        self.G: Tensor | None = None
        self.rows = 0
        self.batch = 1

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        X = inputs[0].detach().reshape(-1, inputs[0].shape[-1])
        self.C = _added(self.C, X)
        total = X.sum(0, dtype=torch.float64)
        self.x = total if self.x is None else self.x + total
        self.rows += len(X)
        if not torch.is_grad_enabled():
            return None
        new = None
        if not output.requires_grad:  # nothing before it has a gradient: the graph begins here
            # A copy of the leaf, which an activation may then overwrite.
            output = new = output.detach().requires_grad_().clone()
        output.register_hook(self._gradient)
        return new

    def _gradient(self, g: Tensor) -> None:
        # The loss is a mean over the batch, and so is g: times B, it is an example's own.
        self.G = _added(self.G, g.detach().reshape(-1, g.shape[-1]) * self.batch)


def _added(total: Tensor | None, X: Tensor) -> Tensor:
    """``total`` + XᵀX: a batch in its own precision (float32 at least), the sum in float64."""
    X = X.float() if X.dtype in (torch.float16, torch.bfloat16) else X
    product = (X.T @ X).double()
    return product if total is None else total.add_(product)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _check(name: str, moments: Moments) -> None:
    inputs = len(moments.C)
    if not moments.C.isfinite().all():
        raise ValueError(f"what comes into {name} is not finite: look at the model and its data")
    if moments.G is not None and not moments.G.isfinite().all():
        raise ValueError(f"the gradient at {name} is not finite: look at the loss")
    if moments.rows < inputs:
        warnings.warn(
            f"{moments.rows} calibration rows are fewer than the {inputs} inputs of {name}: "
            "give more examples",
            stacklevel=4,
        )
