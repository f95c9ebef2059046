"""Search learning rates and other settings of recurrent networks, with equal effort for each model.

Every model gets the same number of trials, the same ranges and the same minutes of training, and
is judged on held-out sequences, never on the test set. All trials are trained briefly, the preset
and the best third of the others three times as long, and so on. If the best learning rate is at an
edge of its range, the range is widened.

Writes results/search/NAME: CSV tables of all trials and of the best of each model, a preset for
each model, a plot, the configuration and the environment. `svdbench train … --presets
results/search/NAME/presets` trains with the settings found.

Examples:
    svdbench search lstm,spectral-rnn --task words
    svdbench search gru --task copy --trials 12 --minutes 2
"""

from dataclasses import dataclass, fields
from typing import Any

from svdbench.config.fields import option, section
from svdbench.job import Job
from svdbench.training.config import MODEL, TASK, Schedule, Train


def range_option(low: float, high: float, what: str) -> Any:
    """A range that is searched."""
    return option(
        [low, high], f"{what}: lowest and highest value; []: keep the preset's", at_least=0
    )


# Whose values are spread evenly; those of the others by their logarithm.
LINEAR = ("forget_bias", "r_min", "beta_bias")


@dataclass
class Space:
    """Ranges that are searched. A key that a model doesn't have is left out for it."""

    lr: list[float] = range_option(3e-4, 3e-2, "learning rate")
    orthogonal_lr: list[float] = range_option(1e-5, 1e-2, "learning rate of orthogonal parameters")
    clip: list[float] = range_option(0.1, 10.0, "largest norm of the gradient")
    input_std: list[float] = range_option(1e-3, 1.0, "standard deviation of initial input weights")
    radius: list[float] = range_option(1e-4, 1e-1, "largest distance of σ from σ*")
    forget_bias: list[float] = range_option(0.0, 4.0, "initial bias of forget gates")
    memory: list[float] = range_option(2.0, 1000.0, "initial memory of gates, in steps")
    r_min: list[float] = range_option(0.0, 0.99, "smallest initial modulus of eigenvalues")
    max_phase: list[float] = range_option(0.01, 6.28, "largest initial angle of eigenvalues")
    scale: list[float] = range_option(0.01, 1.0, "initial scale of a tanh's coordinates")
    beta_bias: list[float] = range_option(
        0.0, 6.0, "initial bias of the coefficients of reflectors"
    )
    dt: list[float] = range_option(0.01, 1.0, "step of coupled states")
    schedule: list[Schedule] = option(
        [Schedule.constant, Schedule.cosine], "schedules of the learning rates", unique=True
    )

    def check(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "schedule" or not value:
                continue
            if len(value) != 2 or not value[0] < value[1]:
                raise ValueError(
                    f"space.{each.name} is {value}: give the lowest and the highest value, such as "
                    f"space.{each.name}=[0.001,0.1], or [] to search none"
                )
            if value[0] == 0 and each.name not in LINEAR:
                raise ValueError(
                    f"space.{each.name} begins at 0, but its values are spread on a logarithmic "
                    "scale: begin above 0"
                )


@dataclass
class Search(Train):
    """``svdbench search``: trains as ``svdbench train`` does, in many short trials."""

    trials: int = option(
        24,
        "number of trials for each model; the first is the preset",
        typed="--trials N",
        at_least=2,
        at_most=4096,
    )
    minutes: float = option(
        5.0,
        "minutes of training for each model, all trials together",
        typed="--minutes MINUTES",
        above=0,
    )
    space: Space = section(Space)

    def check(self) -> None:
        super().check()
        for key in ("processes", "nodes", "seeds"):
            if (count := getattr(self.trainer, key)) > 1:
                raise ValueError(
                    f"trainer.{key} is {count}, but each trial of svdbench search is one training "
                    "in one process: leave it out"
                )
        if self.trainer.resume is not None:
            raise ValueError("trainer.resume continues one training: leave it out")


JOB = Job(
    "search",
    Search,
    __name__,
    MODEL,
    flags=(TASK,),
    settings={"trainer.checkpoint": False, "trainer.extrapolate": []},
    sweeps=False,
    panel="Training",
    place=3,
    same=(),
    starter="svdbench.jobs.search.run:start",
)
