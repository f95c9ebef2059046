"""Train MODEL on TASK and look at ‖∂L/∂h_t‖ for every step t of the sequence.

Trains as `svdbench train` does, with its presets and keys, but to the last
step and without checkpoints. Gradients that vanish or explode show as a
slope over t.

Writes results/gradients/NAME: norms, evaluations and a summary as CSV, the
environment, the configuration, heat maps over t and training, and curves.
"""

from svdbench.job import Flag, Job, Subject
from svdbench.jobs.gradients.config import Gradients

JOB = Job(
    "gradients",
    Gradients,
    __name__,
    Subject("MODEL", "spectral-rnn, lstm, …; several as a,b; or all."),
    flags=(
        Flag(
            "--task",
            "Task: addition, copy, smnist or pmnist; by default addition.",
            str,
            "addition",
            "TASK",
        ),
    ),
    settings={
        "trainer.steps": 2000,
        "trainer.evaluate_every": 50,
        "trainer.target": 0,
        "trainer.checkpoint": False,
    },
    sweeps=False,
    same=(),
    starter="svdbench.jobs.gradients.run:start",
)
