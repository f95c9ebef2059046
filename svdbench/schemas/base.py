"""What configurations of all jobs share: where a job runs, and checks of a range."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from svdbench.refusals import refuse_name, refuse_repeated

# More would be a slip of the finger, and the system may refuse them in the midst of a run.
MOST_THREADS = 1024
SEEDS = 2**32


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
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads is {self.threads}: it must be from 1 to {MOST_THREADS}")
        check_seed(self.seed)
        refuse_name(self.name)
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", self.device, re.ASCII):
            raise ValueError(f"device is {self.device!r}: choose cpu, cuda or cuda:N")


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that not every library takes."""
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed is {seed}: it must be from 0 to {SEEDS - 1}")


def each_once(**lists: Sequence[Any] | None) -> None:
    """Raise ValueError for the first list that is empty or has something twice; None is any."""
    for key, values in lists.items():
        if values is not None and not values:
            raise ValueError(f"{key} is empty: give at least one value")
        refuse_repeated(key, values or ())


def at_least(least: float, **values: float | None) -> None:
    """Raise ValueError for the first value below ``least`` or not finite; None is any."""
    for name, value in values.items():
        if value is not None and not least <= value < math.inf:
            finite = ", and finite" if isinstance(value, float) else ""
            raise ValueError(f"{name} is {value}: it must be {least} or more{finite}")


def above_zero(**values: float | None) -> None:
    """Raise ValueError for the first value that is not positive and finite; None is any."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}: it must be above 0, and finite")
