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

from dataclasses import dataclass

from svdbench.config.base import DeviceConfig
from svdbench.config.fields import option, section, several
from svdbench.job import Flag, Job
from svdbench.timings.config import lengths_option


@dataclass
class Shapes:
    """Reflectors V (n, d) applied to X (d, m), for every d and every m."""

    d: list[int] = lengths_option(
        "sizes d to measure, the length of a reflector",
        "--d D,D,…",
        default_text="none (list the known ones), or 64,128,256,512,1024 with --plot",
        at_least=1,
    )
    n: int | None = option(
        None, "number of reflectors", null="as many as d", typed="--n N", at_least=1
    )
    m: list[int] = several(
        [8, 32, 128],
        "columns of X",
        "--m M,M,…",
        default_text="32, or 8,32,128 with --plot",
        at_least=1,
    )


@dataclass
class TimePerShape:
    """Seconds of measuring for each shape."""

    budget_s: float = option(
        8.0,
        "measuring time in seconds for each d and m, after one warm-up of every plan",
        default_text="2, or 8 with --plot",
        typed="--budget SECONDS",
        above=0,
    )


@dataclass
class TuneBlocks(DeviceConfig):
    """``svdbench tune --plot``: several m, and a budget is all there is to measuring."""

    sizes: Shapes = section(Shapes)
    measure: TimePerShape = section(TimePerShape)


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
