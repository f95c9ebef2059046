"""Reveal the rank that each weight of a network needs.

Trains a network on DATASET, or takes a model of your own, and finds by [b]exact[/b] curves
of loss against rank, by the [b]frontier[/b] of all sizes, certified on true loss, or by the
[b]published[/b] algorithm of document 002, which ranks will do. What they come to is
measured on test examples that nothing was chosen by, beside other ways to choose ranks.

experiment=rank_reveal_three_layer asks document 002's question: is 10 the right rank?

Writes results/rank-reveal/NAME: layers, networks, curves and frontiers as CSV, the
environment, the configuration, and plots.
"""

from svdbench.job import Job, Subject
from svdbench.jobs.rank_reveal.config import RankReveal

JOB = Job(
    "rank-reveal",
    RankReveal,
    __name__,
    Subject(
        "[DATASET|MODULE:BUILD]",
        "digits, mnist, …; by default digits. Or a function that returns a model.",
        name="data.name",
        function="model.build",
    ),
)
