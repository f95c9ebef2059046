"""With --when: times one linear layer, forward and backward, with a dense and a low-rank weight,
for several widths, rows and α, in interleaved rounds, and reports where low rank begins to pay on
this machine. The speed is compared with its ceiling: what the saved multiplications allow.

Writes results/accelerate-when/NAME: CSV tables of all samples and a summary, a heat map, the
configuration and the environment.

Examples:
    svdbench accelerate --when --quick
    svdbench accelerate --when --widths 128,256 --rows 1024 --alphas 0.5
"""

from dataclasses import dataclass

from svdbench.config.fields import several, shares
from svdbench.job import Flag, Job
from svdbench.timings.config import TimingConfig, lengths_option


@dataclass
class AccelerateWhen(TimingConfig):
    """One layer, dense and of low rank, of every width on batches of every number of rows."""

    widths: list[int] = lengths_option(
        "input and output features of the layer", "--widths N,N,…", at_least=2, quick=[64, 128, 256]
    )
    rows: list[int] = several(
        [32, 256, 1024],
        "rows of a batch: examples, or the positions of all sequences",
        "--rows N,N,…",
        at_least=1,
        quick=[256],
    )
    alphas: list[float] = shares(
        [0.5, 0.25, 0.125],
        "shares of the dense layer's multiplications that the low-rank layer makes",
        "--alphas A,A,…",
        former=("--alpha",),
    )


JOB = Job(
    "accelerate-when",
    AccelerateWhen,
    __name__,
    command="accelerate --when",
    switch=Flag(
        "--when",
        "Time one layer, and report where low rank begins to pay on this machine.",
        panel="When low rank pays, with --when",
    ),
    panel="Low rank",
    place=3,
)
