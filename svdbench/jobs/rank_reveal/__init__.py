"""Find the rank that each weight of a network needs.

Trains a network on DATASET, or uses your own model. Three algorithms choose ranks:
[b]exact[/b] computes the loss for every rank of every layer, [b]frontier[/b] chooses the
ranks of all layers together and checks them on the true loss, and [b]published[/b] is the
algorithm of Keene (2022). The result is measured on test examples that were not used for
choosing, and compared with other ways to choose ranks.

experiment=rank_reveal_three_layer asks Keene's question: is 10 the right rank?

Writes results/rank-reveal/NAME: CSV tables of layers, networks, curves and frontiers,
plots, the configuration and the environment.

Examples:
    svdbench rank-reveal mnist
    svdbench rank-reveal my_net:build --data my_net:loader --params 0.25
"""

from dataclasses import replace

from svdbench.job import Job
from svdbench.jobs.rank_reveal.config import RankReveal
from svdbench.side_by_side.config import DATASET_OR_MODEL

JOB = Job(
    "rank-reveal",
    RankReveal,
    __name__,
    replace(DATASET_OR_MODEL, function="model.build"),
    panel="Low rank",
    place=2,
)
