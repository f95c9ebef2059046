"""Configuration of ``svdbench compress``: networks that are compressed while they are trained."""

from dataclasses import dataclass, field
from typing import Any

from svdbench.members import refuse_unknown
from svdbench.schemas.base import above_zero, at_least, each_once
from svdbench.schemas.classification import SideBySide

EPOCH, BATCH = "epoch", "batch"
COLUMNS = ("accuracy", "loss", "time_ratio")


@dataclass
class Latency:
    """How inference is timed: so many examples at once, for so long, all networks together."""

    batch: int = 256
    budget_s: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, **{"latency.batch": self.batch})
        above_zero(**{"latency.budget_s": self.budget_s})


@dataclass
class Published:
    """A published number to stand beside ours.

    Attributes:
        method: whose, ``stock`` or a compressor.
        column: accuracy or loss on the test set, or time_ratio, the time of the whole
            training over that of stock.
        epoch: counted from 1; None: the last. Of no meaning for time_ratio.
        value: as published.
        tolerance: how far it may be off as it was read from a figure.
    """

    method: str = ""
    column: str = ""
    epoch: int | None = None
    value: float = 0.0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.column not in COLUMNS:
            raise ValueError(
                f"published.column is {self.column!r}: choose one of {', '.join(COLUMNS)}"
            )


@dataclass
class Compress(SideBySide):
    """``svdbench compress``: a network trained with and without compression, side by side.

    Attributes:
        every: epoch, batch, or the number of batches from compression to compression.
        calibration: training examples that are looked at, by compressors that do.
        published: numbers to compare with.
    """

    methods: list[str] = field(default_factory=lambda: ["rsvd", "truncsvd"])
    ranks: list[int] = field(default_factory=lambda: [10])
    every: str = EPOCH
    batch_size: int = 64
    calibration: int = 2048
    latency: Latency = field(default_factory=Latency)
    compressor: dict[str, Any] = field(default_factory=dict)
    published: list[Published] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, calibration=self.calibration)
        if self.every not in (EPOCH, BATCH) and not (self.every.isdecimal() and int(self.every)):
            raise ValueError(
                f"every is {self.every!r}: choose {EPOCH}, {BATCH}, or a number of batches"
            )
        each_once(methods=self.methods, ranks=self.ranks)
        at_least(1, ranks=min(self.ranks))
        refuse_unknown("compressor", self.methods, sorted(self.compressor))
