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

from svdbench.job import Job
from svdbench.jobs.time_layers.config import TimeLayers

JOB = Job("time-layers", TimeLayers, __name__, panel="Timing", place=2)
