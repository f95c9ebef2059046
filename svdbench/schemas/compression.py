"""Configuration of ``svdbench compress``: networks that are compressed while they are trained."""

from dataclasses import dataclass, field
from typing import Any

from svdbench.registry import refuse_unknown
from svdbench.schemas.base import Dtype, Job, above_zero, at_least
from svdbench.schemas.training import Optimizer, Schedule

EPOCH, BATCH = "epoch", "batch"
COLUMNS = ("accuracy", "loss", "time_ratio")
DTYPES = (Dtype.float32, Dtype.float64)


@dataclass
class Data:
    """A data set, by the name of its YAML, and the folder with the files of all."""

    name: str = "digits"
    dir: str | None = None


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
class Compress(Job):
    """``svdbench compress``: a network trained with and without compression, side by side.

    Attributes:
        net: sizes of the layers; None: a hidden pair of 15 between those of the data set.
        every: epoch, batch, or the number of batches from compression to compression.
        epochs: None: ten, or more for a small data set.
        calibration: training examples that are looked at, by compressors that do.
        max_minutes: of all training together; None: any.
        published: numbers to compare with.
    """

    data: Data = field(default_factory=Data)
    net: str | None = None
    activation: str = "relu"
    methods: list[str] = field(default_factory=lambda: ["rsvd", "truncsvd"])
    ranks: list[int] = field(default_factory=lambda: [10])
    every: str = EPOCH
    epochs: int | None = None
    batch_size: int = 64
    shuffle: bool = True
    seeds: int = 5
    calibration: int = 2048
    max_minutes: float | None = None
    latency: Latency = field(default_factory=Latency)
    compressor: dict[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    published: list[Published] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype.value}: train in float32 or float64")
        whole = {"epochs": self.epochs, "batch_size": self.batch_size, "seeds": self.seeds}
        at_least(1, **whole, calibration=self.calibration)
        at_least(0, seed=self.seed)
        above_zero(max_minutes=self.max_minutes)
        if self.every not in (EPOCH, BATCH) and not (self.every.isdecimal() and int(self.every)):
            raise ValueError(
                f"every is {self.every!r}: choose {EPOCH}, {BATCH}, or a number of batches"
            )
        self._check_lists()
        optimizer = self.optimizer
        if optimizer.clip is not None or optimizer.orthogonal_lr is not None:
            raise ValueError("optimizer.clip and optimizer.orthogonal_lr are for svdbench train")
        if optimizer.schedule is not Schedule.constant:
            raise ValueError("optimizer.schedule must be constant here: leave it out")

    def _check_lists(self) -> None:
        for name, values in (("methods", self.methods), ("ranks", self.ranks)):
            if not values:
                raise ValueError(f"{name} is empty: name at least one")
            if len(set(map(str, values))) < len(values):
                raise ValueError(f"{name} names something twice: {values}")
        at_least(1, ranks=min(self.ranks))
        refuse_unknown("compressor", self.methods, sorted(self.compressor))
