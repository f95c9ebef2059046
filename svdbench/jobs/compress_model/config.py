"""Keys of ``svdbench compress MODULE:BUILD``: a model of the user's own."""

from dataclasses import dataclass

from svdbench.config.base import DeviceConfig, Dtype
from svdbench.config.fields import option, section
from svdbench.user_models.config import Finetune, RankChoice, UserModelConfig, increase_option

SIZE, LATENCY = "size", "latency"
FOLDINGS = ("spatial", "channel")


@dataclass
class CompressModel(RankChoice, DeviceConfig):
    """``svdbench compress MODULE:BUILD``: ranks for all weights of a model together."""

    model: UserModelConfig = section(UserModelConfig)
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
    layers: list[str] | None = option(
        None, "names of the weights to compress", null="all", unique=True, not_empty=True
    )
    embeddings: bool = option(
        True,
        "whether embeddings are factored, and layers tied to them",
        typed="--no-embeddings",
        default_text="they are",
    )
    skip_last: bool = option(False, "leave the last layer dense")
    folding: str = option(
        FOLDINGS[0],
        "how kernels of convolutions are split: h×1 then 1×w (spatial), h×w then 1×1 (channel)",
        choices=FOLDINGS,
    )
    calibration: int | None = option(
        None,
        "number of examples to calibrate on",
        null="half of them",
        typed="--calibration N",
        at_least=1,
    )
    finetune: Finetune = section(Finetune)
    timing_s: float = option(
        4.0, "seconds for timing the model, and again for its layers; 0: time nothing", at_least=0
    )

    def check(self) -> None:
        super().check()
        if self.model.build is None:
            raise ValueError(
                "there is no model: name a function that returns it, such as my_net:build"
            )
        if self.model.loader is None:
            raise ValueError(
                "there are no examples: name a function that returns them, such as "
                "--data my_net:loader; for a Hugging Face model also --data text.txt"
            )
        if not self.timing_s and (self.keep_if == LATENCY or self.budget.latency is not None):
            raise ValueError("timing_s is 0, but a latency takes seconds to measure: raise it")
        if self.finetune.epochs and self.dtype in (Dtype.bfloat16, Dtype.float16):
            raise ValueError(
                f"fine-tuning in {self.dtype.value} loses its steps to rounding: use float32"
            )
