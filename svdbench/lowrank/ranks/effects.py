"""What leaving out components of a weight does to the model's output, measured for each alone.

Spectra tell well in which order components of one weight go, and less well how weights compare:
inputs and curvature of a layer are not independent, as their Kronecker product has it, and errors
of layers' outputs are in units of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.layers.base import numbers_of
from svdbench.lowrank.ranks.curvature import Curvature, needs_teacher
from svdbench.lowrank.ranks.evaluation import batch_loss, loss_input
from svdbench.lowrank.ranks.examples import (
    Data,
    Inputs,
    Targets,
    batches,
    called,
    each,
    evaluating,
    give_back,
    size,
    take,
)
from svdbench.lowrank.ranks.outputs import each_output, tensors_of

if TYPE_CHECKING:
    from svdbench.lowrank.ranks.frontier import Frontier

# The numbers of a model, times forward passes of an example, for all weights together; as long as
# each weight has so many examples, as few of them may hold most of a classifier's curvature.
WORK, FEWEST, MOST = 2**35, 32, 2**12

# Numbers in the outputs and directions of those examples.
NUMBERS = 2**26

# Of the highest rank of a weight: the one that its effect is measured at.
PART = 4

# The least scale, as a part of the median: a few examples may not need a weight at all.
LEAST = 0.01

# Powers of the scales that are compared, and the part of the numbers that they are compared at. A
# larger part would take more memory than all the rest.
POWERS, BUDGET = (1.0, 0.5, 0.0), 0.2


class Batch:
    """A batch, with the dense model's outputs and random directions at them.

    Args:
        curvature: whose directions; None: squared changes count.
    """

    def __init__(
        self, model: nn.Module, x: Inputs, y: Targets, curvature: Curvature | None
    ) -> None:
        self.x, self.count, self.curvature = x, size(x), curvature
        output = self._output(model)
        self.dense = tensors_of(output)
        self.draws: list[list[tuple[int, Tensor]]] = []
        self.target: Any = None
        if curvature is None:
            return
        target = output if needs_teacher(curvature.loss) else y
        self.target = each(target, Tensor.detach)
        place = {id(part): i for i, part in enumerate(self.dense)}
        with torch.enable_grad():
            for draw in curvature.draws(output, target, self.count):
                self.draws.append([(place[id(part)], v) for part, v in draw])
        self.dense = [part.detach() for part in self.dense]

    def _called(self, model: nn.Module) -> Any:
        with evaluating(model):
            return called(model, each(self.x, torch.clone))

    def _output(self, model: nn.Module) -> Any:
        output = self._called(model)
        if self.curvature is None:
            return output
        return each_output(loss_input(self.curvature.loss, output), _leaf)

    def lost(self, model: nn.Module) -> float:
        """By another model, summed over the examples: the loss, or ‖δ‖² where there is none."""
        if self.curvature is None:
            return self.change(model)
        return self.count * float(batch_loss(self.curvature.loss, self._called(model), self.target))

    def change(self, model: nn.Module) -> float:
        """Of another model's output, summed over the examples: ½ δᵀHδ, or ‖δ‖²."""
        other = tensors_of(self._output(model))
        delta = [a.detach() - b for a, b in zip(other, self.dense, strict=True)]
        if self.curvature is None:
            return sum(float(d.double().square().sum()) for d in delta if d.is_floating_point())
        total = 0.0
        for draw in self.draws:
            if not draw:
                continue
            # Of each example, or of the batch where a direction is of that.
            by_example = all(v.ndim and len(v) == self.count for _, v in draw)
            rows = self.count if by_example else 1
            along = [(v * delta[i]).double().reshape(rows, -1).sum(-1) for i, v in draw]
            total += float(torch.stack(along).sum(0).square().sum()) / 2
        return total / len(self.draws)


@torch.no_grad()
def output_scales(
    frontier: "Frontier", model: nn.Module, data: Data, curvature: Curvature | None = None
) -> dict[str, float]:
    """What the energies of each weight are to be multiplied with, to add up over layers.

    With the weight alone as factors of a quarter of its highest rank, the change δ of the model's
    output is measured on some examples. The scale makes ½ Σσ² of what is left out predict its
    price: ½ δᵀHδ by the loss's curvature H at the output, or ‖δ‖² without one.

    Args:
        data: batches that can be gone through again.
        curvature: of the loss, as it was used for the spectra.
    """
    affordable = WORK // (max(numbers_of(model), 1) * len(frontier.layers))
    wanted = min(max(affordable, FEWEST), MOST)
    some = _some(model, data, curvature, wanted)
    examples = sum(batch.count for batch in some)
    found: dict[str, float] = {}
    for name, spectrum in frontier.layers.items():
        rank = max(1, spectrum.weight.most // PART)
        left_out = float(spectrum.energies[rank:].sum()) / 2 * examples
        if left_out > 0 and spectrum.weight.most:
            small = frontier.view(model, {name: rank})
            scale = sum(batch.change(small) for batch in some) / left_out
            del small
            give_back()
            if math.isfinite(scale):
                found[name] = scale
    if not any(found.values()):
        return {}
    usual = median(scale for scale in found.values() if scale)
    scales = {name: max(found.get(name, usual), LEAST * usual) for name in frontier.layers}
    return best_scales(frontier, model, some, scales)


def best_scales(
    frontier: "Frontier", model: nn.Module, some: Sequence[Batch], scales: dict[str, float]
) -> dict[str, float]:
    """The power of the scales, about their median, whose ranks lose the least."""
    usual, known, found = median(scales.values()), dict[tuple[Any, ...], float](), []
    for power in POWERS:
        raised = {name: usual * (scale / usual) ** power for name, scale in scales.items()}
        try:
            ranks = replace(frontier, scales=raised).ranks(fraction=BUDGET)
        except ValueError:  # no ranks are small enough
            return scales
        key = tuple(ranks.items())
        if key not in known:
            small = frontier.view(model, ranks)
            lost = sum(batch.lost(small) for batch in some)
            known[key] = lost if math.isfinite(lost) else math.inf
            del small
            give_back()
        found.append((known[key], raised))
    return min(found, key=lambda each: each[0])[1]  # the first of equal ones


def _some(model: nn.Module, data: Data, curvature: Curvature | None, left: int) -> Sequence[Batch]:
    """The first examples, as many as are wanted and fit."""
    found: list[Batch] = []
    if curvature is not None:
        curvature.restart()
    for x, y in batches(data, model):
        rows = slice(min(size(x), left))
        if not found:
            one = Batch(model, take(x, slice(1)), take(y, slice(1)), None)
            numbers = sum(part.numel() for part in one.dense)
            numbers *= 1 if curvature is None else 1 + curvature.directions
            left = max(1, min(left, NUMBERS // max(numbers, 1)))
            rows = slice(min(size(x), left))
        found.append(Batch(model, take(x, rows), take(y, rows), curvature))
        left -= found[-1].count
        if left <= 0:
            break
    return found


def _leaf(part: Tensor) -> Tensor:
    """With a graph of its own, where a direction may be found."""
    return part.detach().requires_grad_() if part.is_floating_point() else part
