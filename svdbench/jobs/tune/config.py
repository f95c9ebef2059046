"""Keys of ``svdbench tune --plot``."""

from dataclasses import dataclass

from svdbench.config.base import DeviceConfig
from svdbench.config.fields import option, section, several


@dataclass
class Shapes:
    """Reflectors V (n, d) applied to X (d, m), for every d and every m."""

    d: list[int] = several(
        [64, 128, 256, 512, 1024],
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
