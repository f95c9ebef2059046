"""With MODULE:BUILD: compresses the model that the function BUILD returns. The ranks of all weights
are chosen together, from one pass over calibration examples and a search on the true loss,
and the result is judged on held-out examples. MODULE is looked up in the current folder
first. Only the functions that you name are called.

With FOLDER: compresses a model of Hugging Face transformers: a folder that save_pretrained wrote,
or a model's name in the local cache; nothing is downloaded. --data is a text file, a folder of
text files, or images. The perplexity of a language model is measured before and after.

Writes results/compress-model/NAME: the compressed model as safetensors and JSON; CSV tables of the
summary, the layers and the frontier, a plot, the configuration and the environment. To load the
model, call svdbench.lowrank.load(build(), "results/compress-model/NAME/model.safetensors") or,
for a Hugging Face model, svdbench.pretrained.from_pretrained("results/compress-model/NAME").

Examples:
    svdbench compress my_net:build --data my_net:loader --weights my_net.safetensors --params 0.5
    svdbench compress my_net:build --data my_net:loader --max-loss-increase 0.01
    svdbench compress ./my-gpt2 --data text.txt --params 0.5
"""

from dataclasses import dataclass

from svdbench.config.base import OWN_MODEL
from svdbench.config.fields import option
from svdbench.job import Job
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
    calibration: int | None = calibration_option("examples to calibrate on", "half of all")
    timing_s: float = option(
        4.0, "seconds for timing the model, and again for its layers; 0: time nothing", at_least=0
    )

    def check(self) -> None:
        super().check()
        if not self.timing_s and (self.keep_if == LATENCY or self.budget.latency is not None):
            raise ValueError("timing_s is 0, but latencies take time to measure: use timing_s=4")


JOB = Job(
    "compress-model",
    CompressModel,
    __name__,
    OWN_MODEL,
    command="compress",
    panel="Low rank",
    place=1,
)
