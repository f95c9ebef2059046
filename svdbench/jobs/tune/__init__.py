"""Find the fastest block size of `apply_reflectors`, or list the stored ones.

On a GPU the best block size is stored on this machine for each shape and dtype, and used by all
later calls with that shape. On a CPU it is shown but not stored, because `apply_reflectors` uses a
formula there.

With --plot every block size is measured for each d and m, and compared with rules of thumb and a
cost model. This writes results/tune/NAME: CSV tables, plots, the configuration and the
environment; nothing is stored for later calls.

Examples:
    svdbench tune --d 512,1024 --device cuda
    svdbench tune --plot --d 256 --m 32
"""

from svdbench.job import Flag, Job
from svdbench.jobs.tune.config import TuneBlocks

JOB = Job(
    "tune",
    TuneBlocks,
    __name__,
    command="tune --plot",
    flags=(
        Flag("--clear", "Delete the stored block sizes first."),
        Flag("--plot", "Measure every block size, and report how to choose one."),
    ),
    sweeps=False,
    panel="Timing",
    place=6,
    starter="svdbench.jobs.tune.shapes:start",
)
