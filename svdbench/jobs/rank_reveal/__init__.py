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

from dataclasses import dataclass, replace

from svdbench.config.fields import option, section, several
from svdbench.job import Job
from svdbench.side_by_side.config import (
    DATASET_OR_MODEL,
    Latency,
    SideBySide,
    batch_option,
    epochs_option,
    seeds_option,
)
from svdbench.user_models.config import RankChoice, UserModelConfig, increase_option

EXACT, FRONTIER, PUBLISHED = "exact", "frontier", "published"
ALGORITHMS = (EXACT, FRONTIER, PUBLISHED)


@dataclass
class Examples:
    """The largest numbers of examples for each purpose."""

    calibration: int = option(
        20000, "number of training examples for calibrating the frontier", at_least=1
    )
    search: int = option(
        5000, "number of examples held out for the search; at most a fifth of all", at_least=1
    )
    curves: int = option(
        1000, "how many of these are used for exact curves and the published algorithm", at_least=1
    )


@dataclass
class RankReveal(RankChoice, SideBySide):
    """``svdbench rank-reveal``: the ranks of a network's weights, by several algorithms."""

    epochs: int | None = epochs_option("3, or more if needed for 400 batches")
    batch_size: int = batch_option(128)
    seeds: int = seeds_option(3)
    model: UserModelConfig = section(UserModelConfig)
    algorithms: list[str] | None = several(
        None,
        "algorithms to run: exact, frontier, published",
        "--algorithms NAME,…",
        former=("--algorithm",),
        null="frontier, and exact if it takes at most affordable_s seconds",
        choices=ALGORITHMS,
        noun="algorithm",
    )
    epsilon: float = option(
        0.01,
        "largest increase of the loss for one layer, in nats (exact, published)",
        typed="--epsilon NATS",
        at_least=0,
    )
    max_loss_increase: float | None = increase_option(
        "largest increase of the loss for all layers together, in nats (frontier)"
    )
    asked_rank: int | None = option(
        None,
        "also evaluate this rank for all weights",
        null="none",
        typed="--rank K",
        former=("--asked-rank",),
        at_least=1,
    )
    examples: Examples = section(Examples)
    fractions: list[float] = option(
        [0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0],
        "fractions of the parameters at which frontiers are compared",
        above=0,
        at_most=1,
        remedy="give numbers above 0 and at most 1",
        unique=True,
    )
    affordable_s: float = option(
        60.0, "seconds above which algorithms that were not named are skipped", above=0
    )
    latency: Latency = section(Latency)

    def check(self) -> None:
        super().check()
        if self.model.build is None:
            for name in ("weights", "loader", "max_examples"):
                if getattr(self.model, name) is not None:
                    raise ValueError(
                        f"model.{name} is for a model of your own: name the model "
                        "too, such as my_net:build"
                    )
            for name, default in {"loss": None, "distill": None, "temperature": 1.0}.items():
                if getattr(self, name) != default:
                    raise ValueError(
                        f"{name} is for a model of your own: name the model first, such as "
                        "my_net:build"
                    )


JOB = Job(
    "rank-reveal",
    RankReveal,
    __name__,
    replace(DATASET_OR_MODEL, function="model.build"),
    panel="Low rank",
    place=2,
)
