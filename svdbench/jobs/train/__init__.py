"""Train MODEL on TASK and compare its loss with the baseline.

The settings come from the presets in conf/preset; options and KEY=VALUE take precedence.
Training evaluates on held-out sequences, keeps the best and the last weights, stops when
the target is reached, and uses the test set once, at the end.

Writes results/train/NAME: CSV tables of all evaluations and a summary, checkpoints, plots
over steps and seconds, the configuration and the environment. Several models, or
--multirun, get a folder each and common plots.
"""

from svdbench.job import Flag, Job
from svdbench.training.config import MODEL, TASK, Train

JOB = Job(
    "train",
    Train,
    __name__,
    MODEL,
    flags=(
        TASK,
        Flag(
            "--preset/--no-preset",
            "Start from the settings in conf/preset, or from the defaults.",
            default=True,
        ),
    ),
    checkpoint="trainer.resume",
    same=(),
    starter="svdbench.jobs.train.models:start",
    entry="models",
)
