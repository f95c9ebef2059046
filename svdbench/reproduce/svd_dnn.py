"""What the judges of SVD-DNN's tables share: dense against factored, seed by seed."""

from typing import TYPE_CHECKING

import pandas as pd

from svdbench.quantities import quantity
from svdbench.report.side_by_side import last_epochs
from svdbench.reproduce.numbers import Measured, Point
from svdbench.statistics.intervals import next_run_interval, paired_difference, paired_ratio

if TYPE_CHECKING:
    from svdbench.statistics.intervals import Interval

DENSE = "dnn"
MOST_POINTS = 50


class Arms:
    """The dense arm and one in factors, by seed.

    Args:
        samples, summary: of an ``accelerate`` run.
        phi: share of dense steps of the arm in factors.
        alpha: of that arm; None: the run has one.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        summary: pd.DataFrame,
        phi: float,
        alpha: float | None = None,
    ) -> None:
        def ours(rows: pd.DataFrame) -> pd.DataFrame:
            own = rows[(rows["method"] != DENSE) & ((rows["phi"] - phi).abs() < 1e-9)]
            return own if alpha is None else own[(own["alpha"] - alpha).abs() < 1e-9]

        self.rows = {"dnn": samples[samples["method"] == DENSE], "svd": ours(samples)}
        self.summary = ours(summary).set_index("seed")

    def trained(self, epochs: int) -> bool:
        """Whether it was trained as long as what its scores are compared with."""
        return int(self.rows["dnn"]["epoch"].max()) >= epochs

    def last(self, arm: str, column: str, split: str) -> pd.Series:
        """A value for each seed, after the last epoch."""
        scores: pd.Series = last_epochs(self.rows[arm], split)[column]
        return scores

    def difference(self, column: str, split: str) -> "Interval":
        """That of factors less that of dense."""
        both = pd.concat([self.last(arm, column, split) for arm in ("svd", "dnn")], axis=1).dropna()
        return paired_difference(list(both.iloc[:, 0]), list(both.iloc[:, 1]))

    def cost_ratio(self) -> "Interval":
        """The final training cost of factors over that of dense, a geometric mean."""
        both = [self.last(arm, "loss", "train") for arm in ("svd", "dnn")]
        table = pd.concat(both, axis=1).dropna()
        return paired_ratio(list(table.iloc[:, 0]), list(table.iloc[:, 1]))

    def lower(self) -> tuple[int, int]:
        """In how many seeds factors end at the lower cost, of how many."""
        svd, dnn = (self.last(arm, "loss", "train") for arm in ("svd", "dnn"))
        return int((svd < dnn).sum()), len(svd)


def put_costs(found: Measured, prefix: str, arms: Arms) -> None:
    """Final costs, their ratio, and in how many seeds that of factors is lower."""
    for arm in ("dnn", "svd"):
        cost = next_run_interval(list(arms.last(arm, "loss", "train")), logarithmic=True)
        if cost is not None:
            found.interval(
                f"{prefix}{arm}_cost", cost, f"one more run, from {quantity(cost.count, 'seed')}"
            )
    ratio = arms.cost_ratio()
    found.interval(f"{prefix}cost_ratio", ratio, f"mean of {quantity(ratio.count, 'paired seed')}")
    found.share(f"{prefix}lower", *arms.lower())


def put_speed(found: Measured, prefix: str, arms: Arms) -> None:
    """The speed of the whole training, and what the multiplications allow."""
    found.mean(f"{prefix}speed", arms.summary["speedup"])
    found.exact(f"{prefix}ceiling", float(arms.summary["ceiling"].median()))


def put_gain(found: Measured, name: str, arms: Arms) -> None:
    """By how much factors are better on the test set."""
    gain = arms.difference("accuracy", "test")
    found.interval(name, gain, f"mean of {quantity(gain.count, 'paired seed')}")


def put_curves(found: Measured, figure: str, samples: pd.DataFrame) -> None:
    """The cost of every arm over its epoch's batches, with the range of the seeds."""
    epochs = samples[samples["split"] == "test"]
    for arm, rows in epochs.groupby("arm", sort=False):
        costs = rows.groupby("epoch")["train_loss"].agg(["median", "min", "max"]).reset_index()
        every = max(1, len(costs) // MOST_POINTS)
        for row in costs.iloc[::-1][::every].iloc[::-1].to_dict("records"):
            values = (row["epoch"], row["median"], row["min"], row["max"])
            found.curves.append(Point(figure, str(arm), *map(float, values)))
