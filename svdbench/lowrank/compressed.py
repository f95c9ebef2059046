"""Results of compressing a model: for each weight and its output, and for the whole model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.layers.base import Arrange, Side
from svdbench.lowrank.layers.weights import FactorableWeight
from svdbench.lowrank.ranks.certify import Certificate
from svdbench.lowrank.ranks.evaluation import Unit
from svdbench.lowrank.ranks.examples import Data
from svdbench.lowrank.ranks.frontier import Frontier, Ranks
from svdbench.lowrank.ranks.moments import observe
from svdbench.lowrank.ranks.spectrum import Spectrum


@dataclass(frozen=True)
class OutputError:
    """‖(W − W_k)X‖_F/‖WX‖_F for the inputs X of a weight.

    Attributes:
        bound: upper bound on the calibration inputs, from the spectrum; None if unknown, as for the
            plain kind, which uses no inputs.
        measured: on held-out inputs; None if there were none.
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


@dataclass(frozen=True)
class BeforeAfter:
    """A value for the dense model, and for the compressed one."""

    before: float
    after: float


@dataclass(frozen=True)
class CompressedLayer:
    """A weight before and after compression.

    Attributes:
        name, rows, columns: name of the weight, and its size as a matrix.
        rank: rank of its factors; None: dense.
        numbers: number of parameters.
        macs: multiply-adds per example in the weight's part of its layer.
        latency_s: seconds per batch of the whole layer, with its other weights dense; None if the
            weight stays dense or nothing was timed.
        error: relative error of its output; None if it stays dense.
    """

    name: str
    rows: int
    columns: int
    rank: int | None
    numbers: BeforeAfter
    macs: BeforeAfter
    latency_s: BeforeAfter | None
    error: OutputError | None


@dataclass(frozen=True)
class Compressed:
    """A compressed model and its measurements.

    Attributes:
        model: the compressed model; the original is unchanged.
        ranks: ranks by the names of the weights; None: dense.
        layers: the result for each weight.
        skipped: weights that were left out, with the reasons.
        certificate: the measured increase of the loss; after fine-tuning, that of the tuned model.
        n_params, bytes: number and size of the whole model's parameters, shared ones counted once.
        macs: multiply-adds of the whole model per example.
        latency_s: seconds per batch of the whole model, both models timed in turn; None if not
            timed.
        batch: number of examples in that batch.
        tuned: the mean loss on the search examples, before fine-tuning and after each epoch.
        warnings: warnings about the data, one line each.
        splits: how the examples were split, in words.
        loss: the loss, in words.
        unit: what the losses are of: each "example" or each "batch".
        curvature: the curvature behind the predicted losses, see
            :class:`svdbench.lowrank.Frontier`.
        frontier: the frontier from which the ranks were chosen. Its components were moved into
            ``model``; for models of other sizes, make a new one with
            :func:`svdbench.lowrank.rank_frontier`.

    Example:
        >>> net, X = torch.nn.Sequential(torch.nn.Linear(20, 30)), torch.randn(64, 20)
        >>> found = compress(net, (X, torch.randn(64, 30)), params=0.5, skip_last=False)
        >>> found.n_params.after < found.n_params.before
        True
    """

    model: nn.Module
    ranks: Ranks
    layers: list[CompressedLayer]
    skipped: Mapping[str, str]
    certificate: Certificate
    n_params: BeforeAfter
    bytes: BeforeAfter
    macs: BeforeAfter
    latency_s: BeforeAfter | None
    batch: int
    tuned: list[float]
    warnings: list[str]
    splits: str
    loss: str
    unit: Unit
    curvature: str
    frontier: Frontier = field(repr=False)
