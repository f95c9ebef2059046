"""Keys of ``svdbench compress MODULE:BUILD``: a model of the user's own."""

from dataclasses import dataclass

from svdbench.config.fields import option
from svdbench.user_models.config import RankChoice, WeightChoice, increase_option

SIZE, LATENCY = "size", "latency"


@dataclass
class CompressModel(RankChoice, WeightChoice):
    """``svdbench compress MODULE:BUILD``: ranks for all weights of a model together."""

    max_loss_increase: float | None = increase_option(
        "largest increase of the loss, in its unit (nats for cross entropy)"
    )
    keep_if: str = option(
        SIZE,
        "factor a layer if that makes it smaller (size), or only if it is also measured to be "
        "faster (latency)",
        typed="--keep-if NAME",
        choices=(SIZE, LATENCY),
        noun="keep_if",
    )
    calibration: int | None = option(
        None,
        "number of examples to calibrate on",
        null="half of all",
        typed="--calibration N",
        at_least=1,
    )
    timing_s: float = option(
        4.0, "seconds for timing the model, and as many for its layers; 0: time nothing", at_least=0
    )

    def check(self) -> None:
        super().check()
        if not self.timing_s and (self.keep_if == LATENCY or self.budget.latency is not None):
            raise ValueError("timing_s is 0, but latencies take time to measure: use timing_s=4")
