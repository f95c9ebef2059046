"""What errors of layers' outputs, which are in units of their own, do to the model's output."""

from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from svdbench.lowrank.ranks.examples import Data, Inputs, batches, called, each, evaluating, size
from svdbench.lowrank.ranks.outputs import tensors_of

if TYPE_CHECKING:
    from svdbench.lowrank.ranks.frontier import Frontier

# Examples that the effects are measured on.
EXAMPLES = 64


@torch.no_grad()
def output_scales(frontier: "Frontier", model: nn.Module, data: Data) -> dict[str, float]:
    """What the energies of each weight are to be multiplied with, to add up over layers.

    With the weight alone as factors of half its highest rank, the squared change of the model's
    output is measured on some examples; the scale makes ½ Σσ² of what is left out predict it.

    Args:
        data: batches that can be gone through again.
    """
    some = _some(data, model)
    with evaluating(model):
        dense = [_outputs(model, x) for x in some]

    def change(name: str, rank: int) -> float:
        small = frontier.view(model, {name: rank})
        with evaluating(small):
            pairs = zip(some, dense, strict=True)
            total = sum(float((_outputs(small, x) - y).square().sum()) for x, y in pairs)
        return total / sum(map(size, some))

    found = {}
    for name, spectrum in frontier.layers.items():
        rank = spectrum.weight.most // 2
        left_out = float(spectrum.energies[rank:].sum()) / 2
        if rank and left_out:  # else there is no choice but one rank, or dense
            found[name] = change(name, rank) / left_out
    return found


def _some(data: Data, model: nn.Module) -> list[Inputs]:
    """The first batches, until there are so many examples."""
    found: list[Inputs] = []
    for x, _ in takewhile(lambda _: sum(map(size, found)) < EXAMPLES, batches(data, model)):
        found.append(x)
    return found


def _outputs(model: nn.Module, x: Inputs) -> Tensor:
    """All numbers that a model returns for a batch."""
    parts = tensors_of(called(model, each(x, torch.clone)))
    return torch.cat([part.double().flatten() for part in parts if part.is_floating_point()])
