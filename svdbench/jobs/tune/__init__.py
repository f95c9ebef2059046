"""Measure which block size makes `apply_reflectors` fastest; show what is known.

The answers are kept on this machine, per shape, dtype and number of threads,
and used by every later call of that shape.

With --plot every block size is measured instead, for each d and m, with the
rules that people use and a cost model. Writes results/tune/NAME: CSV, the
environment, the configuration, and plots. Nothing is kept for later calls.
"""

from svdbench.job import Flag, Job
from svdbench.jobs.tune.config import TuneBlocks

JOB = Job(
    "tune",
    TuneBlocks,
    __name__,
    command="tune --plot",
    flags=(
        Flag("--clear", "Forget what is known first."),
        Flag("--plot", "Sweep the block size, and say how to choose it."),
    ),
    sweeps=False,
    starter="svdbench.jobs.tune.shapes:start",
)
