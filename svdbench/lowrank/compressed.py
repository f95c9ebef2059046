"""What compressing a model finds out: of each weight and its output, and of the whole."""

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


@dataclass(frozen=True)
class BeforeAfter:
    """Something of the dense model, and of the compressed one."""

    before: float
    after: float


@dataclass(frozen=True)
class CompressedLayer:
    """A weight before and after.

    Attributes:
        name, rows, columns: of the weight as a matrix.
        rank: of its factors; None: dense.
        numbers: in it.
        macs: multiply-adds for an example, of its part of the layer that it is in.
        latency_s: of a batch in the whole layer, with its other weights dense; None where
            it stays dense or nothing was timed.
        error: how far its output is off; None where it stays dense.
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
    """A compressed model, and all that was found out about it.

    Attributes:
        model: another module than the one it was made from.
        ranks: of the weights by name; None: dense.
        layers: the result for each weight.
        skipped: weights that were not looked at, and why.
        certificate: by how much its loss is higher. After fine-tuning, that of the tuned model.
        n_params, bytes: of the whole model's parameters, those that are shared counted once.
        macs: multiply-adds of the whole model for an example.
        latency_s: of a batch through the whole model, measured in turns; None where nothing was.
        batch: how many examples that is.
        tuned: the mean loss on the search examples, before fine-tuning and after each epoch.
        warnings: what to keep in mind of the data, each a line.
        splits: how the examples were parted, in words.
        loss: which loss it was judged by, in words.
        unit: what losses were compared of: each "example", or each "batch".
        curvature: of the loss that the choice is by, see :class:`svdbench.lowrank.Frontier`.
        frontier: from which the point was chosen. Its components went into ``model``: for models
            at other points make one with :func:`svdbench.lowrank.rank_frontier`.

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
