"""What configurations of all jobs share: where a job runs, and checks of a range."""

import math
from dataclasses import dataclass
from enum import Enum


class Dtype(Enum):
    """Of V and X. Half precision is computed in float32."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass
class Job:
    """Where a job runs, on which random numbers, and where its results go.

    Attributes:
        parallel: whether to measure seconds beside other jobs of a sweep, on one machine.
    """

    dtype: Dtype = Dtype.float32
    device: str = "cpu"
    threads: int | None = None
    parallel: bool = False
    seed: int = 0
    name: str | None = None
    results: str = "results"

    def __post_init__(self) -> None:
        at_least(1, threads=self.threads)
        if self.device != "cpu" and not self.device.startswith("cuda"):
            raise ValueError(f"device is {self.device!r}: choose cpu, cuda or cuda:N")


def at_least(least: float, **values: float | None) -> None:
    """Raise ValueError for the first value below ``least``; None is any."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: it must be {least} or more")


def above_zero(**values: float | None) -> None:
    """Raise ValueError for the first value that is not positive and finite; None is any."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}: it must be above 0")
