"""Search the learning rates and other settings of recurrent networks, equally for all of them.

Every model gets as many trials, over the same ranges, and as many minutes of training, and
is judged on held-out sequences, never on the test set. All trials train briefly, the preset and
the best third of the others three times as long, and so on. A learning rate that is best at an edge
of its range widens the range.

Writes results/search/NAME: CSV tables of all trials and of the best of each model, a preset for
each model, a plot, the configuration and the environment. `svdbench train … --presets
results/search/NAME/presets` trains with what was found.

Examples:
    svdbench search lstm,spectral-rnn --task words
    svdbench search gru --task copy --trials 12 --minutes 2
"""

from svdbench.job import Job
from svdbench.jobs.search.config import Search
from svdbench.training.config import MODEL, TASK

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
