"""Keys of ``svdbench compress MODULE:BUILD``: a model of the user's own."""

from dataclasses import dataclass

from svdbench.config.fields import option
from svdbench.user_models.config import (
    RankChoice,
    WeightChoice,
    calibration_option,
    increase_option,
)

SIZE, LATENCY = "size", "latency"


@dataclass
class CompressModel(RankChoice, WeightChoice):
    """``svdbench compress MODULE:BUILD``: ranks for all weights of a model together."""

    max_loss_increase: float | None = increase_option(
        "increase of the loss to allow, in the loss's unit (nats for cross entropy)"
    )
    keep_if: str = option(
        SIZE,
        "factor a layer if it gets smaller (size), or only if it is measured to be faster, too "
        "(latency)",
        typed="--keep-if NAME",
        choices=(SIZE, LATENCY),
        noun="keep_if",
    )
    calibration: int | None = calibration_option("examples to calibrate on", "half of them")
    timing_s: float = option(
        4.0, "seconds for timing the model, and again for its layers; 0: time nothing", at_least=0
    )

    def check(self) -> None:
        super().check()
        if not self.timing_s and (self.keep_if == LATENCY or self.budget.latency is not None):
            raise ValueError("timing_s is 0, but a latency takes seconds to measure: raise it")
