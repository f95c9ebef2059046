"""Keys of the jobs that take a model of the user's own."""

from dataclasses import dataclass
from typing import Any

from svdbench.config.base import DeviceConfig, Dtype, RunConfig, own_option
from svdbench.config.fields import option, section

# What a loss may rise by where nothing is said of it.
USUAL_INCREASE = 0.01
KINDS = ("kronecker", "whitened", "plain")
FOLDINGS = ("spatial", "channel")
DISTILLATIONS = ("auto", "cosine", "mse", "kl")
FRACTION = "give a fraction of the dense network, above 0 and at most 1, such as 0.25"


def fraction_option(help: str, flag: str) -> Any:
    """A budget as a fraction of the dense network's."""
    help = f"keep this fraction of {help}, instead of limiting the loss"
    return option(None, help, f"{flag} FRACTION", above=0, at_most=1, remedy=FRACTION)


def increase_option(help: str) -> Any:
    null = f"{USUAL_INCREASE}, or no limit with a budget"
    return option(None, help, "--max-loss-increase LOSS", null=null, at_least=0)


def calibration_option(what: str, null: str) -> Any:
    return option(None, f"number of {what}", "--calibration N", null=null, at_least=1)


@dataclass
class UserModelConfig:
    """A model of the user's own: as MODULE:FUNCTION with a file of weights, or as a folder."""

    build: str | None = option(
        None,
        "function that returns an nn.Module, as MODULE:FUNCTION; or the folder of a model of "
        "transformers, or its name in the local cache",
        null="none",
        calls=True,
    )
    weights: str | None = own_option(
        None,
        "weights of the trained model: .safetensors, or a state_dict or checkpoint from torch.save",
        "--weights FILE",
        null="those that the function sets",
    )
    loader: str | None = own_option(
        None,
        "examples: MODULE:FUNCTION that returns (X, y), inputs alone, batches or a DataLoader, or "
        "a dict of these with the keys calibration, validation and test; for a Hugging Face model "
        "also text files or images",
        "--data FUNCTION",
        calls=True,
    )
    context: int | None = own_option(
        None,
        "tokens per sequence, for a Hugging Face language model",
        "--context N",
        null="512, or fewer where the model or the text has no more",
        at_least=2,
    )
    max_examples: int | None = own_option(
        None,
        "maximum number of examples to read from each split; required for an endless loader",
        "--max-examples N",
        null="all",
        at_least=1,
    )


@dataclass
class Budget:
    """A budget instead of a bound on the loss, as a fraction of the dense network's."""

    params: float | None = fraction_option(
        "the parameters (of the weights that can be factored)", "--params"
    )
    macs: float | None = fraction_option("the layers' multiply-adds", "--macs")
    latency: float | None = fraction_option("the layers' measured time", "--latency")

    def given(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class LossChoice(RunConfig):
    """What compressed models are judged by: a loss, or their distance from the dense one."""

    loss: str | None = own_option(
        None,
        "loss, as a MODULE:FUNCTION of outputs and targets",
        "--loss FUNCTION",
        null="cross entropy or mean squared error; distillation if there are no targets",
        calls=True,
    )
    distill: str | None = own_option(
        None,
        "compare outputs with those of the dense model instead of targets: by cosine, mse (mean "
        "squared error), kl (of logits), or auto, which chooses one of them",
        "--distill NAME",
        null="only if there are no targets",
        choices=DISTILLATIONS,
        noun="distillation",
    )
    temperature: float = own_option(
        1.0, "temperature that logits are divided by, for --distill kl", "--temperature T", above=0
    )

    def check(self) -> None:
        super().check()
        if self.loss is not None and self.distill is not None:
            raise ValueError("loss and distill are both given: give only one of them")
        if self.temperature != 1 and (self.loss or self.distill in ("cosine", "mse")):
            raise ValueError("temperature is only for --distill kl: leave it out")


@dataclass
class RankChoice(LossChoice):
    """The ranks of all weights chosen together: what to preserve, and how much may be lost."""

    kind: str = option(
        KINDS[0],
        "what to preserve: the loss (kronecker), a layer's output (whitened), or its weight "
        "(plain)",
        typed="--kind NAME",
        choices=KINDS,
        noun="kind of frontier",
    )
    max_loss_increase: float | None = increase_option("largest increase of the loss")
    budget: Budget = section(Budget)
    multiple_of: int = option(
        1,
        "make every rank a multiple of this number, such as 8 or 16",
        "--multiple-of N",
        at_least=1,
    )

    def check(self) -> None:
        super().check()
        limits = [*self.budget.given()]
        if self.max_loss_increase is not None:
            limits.append("max_loss_increase")
        if len(limits) > 1:
            raise ValueError(f"{' and '.join(limits)} are given: give only one of them")

    @property
    def allowed(self) -> float | None:
        """The bound on the loss; None with a budget in its place."""
        if self.budget.given():
            return None
        return USUAL_INCREASE if self.max_loss_increase is None else self.max_loss_increase


@dataclass
class Finetune:
    """Training after compression, by AdamW on the calibration examples."""

    epochs: int = option(
        0,
        "epochs of AdamW after compression, on the calibration examples",
        "--finetune-epochs N",
        at_least=0,
    )
    lr: float = option(1e-4, "learning rate", "--lr RATE", above=0)


@dataclass
class WeightChoice(DeviceConfig):
    """The user's model, which of its weights are compressed, and training afterwards."""

    model: UserModelConfig = section(UserModelConfig)
    layers: list[str] | None = option(
        None, "names of the weights to compress", null="all", unique=True, not_empty=True
    )
    embeddings: bool = option(
        True,
        "whether embeddings, and layers tied to them, are factored",
        typed="--no-embeddings",
        off="leave embeddings, and layers tied to them, as they are",
    )
    skip_last: bool = option(False, "leave the last layer dense")
    folding: str = option(
        FOLDINGS[0],
        "how kernels of convolutions are split: h×1 then 1×w (spatial), or h×w then 1×1 (channel)",
        choices=FOLDINGS,
    )
    finetune: Finetune = section(Finetune)

    def check(self) -> None:
        super().check()
        if self.model.build is None:
            raise ValueError(
                "no model is given: name a function that returns it, such as my_net:build"
            )
        if self.model.loader is None:
            raise ValueError(
                "no examples are given: name a function that returns them, such as "
                "--data my_net:loader, or, for a Hugging Face model, --data text.txt"
            )
        if self.finetune.epochs and self.dtype in (Dtype.bfloat16, Dtype.float16):
            raise ValueError(
                f"fine-tuning in {self.dtype.value} would lose its updates to rounding: use float32"
            )
