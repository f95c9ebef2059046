"""Time matrix operations through the factors of W = UΣVᵀ, and through torch.linalg.

The operations are the inverse, log-determinant, exponential and Cayley map of W (d, d), applied
to X (d, 32). One repetition computes the value and its gradients with respect to U, Σ, V and X, or
to W and X. Every method is checked against float64 before and after its timing, and its error is
shown next to its time.

Writes results/time-svd-ops/NAME: CSV tables of all samples and a summary, a plot, the
configuration and the environment.

Examples:
    svdbench time-svd-ops --quick
    svdbench time-svd-ops --ops inverse,logdet --d 256,512 --dtype float64
"""

import math
from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option, several
from svdbench.job import Job
from svdbench.members import OPERATIONS
from svdbench.timings.config import StepTimingConfig, methods_option


def operation_names() -> list[str]:
    """The operations, sorted. Does not import torch."""
    return sorted({operation_of(name) for name in OPERATIONS.names()})


def operation_of(name: str) -> str:
    """The operation in a member's name: ``inverse`` of ``inverse_svd``."""
    return name.partition("_")[0]


@dataclass
class TimeSvdOps(StepTimingConfig):
    matrix_op: dict[str, Any] = members(OPERATIONS)
    methods: list[str] | None = methods_option(
        OPERATIONS, "methods to time, such as inverse_svd,inverse_solve"
    )
    ops: list[str] | None = several(
        None,
        "operations to time",
        "--ops NAME,…",
        null="all",
        choices=operation_names(),
        noun="operation",
    )
    sigma: list[float] = option(
        [0.5, 1.5], "smallest and largest singular value (eigenvalue, if symmetric)"
    )

    def check(self) -> None:
        super().check()
        if len(self.sigma) != 2 or not 0 < self.sigma[0] <= self.sigma[1] < math.inf:
            raise ValueError(
                f"sigma is {self.sigma}: give the smallest and the largest singular value, "
                "both above 0, such as sigma=[0.5,1.5]"
            )


JOB = Job("time-svd-ops", TimeSvdOps, __name__, panel="Timing", place=3)
