"""Configuration of networks that classify, trained side by side: what such jobs have alike."""

from dataclasses import dataclass, field

from svdbench.schemas.base import Dtype, Job, above_zero, at_least
from svdbench.schemas.training import Optimizer, Schedule

DTYPES = (Dtype.float32, Dtype.float64)


@dataclass
class Data:
    """A data set, by the name of its YAML, and the folder with the files of all."""

    name: str = "digits"
    dir: str | None = None


@dataclass
class SideBySide(Job):
    """Feed-forward networks trained side by side on a data set, once for each seed.

    Attributes:
        net: sizes of the layers; None: the job's hidden units between those of the data set.
        epochs: None: the job's number, or more for a small data set.
        batch_size: None: 2048, or less for a small data set.
        max_minutes: of all training together; None: any.
    """

    data: Data = field(default_factory=Data)
    net: str | None = None
    activation: str = "relu"
    epochs: int | None = None
    batch_size: int | None = None
    shuffle: bool = True
    seeds: int = 5
    max_minutes: float | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype.value}: train in float32 or float64")
        at_least(1, epochs=self.epochs, batch_size=self.batch_size, seeds=self.seeds)
        above_zero(max_minutes=self.max_minutes)
        optimizer = self.optimizer
        if optimizer.clip is not None or optimizer.orthogonal_lr is not None:
            raise ValueError("optimizer.clip and optimizer.orthogonal_lr are for svdbench train")
        if optimizer.schedule is not Schedule.constant:
            raise ValueError("optimizer.schedule must be constant here: leave it out")
