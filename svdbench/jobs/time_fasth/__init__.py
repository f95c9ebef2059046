"""Time a gradient step of every orthogonal parametrisation.

A step computes φ(V)·X, where φ(V) is an orthogonal matrix, and the gradients with respect to V and
X, for V (d, d) and X (d, 32). Before and after its timing, a method's output, orthogonality and
gradients are checked against float64; a method that fails gets no time.

Writes results/time-fasth/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment.

Examples:
    svdbench time-fasth --quick
    svdbench time-fasth --d 300,1000 --methods fasth,cayley
    svdbench time-fasth --device cuda --dtype bfloat16
"""

from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members
from svdbench.job import Job
from svdbench.members import METHODS
from svdbench.timings.config import StepTimingConfig, methods_option


@dataclass
class TimeFastH(StepTimingConfig):
    orthogonal: dict[str, Any] = members(METHODS)
    methods: list[str] | None = methods_option(
        METHODS, "methods to time; `svdbench list methods` lists them"
    )


JOB = Job("time-fasth", TimeFastH, __name__, panel="Timing", place=1)
