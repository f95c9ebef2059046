"""Keys of ``svdbench time-svd-ops``."""

import math
from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option
from svdbench.members import OPERATIONS
from svdbench.schemas.timing import StepTimingConfig


@dataclass
class TimeSvdOps(StepTimingConfig):
    """``svdbench time-svd-ops``."""

    matrix_op: dict[str, Any] = members(OPERATIONS)
    ops: list[str] | None = option(
        None,
        "operations to time, as inverse,logdet",
        null="all",
        flag="--ops",
        metavar="NAME,…",
        unique=True,
        not_empty=True,
    )
    sigma: list[float] = option(
        [0.5, 1.5], "smallest and largest singular value (eigenvalue, if symmetric)"
    )

    def check(self) -> None:
        super().check()
        if self.ops is not None:
            from svdbench.matrix_ops import check_operations

            check_operations(self.ops)
        if len(self.sigma) != 2 or not 0 < self.sigma[0] <= self.sigma[1] < math.inf:
            raise ValueError(
                f"sigma is {self.sigma}: give the smallest and the largest singular value, "
                "both above 0, as in sigma=[0.5,1.5]"
            )
