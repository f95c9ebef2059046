"""A compressed model, and all that was found out about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from svdbench.lowrank.output_errors import OutputError
from svdbench.lowrank.reveal.certify import Certificate
from svdbench.lowrank.reveal.frontier import Frontier, Ranks


@dataclass(frozen=True)
class BeforeAfter:
    """Something of the dense model, and of the compressed one."""

    before: float
    after: float


@dataclass(frozen=True)
class CompressedLayer:
    """What became of a weight.

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
        layers: what became of each weight.
        skipped: weights that were not looked at, and why.
        certificate: by how much its loss is higher. After fine-tuning, that of the tuned model.
        n_params, bytes: of the whole model's parameters, those that are shared counted once.
        macs: multiply-adds of the whole model for an example.
        latency_s: of a batch through the whole model, measured in turns; None where nothing was.
        batch: how many examples that is.
        tuned: the mean loss on the search examples, before fine-tuning and after each epoch.
        warnings: what to keep in mind of the data, each a line.
        splits: how the examples were parted, in words.
        frontier: from which the point was chosen.
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
    frontier: Frontier = field(repr=False)
