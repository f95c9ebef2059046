"""Configurations of the jobs that time methods."""

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from svdbench.schemas.base import Job, at_least, each_once


class L2(Enum):
    """A GPU's last cache at the start of each repetition: as the one before left it, or emptied."""

    warm = "warm"
    cold = "cold"


@dataclass
class Measure:
    """How long and how exactly to measure; ``measure.plan.TimingPlan`` checks the ranges."""

    budget_s: float = 150.0
    precision: float = 0.02
    min_reps: int = 5
    max_reps: int = 300
    warmup_reps: int = 2
    timeout_s: float = 20.0
    l2: L2 = L2.warm


@dataclass
class Measured(Job):
    """What every timing job has."""

    measure: Measure = field(default_factory=Measure)


@dataclass
class Sizes:
    """Reflectors V (n, d) applied to X (d, m)."""

    d: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024])
    n: int | None = None
    m: int = 32

    def __post_init__(self) -> None:
        each_once(**{"sizes.d": self.d})
        for d in self.d:
            at_least(1, **{"sizes.d": d})
        at_least(1, **{"sizes.n": self.n, "sizes.m": self.m})


@dataclass
class Timing(Measured):
    """What is timed for each size d."""

    sizes: Sizes = field(default_factory=Sizes)


@dataclass
class TimeFastH(Timing):
    """``svdbench time-fasth``."""

    orthogonal: dict[str, Any] = field(default_factory=dict)
    methods: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        each_once(methods=self.methods)
        from svdbench.members import METHODS

        if self.methods is not None:
            METHODS.check(self.methods)


@dataclass
class TimeSvdOps(Timing):
    """``svdbench time-svd-ops``."""

    matrix_op: dict[str, Any] = field(default_factory=dict)
    ops: list[str] | None = None
    sigma: list[float] = field(default_factory=lambda: [0.5, 1.5])

    def __post_init__(self) -> None:
        super().__post_init__()
        each_once(ops=self.ops)
        from svdbench.matrix_ops import check_operations

        if self.ops is not None:
            check_operations(self.ops)
        if len(self.sigma) != 2 or not 0 < self.sigma[0] <= self.sigma[1] < math.inf:
            raise ValueError(
                f"sigma is {self.sigma}: give the smallest and the largest singular value, "
                "both above 0, as in sigma=[0.5,1.5]"
            )


@dataclass
class LoopSizes:
    """Recurrent networks of every hidden size, over sequences of every length.

    Attributes:
        batch: sequences.
        inputs: numbers that come in at each step.
        reflectors: of U, and of V; None: as many as hidden units.
    """

    hidden: list[int] = field(default_factory=lambda: [64, 128, 256])
    length: list[int] = field(default_factory=lambda: [200])
    batch: int = 128
    inputs: int = 2
    reflectors: list[int | None] = field(default_factory=lambda: [16, None])

    def __post_init__(self) -> None:
        lists: dict[str, list[Any]] = {"hidden": self.hidden, "length": self.length}
        lists["reflectors"] = self.reflectors
        for key, values in lists.items():
            each_once(**{f"sizes.{key}": values})
            for value in values:
                at_least(1, **{f"sizes.{key}": value})
        at_least(1, **{"sizes.batch": self.batch, "sizes.inputs": self.inputs})
        most, least = max((m for m in self.reflectors if m), default=1), min(self.hidden)
        if most > least:
            raise ValueError(
                f"sizes.reflectors has {most}, more than the {least} hidden units: "
                f"give at most {least}, or null for as many"
            )


@dataclass
class TimeRNN(Measured):
    """``svdbench time-rnn``."""

    sizes: LoopSizes = field(default_factory=LoopSizes)
    rnn: dict[str, Any] = field(default_factory=dict)
    methods: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        each_once(methods=self.methods)
        from svdbench.members import LOOPS

        if self.methods is not None:
            LOOPS.check(self.methods)
