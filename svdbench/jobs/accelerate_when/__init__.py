"""With --when: times one linear layer, forward and backward, with a dense and a low-rank weight,
for several widths, rows and α, in interleaved rounds, and reports where low rank begins to pay on
this machine. The speed is compared with its ceiling: what the saved multiplications allow.

Writes results/accelerate-when/NAME: CSV tables of all samples and a summary, a heat map, the
configuration and the environment.

Examples:
    svdbench accelerate --when --quick
    svdbench accelerate --when --widths 128,256 --rows 1024 --alphas 0.5
"""

from svdbench.job import Flag, Job
from svdbench.jobs.accelerate_when.config import AccelerateWhen

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
