"""The configuration of the job that measures block sizes."""

from dataclasses import dataclass, field

from svdbench.schemas.base import Job, at_least, each_once


@dataclass
class Shapes:
    """Reflectors V (n, d) applied to X (d, m), for every d and every m."""

    d: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024])
    n: int | None = None
    m: list[int] = field(default_factory=lambda: [8, 32, 128])

    def __post_init__(self) -> None:
        for key, values in (("sizes.d", self.d), ("sizes.m", self.m)):
            each_once(**{key: values})
            for value in values:
                at_least(1, **{key: value})
        at_least(1, **{"sizes.n": self.n})


@dataclass
class Budget:
    """Seconds of measuring for each shape."""

    budget_s: float = 8.0

    def __post_init__(self) -> None:
        if not self.budget_s > 0:
            raise ValueError(f"measure.budget_s is {self.budget_s}: set it above 0")


@dataclass
class TuneBlocks(Job):
    """``svdbench tune --plot``: several m, and a budget is all there is to measuring."""

    sizes: Shapes = field(default_factory=Shapes)
    measure: Budget = field(default_factory=Budget)
