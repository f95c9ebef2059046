"""How far the output of a factored weight is from the dense one's: predicted, and measured."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.layers.base import Arrange, Side
from svdbench.lowrank.layers.weights import FactorableWeight
from svdbench.lowrank.ranks.examples import Data
from svdbench.lowrank.ranks.frontier import Frontier
from svdbench.lowrank.ranks.moments import observe
from svdbench.lowrank.ranks.spectrum import Spectrum


@dataclass(frozen=True)
class OutputError:
    """‖(W − W_k)X‖_F/‖WX‖_F for the inputs X of a weight.

    Attributes:
        bound: of those that calibrated, at most, by the spectrum alone; None where it does not
            tell, as of the plain kind, which saw none.
        measured: of others that were held out; None where none came.
    """

    bound: float | None
    measured: float | None


@torch.no_grad()
def output_errors(
    frontier: Frontier, model: nn.Module, ranks: Mapping[str, int | None], data: Data
) -> dict[str, OutputError]:
    """The errors of each weight that has a rank, by one forward pass of the dense model.

    Where a bias takes over what the mean input loses, the error is of X less the mean of the
    vectors that calibrated.

    Args:
        model: that which the frontier was made of.
        data: examples held out.
    """
    factored = {name: rank for name, rank in ranks.items() if rank is not None}
    sites = frontier.sites(model)
    sums = {
        name: [
            _Sums(sites[name], frontier.layers[name], rank, mean)
            for mean in frontier.layers[name].means
        ]
        for name, rank in factored.items()
    }
    if factored:
        observers = [
            (use, each)
            for name, several in sums.items()
            for use, each in zip(sites[name].uses, several, strict=True)
        ]
        observe(model, data, observers, folding=sites[next(iter(factored))].folding)
    return {
        name: OutputError(frontier.layers[name].output_bound(rank), _error(sums[name]))
        for name, rank in factored.items()
    }


class _Sums:
    """An observer that adds up ‖(W − W_k)x‖² and ‖Wx‖²."""

    def __init__(
        self, site: FactorableWeight, spectrum: Spectrum, rank: int, mean: Tensor | None
    ) -> None:
        self.W = site.matrix
        self.W1, self.W2 = spectrum.components(self.W, rank)
        self.mean = mean
        self.lost = self.whole = 0.0

    def columns(self, X: Tensor) -> None:
        X, W1, W2 = working(X), working(self.W1), working(self.W2)
        WX = X @ working(self.W).mT
        lost = WX - (X @ W2.mT) @ W1.mT
        if self.mean is not None:
            x = working(self.mean).unsqueeze(-1)
            lost -= (working(self.W) @ x - W1 @ (W2 @ x)).mT
        self._add(lost, WX)

    def picks(self, rows: Tensor) -> None:
        picked = working(self.W[rows.flatten()])
        near = working(self.W1[rows.flatten()]) @ working(self.W2)
        self._add(picked - near, picked)

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        return y

    def _add(self, lost: Tensor, whole: Tensor) -> None:
        self.lost += float(lost.square().sum(dtype=torch.float64))
        self.whole += float(whole.square().sum(dtype=torch.float64))


def _error(sums: list[_Sums]) -> float | None:
    """The error over all uses of a weight."""
    whole = sum(each.whole for each in sums)
    lost = sum(each.lost for each in sums)
    return (lost / whole) ** 0.5 if whole else None
