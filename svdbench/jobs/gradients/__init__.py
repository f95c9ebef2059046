"""Train recurrent networks and measure how their gradients decay over time, ‖∂L/∂h_t‖.

Trains as `svdbench train` does, with the same presets and keys, but always to the last step
and without checkpoints. Vanishing and exploding gradients appear as a slope over t.

Writes results/gradients/NAME: CSV tables of norms, evaluations and a summary, heat maps
over t and training, curves, the configuration and the environment.

Examples:
    svdbench gradients spectral-rnn --task addition --steps 500
    svdbench gradients rnn,lstm --task copy
"""

from dataclasses import dataclass

from svdbench.config.fields import option
from svdbench.job import Job
from svdbench.training.config import MODEL, TASK, Train


@dataclass
class Gradients(Train):
    """``svdbench gradients``: trains as ``svdbench train`` does."""

    sequences: int = option(
        100, "sequences whose gradients are computed, the same at every evaluation", at_least=1
    )

    def check(self) -> None:
        super().check()
        for key in ("processes", "nodes"):
            if (count := getattr(self.trainer, key)) > 1:
                raise ValueError(
                    f"trainer.{key} is {count}, but svdbench gradients runs in one "
                    "process: leave it out"
                )


JOB = Job(
    "gradients",
    Gradients,
    __name__,
    MODEL,
    flags=(TASK,),
    settings={
        "trainer.steps": 2000,
        "trainer.evaluate_every": 50,
        "trainer.target": 0,
        "trainer.checkpoint": False,
    },
    sweeps=False,
    panel="Training",
    place=2,
    same=(),
    starter="svdbench.jobs.gradients.run:start",
)
