"""What compressing a model finds out: of each weight, and of the whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from svdbench.lowrank.output_errors import OutputError
from svdbench.lowrank.ranks.certify import Certificate
from svdbench.lowrank.ranks.evaluation import Unit
from svdbench.lowrank.ranks.frontier import Frontier, Ranks


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
