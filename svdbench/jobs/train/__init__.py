"""Train recurrent networks on a task and compare their losses with the baseline.

Presets provide settings that converge (`svdbench list presets`); options and KEY=VALUE take
precedence. Training evaluates on held-out sequences, keeps the best and the last weights, stops
when the target is reached, and uses the test set once, at the end.

Writes results/train/NAME: CSV tables of all evaluations and a summary, checkpoints, plots
over steps and seconds, the configuration and the environment. With several models, or
--multirun, each model or job has its own folder, and there are common plots.

Examples:
    svdbench train spectral-rnn --task addition
    svdbench train lstm,spectral-rnn --task copy --seeds 3 --max-minutes 30
    svdbench train spectral-rnn -m optimizer.lr=1e-3,1e-4
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
            "Start from the settings of the preset (usual), or from the model's defaults.",
            default=True,
            panel="Presets",
        ),
        Flag(
            "--presets",
            "Start from the presets in this folder, such as `svdbench search` writes; `searched` "
            "stands for the built-in ones found by equal searches (`svdbench list presets`).",
            str,
            None,
            "FOLDER|searched",
            panel="Presets",
        ),
    ),
    checkpoint="trainer.resume",
    panel="Training",
    place=1,
    same=(),
    starter="svdbench.jobs.train.models:start",
    entry="models",
)
