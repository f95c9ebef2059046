"""Compare methods that compress a model to low rank, with equal parameters and the same examples.

MODULE:BUILD names a function that returns the model, and --data one that returns its examples.
Alternatively FOLDER is a model of Hugging Face transformers, and --data a text file. Every method
compresses the same weights, with the same calibration examples in each of several draws and the
same budgets, and is judged by the loss on examples that none of them sees. Differences from
svdbench's own method are paired, example by example. Only the functions that you name are called.

Writes results/time-compressors/NAME: CSV tables of the losses and a summary, a plot, the
configuration and the environment.

Examples:
    svdbench time-compressors my_net:build --data my_net:loader
    svdbench time-compressors my_net:build --data my_net:loader --params 0.5 --draws 1
"""

from dataclasses import dataclass
from typing import Any

from svdbench.config.base import OWN_MODEL, seed_option
from svdbench.config.fields import members, option, several
from svdbench.job import Job
from svdbench.members import MODEL_COMPRESSORS
from svdbench.user_models.config import (
    FRACTION,
    LossChoice,
    WeightChoice,
    calibration_option,
)


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
    calibration: int | None = calibration_option(
        "calibration examples in each draw", "two thirds of the examples that are not held out"
    )
    timing_s: float = option(
        2.0,
        "seconds for timing each compressed model and the dense one; 0: time nothing",
        at_least=0,
    )


JOB = Job(
    "time-compressors",
    TimeCompressors,
    __name__,
    OWN_MODEL,
    panel="Low rank",
    place=2,
)
