"""Keys of ``svdbench time-layers``."""

from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option, section, several
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
