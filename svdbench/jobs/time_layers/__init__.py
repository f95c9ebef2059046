"""Time a training step of nn.Linear, and of layers that replace it.

A step is the forward and the backward pass of one layer with WIDTH input and output features, for
a batch of rows, and with --optimizer also the update. nn.Linear is compared with
orthogonal(nn.Linear), torch's three orthogonal parametrisations, SVDLinear and LowRankLinear, all
from the same weight, in interleaved rounds. Every layer is checked against float64 before and
after its timing; one that fails gets no time.

Writes results/time-layers/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment.

Examples:
    svdbench time-layers --quick
    svdbench time-layers --width 256,1024 --batch 128
"""

from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option, section, several
from svdbench.job import Job
from svdbench.members import LAYERS
from svdbench.timings.config import TimingConfig, Update, methods_option


@dataclass
class LayerSizes:
    """Layers of every width, on batches of every size."""

    width: list[int] = several(
        [128, 256, 512, 1024],
        "input and output features of a layer",
        "--width N,N,…",
        at_least=2,
        quick=[64, 128],
    )
    batch: list[int] = several(
        [32, 256], "rows of a batch", "--batch N,N,…", at_least=1, quick=[32]
    )


@dataclass
class TimeLayers(TimingConfig):
    sizes: LayerSizes = section(LayerSizes)
    layer: dict[str, Any] = members(LAYERS)
    methods: list[str] | None = methods_option(LAYERS, "layers to time, such as linear,orthogonal")
    update: Update = option(
        Update.none,
        "optimiser whose update is part of a step: none, sgd or adam",
        typed="--optimizer NAME",
    )


JOB = Job("time-layers", TimeLayers, __name__, panel="Timing", place=2)
