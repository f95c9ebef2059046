"""Configuration of ``svdbench compress MODULE:FUNCTION``: a model of the user's own."""

from dataclasses import dataclass, field

from svdbench.members import refuse_unknown
from svdbench.schemas.base import Dtype, Job, above_zero, at_least, each_once
from svdbench.schemas.reveal import KINDS, Share, UserModel

SIZE, LATENCY = "size", "latency"
FOLDINGS = ("spatial", "channel")


@dataclass
class Finetune:
    """Training after compression, by AdamW on the calibration examples."""

    epochs: int = 0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        at_least(0, **{"finetune.epochs": self.epochs})
        above_zero(**{"finetune.lr": self.lr})


@dataclass
class CompressModel(Job):
    """``svdbench compress MODULE:FUNCTION``: ranks for all weights of a model together.

    Attributes:
        loss: a function as MODULE:FUNCTION, of outputs and targets; None: the usual one.
        max_loss_increase: in the loss's own unit; None: 0.01, or a budget.
        budget: in its place.
        kind: of the frontier.
        multiple_of: of every rank.
        keep_if: what factors must improve: size, or latency besides.
        layers: names of the weights to look at; None: all.
        skip_last: leave the last layer dense.
        folding: how kernels of convolutions are split: spatial or channel.
        calibration: examples to calibrate on; None: as many as can be spared.
        timing_s: seconds for timing the model, and again for its layers; 0: time nothing.
    """

    model: UserModel = field(default_factory=UserModel)
    loss: str | None = None
    max_loss_increase: float | None = None
    budget: Share = field(default_factory=Share)
    kind: str = KINDS[0]
    multiple_of: int = 1
    keep_if: str = SIZE
    layers: list[str] | None = None
    skip_last: bool = False
    folding: str = FOLDINGS[0]
    calibration: int | None = None
    finetune: Finetune = field(default_factory=Finetune)
    timing_s: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.build is None:
            raise ValueError("there is no model: name a function that returns it, as my_net:build")
        if self.model.loader is None:
            raise ValueError(
                "there are no examples: name a function that returns them, as --data my_net:loader"
            )
        each_once(layers=self.layers)
        refuse_unknown("kind of frontier", [self.kind], KINDS)
        refuse_unknown("folding", [self.folding], FOLDINGS)
        refuse_unknown("keep_if", [self.keep_if], (SIZE, LATENCY))
        at_least(0, max_loss_increase=self.max_loss_increase, timing_s=self.timing_s)
        at_least(1, multiple_of=self.multiple_of, calibration=self.calibration)
        limits = [*self.budget.given()]
        if self.max_loss_increase is not None:
            limits.append("max_loss_increase")
        if len(limits) > 1:
            raise ValueError(f"{' and '.join(limits)} are given: give one of them")
        if not self.timing_s and (self.keep_if == LATENCY or self.budget.latency is not None):
            raise ValueError("timing_s is 0, but a latency takes seconds to measure: raise it")
        if self.finetune.epochs and self.dtype in (Dtype.bfloat16, Dtype.float16):
            raise ValueError(
                f"fine-tuning in {self.dtype.value} loses its steps to rounding: use float32"
            )
