"""Keys of ``svdbench time-compressors``."""

from dataclasses import dataclass
from typing import Any

from svdbench.config.base import OWN, DeviceConfig, Dtype, seed_option
from svdbench.config.fields import members, option, section, several
from svdbench.members import MODEL_COMPRESSORS
from svdbench.user_models.config import DISTILLATIONS, FRACTION, Finetune, UserModelConfig

FOLDINGS = ("spatial", "channel")


@dataclass
class TimeCompressors(DeviceConfig):
    """``svdbench time-compressors``: ways to compress a model, side by side."""

    seed: int = seed_option("seed for parting the examples; each draw has one of its own")
    model: UserModelConfig = section(UserModelConfig)
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
        "budgets: fractions of the numbers in the weights that are compressed",
        "--params FRACTION,…",
        above=0,
        at_most=1,
        remedy=FRACTION,
    )
    draws: int = option(
        3, "number of times that the calibration examples are drawn", typed="--draws N", at_least=1
    )
    calibration: int | None = option(
        None,
        "number of examples to calibrate on, in each draw",
        null="two thirds of those that are not held out",
        typed="--calibration N",
        at_least=1,
    )
    loss: str | None = option(
        None,
        "loss of outputs and targets, as MODULE:FUNCTION",
        null="cross entropy or mean squared error; distillation if there are no targets",
        typed="--loss FUNCTION",
        calls=True,
        panel=OWN,
    )
    distill: str | None = option(
        None,
        "compare outputs with those of the dense model instead of targets: by the cosine, mse "
        "(mean squared error), kl (of logits), or auto for the one that suits",
        null="only if there are no targets",
        typed="--distill NAME",
        choices=DISTILLATIONS,
        noun="distillation",
        panel=OWN,
    )
    temperature: float = option(
        1.0,
        "number that logits are divided by, for --distill kl",
        typed="--temperature T",
        above=0,
        panel=OWN,
    )
    layers: list[str] | None = option(
        None, "names of the weights to compress", null="all", unique=True, not_empty=True
    )
    skip_last: bool = option(False, "leave the last layer dense")
    embeddings: bool = option(
        True,
        "whether embeddings are factored, and layers tied to them",
        typed="--no-embeddings",
        default_text="they are",
    )
    folding: str = option(
        FOLDINGS[0],
        "how kernels of convolutions are split: h×1 then 1×w (spatial), h×w then 1×1 (channel)",
        choices=FOLDINGS,
    )
    finetune: Finetune = section(Finetune)
    timing_s: float = option(
        2.0,
        "seconds for timing each compressed model beside the dense one; 0: time nothing",
        at_least=0,
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
                "--data my_net:loader"
            )
        if self.loss is not None and self.distill is not None:
            raise ValueError("loss and distill are given: give one of them")
        if self.temperature != 1 and (self.loss or self.distill in ("cosine", "mse")):
            raise ValueError("temperature is for distillation by kl: leave it out")
        if self.finetune.epochs and self.dtype in (Dtype.bfloat16, Dtype.float16):
            raise ValueError(
                f"fine-tuning in {self.dtype.value} loses its steps to rounding: use float32"
            )
