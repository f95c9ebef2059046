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
