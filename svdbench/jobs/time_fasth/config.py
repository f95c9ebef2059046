"""Keys of ``svdbench time-fasth``."""

from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members
from svdbench.members import METHODS
from svdbench.timings.config import StepTimingConfig, methods_option


@dataclass
class TimeFastH(StepTimingConfig):
    orthogonal: dict[str, Any] = members(METHODS)
    methods: list[str] | None = methods_option(
        METHODS, "methods to time; `svdbench list methods` lists them"
    )
