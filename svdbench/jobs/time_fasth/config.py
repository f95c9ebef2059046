"""Keys of ``svdbench time-fasth``."""

from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option
from svdbench.members import METHODS
from svdbench.timings.config import StepTimingConfig


@dataclass
class TimeFastH(StepTimingConfig):
    orthogonal: dict[str, Any] = members(METHODS)
    methods: list[str] | None = option(
        None,
        "methods to time; `svdbench methods` lists them",
        null="all",
        flag="--methods",
        metavar="NAME,…",
        choices=METHODS,
        unique=True,
        not_empty=True,
    )
