"""Keys of the jobs that time methods."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from svdbench.config.base import DeviceConfig, seed_option
from svdbench.config.fields import group, option, section, several
from svdbench.members import Registry


class L2(Enum):
    """A GPU's last-level cache at the start of each repetition: as it is, or emptied."""

    warm = "warm"
    cold = "cold"


class Update(Enum):
    """What follows the backward pass in a step."""

    none = "none"
    sgd = "sgd"
    adam = "adam"


@dataclass
class Measure:
    """How long and how exactly to measure; ``measure.plan.TimingPlan`` checks the ranges."""

    budget_s: float = option(
        150.0,
        "measuring time in seconds, all sizes together",
        typed="--budget SECONDS",
        default_text="150 (40 for time-svd-ops; 8 with --quick)",
        above=0,
    )
    precision: float = option(
        0.02, "a method is done when its median is known to this relative precision"
    )
    min_reps: int = option(5, "minimum number of repetitions of a method")
    max_reps: int = option(300, "maximum number of repetitions of a method")
    warmup_reps: int = option(2, "warm-up repetitions, which are not counted")
    timeout_s: float = option(20.0, "time limit for a step, in seconds; slower methods are skipped")
    l2: L2 = option(
        L2.warm, "state of a GPU's cache: warm, or cold (emptied before every repetition)"
    )


def methods_option(group: Registry, help: str) -> Any:
    return several(None, help, "--methods NAME,…", null="all", choices=group)


@dataclass
class TimingConfig(DeviceConfig):
    seed: int = seed_option("seed for the random inputs and the order of rounds")
    measure: Measure = group(Measure, "how long and how precisely to measure", quick="quick")


def lengths_option(help: str, typed: str, **declared: Any) -> Any:
    """Sizes: the powers of 2 from 64 to 1024."""
    return several([64, 128, 256, 512, 1024], help, typed, **declared)


@dataclass
class Sizes:
    """Reflectors V (n, d) applied to X (d, m)."""

    d: list[int] = lengths_option(
        "sizes d of the matrix V (d, d), the length of a reflector",
        "--d D,D,…",
        at_least=1,
        quick=[64, 128, 256],
    )
    n: int | None = option(
        None, "number of reflectors", null="as many as d", typed="--n N", at_least=1
    )
    m: int = option(32, "columns of X", typed="--m M", at_least=1)


@dataclass
class StepTimingConfig(TimingConfig):
    sizes: Sizes = section(Sizes)
