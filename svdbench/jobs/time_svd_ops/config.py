"""Keys of ``svdbench time-svd-ops``, and the names of operations."""

import math
from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option, several
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
