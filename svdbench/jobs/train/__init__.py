"""Train MODEL on TASK and watch its loss against the baseline.

Starts from settings that converge, of conf/preset, over which all options and
KEY=VALUE win. Evaluates as it goes on sequences held out, keeps the best and the
last weights, stops at the target, and looks at the test set once, at the end.

Writes results/train/NAME: every evaluation and a summary as CSV, checkpoints, the
environment, the configuration, and plots against iterations and seconds. With
several models, or --multirun, a folder for each and plots of all.
"""

from svdbench.job import Flag, Job, Subject
from svdbench.training.config import Train

JOB = Job(
    "train",
    Train,
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
        Flag(
            "--preset/--no-preset",
            "Start from the settings in conf/preset, or from the defaults.",
            default=True,
        ),
    ),
    checkpoint="trainer.resume",
    same=(),
    starter="svdbench.jobs.train.models:start",
)
