"""Keys of ``svdbench accelerate --when``."""

from dataclasses import dataclass

from svdbench.config.fields import several
from svdbench.timings.config import TimingConfig


@dataclass
class AccelerateWhen(TimingConfig):
    """One layer, dense and of low rank, of every width on batches of every number of rows."""

    widths: list[int] = several(
        [64, 128, 256, 512, 1024],
        "input and output features of the layer",
        "--widths N,N,…",
        at_least=2,
        quick=[64, 128, 256],
    )
    rows: list[int] = several(
        [32, 256, 1024],
        "rows of a batch: examples, or the positions of all sequences",
        "--rows N,N,…",
        at_least=1,
        quick=[256],
    )
    alphas: list[float] = several(
        [0.5, 0.25, 0.125],
        "shares of the dense layer's multiplications that the low-rank layer makes",
        "--alphas A,A,…",
        former=("--alpha",),
        above=0,
        at_most=1,
        remedy="give numbers above 0 and at most 1",
    )
