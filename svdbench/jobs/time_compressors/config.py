"""Keys of ``svdbench time-compressors``."""

from dataclasses import dataclass
from typing import Any

from svdbench.config.base import seed_option
from svdbench.config.fields import members, option, several
from svdbench.members import MODEL_COMPRESSORS
from svdbench.user_models.config import FRACTION, LossChoice, WeightChoice


@dataclass
class TimeCompressors(LossChoice, WeightChoice):
    """``svdbench time-compressors``: ways to compress a model, side by side."""

    seed: int = seed_option("seed for splitting the examples; each draw has its own seed")
    model_compressor: dict[str, Any] = members(MODEL_COMPRESSORS)
    methods: list[str] | None = several(
        None,
        "methods to compare, such as svd_llm,kronecker",
        "--methods NAME,…",
        null="all",
        choices=MODEL_COMPRESSORS,
    )
    against: str = option(
        "kronecker",
        "method that the others are compared with",
        typed="--against NAME",
        choices=MODEL_COMPRESSORS,
    )
    params: list[float] = several(
        [0.7, 0.5, 0.3],
        "budgets: fractions of the parameters to keep in the compressed weights",
        "--params FRACTION,…",
        above=0,
        at_most=1,
        remedy=FRACTION,
    )
    draws: int = option(
        3, "how often the calibration examples are drawn anew", typed="--draws N", at_least=1
    )
    calibration: int | None = option(
        None,
        "number of calibration examples in each draw",
        null="two thirds of the examples that are not held out",
        typed="--calibration N",
        at_least=1,
    )
    timing_s: float = option(
        2.0,
        "seconds for timing each compressed model and the dense one; 0: time nothing",
        at_least=0,
    )
