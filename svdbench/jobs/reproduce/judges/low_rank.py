"""Judges of low rank: the three-layer network, its ranks, and SVD-DNN."""

from itertools import pairwise

import pandas as pd

from svdbench.jobs.reproduce.evidence import Runs
from svdbench.jobs.reproduce.numbers import CurvePoint, Evidence
from svdbench.reporting.words import quantity
from svdbench.side_by_side.report import last_epochs
from svdbench.statistics.intervals import (
    Interval,
    mean_interval,
    next_run_interval,
    paired_difference,
    paired_ratio,
)

DENSE = "dnn"
MOST_POINTS = 50


class Arms:
    """The dense arm and one in factors, by seed.

    Args:
        alpha: of that arm; None: the run has one.
    """

    def __init__(self, runs: Runs, run: str, phi: float, alpha: float | None = None) -> None:
        samples, summary = (runs.table(run, name) for name in ("samples", "summary"))

        def ours(rows: pd.DataFrame) -> pd.DataFrame:
            own = rows[(rows["method"] != DENSE) & ((rows["phi"] - phi).abs() < 1e-9)]
            return own if alpha is None else own[(own["alpha"] - alpha).abs() < 1e-9]

        self.samples = samples
        self.rows = {"dnn": samples[samples["method"] == DENSE], "svd": ours(samples)}
        self.summary = ours(summary).set_index("seed")

    def trained(self, epochs: int) -> bool:
        """Whether it was trained for at least as many epochs as the published scores."""
        return int(self.rows["dnn"]["epoch"].max()) >= epochs

    def last(self, arm: str, column: str, split: str) -> pd.Series:
        """A value for each seed, after the last epoch."""
        scores: pd.Series = last_epochs(self.rows[arm], split)[column]
        return scores

    def difference(self, column: str, split: str) -> Interval:
        """The score of the arm in factors minus that of the dense one."""
        both = pd.concat([self.last(arm, column, split) for arm in ("svd", "dnn")], axis=1).dropna()
        return paired_difference(list(both.iloc[:, 0]), list(both.iloc[:, 1]))

    def cost_ratio(self) -> Interval:
        """The final training cost of factors over that of dense, a geometric mean."""
        both = [self.last(arm, "loss", "train") for arm in ("svd", "dnn")]
        table = pd.concat(both, axis=1).dropna()
        return paired_ratio(list(table.iloc[:, 0]), list(table.iloc[:, 1]))

    def lower(self) -> tuple[int, int]:
        """In how many seeds factors end at the lower cost, of how many."""
        svd, dnn = (self.last(arm, "loss", "train") for arm in ("svd", "dnn"))
        return int((svd < dnn).sum()), len(svd)


def put_costs(found: Evidence, prefix: str, arms: Arms) -> None:
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


def put_speed(found: Evidence, prefix: str, arms: Arms) -> None:
    """The speed of the whole training, and what the multiplications allow."""
    # Reports give another statistic, the median of pairs of epochs.
    totals = "seed's total times", "seeds' total times"
    found.mean(f"{prefix}speed", arms.summary["speedup"], *totals)
    found.exact(f"{prefix}ceiling", float(arms.summary["ceiling"].median()))


def put_gain(found: Evidence, name: str, arms: Arms) -> None:
    """By how much factors are better on the test set."""
    gain = arms.difference("accuracy", "test")
    found.interval(name, gain, f"mean of {quantity(gain.count, 'paired seed')}")


def put_cost_curves(found: Evidence, figure: str, samples: pd.DataFrame) -> None:
    """The cost of every arm over its epoch's batches, with the range of the seeds."""
    epochs = samples[samples["split"] == "test"]
    for arm, rows in epochs.groupby("arm", sort=False):
        costs = rows.groupby("epoch")["train_loss"].agg(["median", "min", "max"]).reset_index()
        every = max(1, len(costs) // MOST_POINTS)
        for row in costs.iloc[::-1][::every].iloc[::-1].to_dict("records"):
            values = (row["epoch"], row["median"], row["min"], row["max"])
            found.curves.append(CurvePoint(figure, str(arm), *map(float, values)))


METHODS = ("stock", "rsvd", "truncsvd")


def three_layer(runs: Runs) -> Evidence:
    """The three-layer network under rSVD and truncSVD: accuracy, loss and time, epoch by epoch.

    Scores at the first and the last epoch, times over stock's, and paired differences.
    """
    found = Evidence()
    published = runs.table("three-layer-published", "samples")
    for method in METHODS:
        own = published[published["method"] == method]
        for epoch, at in ((1, "first"), (10, "last")):
            rows = own[own["epoch"] == epoch]
            for column in ("accuracy", "loss"):
                found.one_more(f"{method}_{column}_{at}", rows[column])
    for prefix, run in (("", "three-layer-published"), ("corrected_", "three-layer-corrected")):
        _put_differences(found, prefix, runs.table(run, "samples"))
    for column in ("accuracy", "loss"):
        _put_scores_by_epoch(found, column, published)
    return found


def _put_differences(found: Evidence, prefix: str, rows: pd.DataFrame) -> None:
    """Differences from stock at the last epoch, seed by seed."""
    last = rows[rows["epoch"] == rows["epoch"].max()]
    scores = last.pivot_table(index="seed", columns="method", values="accuracy")
    seconds = rows.pivot_table(index="seed", columns="method", values="epoch_s", aggfunc="sum")
    for method in METHODS[1:]:
        lost = paired_difference(list(scores["stock"]), list(scores[method]))
        found.interval(
            f"{prefix}{method}_lost", lost, f"mean of {quantity(lost.count, 'paired seed')}"
        )
        found.mean(f"{prefix}{method}_time", seconds[method] / seconds["stock"])


def _put_scores_by_epoch(found: Evidence, column: str, rows: pd.DataFrame) -> None:
    for (method, epoch), own in rows.groupby(["method", "epoch"], sort=False):
        at = mean_interval(list(own[column]))
        band = (at.low, at.high) if at.count > 1 else (None, None)
        found.curves.append(CurvePoint(column, str(method), float(epoch), at.mean, *band))


LAYERS = {"0.weight": "first", "2.weight": "second", "4.weight": "last"}


def rank_revealer(runs: Runs) -> Evidence:
    """Which ranks the three-layer network needs, and what Algorithm 3 finds.

    Losses added by each algorithm's ranks, ranks needed, and the work.
    """
    found = Evidence()
    summary, samples, curves = (
        runs.table("three-layer-ranks", name) for name in ("summary", "samples", "curves")
    )
    for method, own in summary.groupby("method"):
        name = str(method).replace(" ", "_")
        found.mean(f"{name}_increase", own["increase"])
        found.mean(f"{name}_kept", own["kept"])
        found.mean(f"{name}_seconds", own["decompose_s"])
        found.mean(f"{name}_evaluations", own["evaluations"])
    exact = samples[samples["method"] == "exact"]
    for layer, name in LAYERS.items():
        found.mean(f"{name}_rank", exact.loc[exact["layer"] == layer, "rank"])
        own = curves[curves["layer"] == layer]
        for rank, rows in own.groupby("rank"):
            at = mean_interval(list(rows["loss"] - rows["dense_loss"]))
            band = (at.low, at.high) if at.count > 1 else (None, None)
            found.curves.append(
                CurvePoint("curves", f"{name} weight", float(str(rank)), at.mean, *band)
            )
    return found


MNIST_EPOCHS = 20
ALPHAS = {"half": 0.5, "quarter": 0.25, "eighth": 0.125}


def alpha(runs: Runs) -> Evidence:
    """Fewer singular values on MNIST, and SVD-DNN on a network of 50 hidden units.

    How much accuracy and cost each halving of α loses, and what the small network loses.
    """
    found = Evidence()
    arms = {name: Arms(runs, "alpha", 0.1, alpha) for name, alpha in ALPHAS.items()}
    for name, arm in arms.items():
        put_speed(found, f"{name}_", arm)
        if arm.trained(MNIST_EPOCHS):
            put_gain(found, f"{name}_gain", arm)
    for (_, before), (name, arm) in pairwise(arms.items()):
        cost, cost_before = (list(one.last("svd", "loss", "train")) for one in (arm, before))
        more = paired_difference(cost, cost_before)
        found.interval(f"{name}_cost_more", more, f"mean of {quantity(more.count, 'paired seed')}")
    put_cost_curves(found, "cost", arms["half"].samples)
    small = Arms(runs, "alpha-small", 0.1)
    if small.trained(MNIST_EPOCHS):
        put_gain(found, "small_gain", small)
        found.one_more("small_dnn_test", small.last("dnn", "accuracy", "test"))
    return found


def _arms(found: Evidence, runs: Runs, prefix: str, run: str, epochs: int) -> Arms:
    """The arms of a run, with their speed, and their costs if they were trained to the end."""
    arms = Arms(runs, run, 0.1)
    put_speed(found, prefix, arms)
    if arms.trained(epochs):
        put_costs(found, prefix, arms)
    return arms


CATS_EPOCHS = 100


def cats(runs: Runs) -> Evidence:
    """SVD-DNN on Cats: cost, accuracy and speed.

    Costs, accuracies and speeds, as published and as corrected.
    """
    found = Evidence()
    for prefix, run in (("", "cats-published"), ("corrected_", "cats-corrected")):
        arms = _arms(found, runs, prefix, run, CATS_EPOCHS)
        if arms.trained(CATS_EPOCHS):
            put_gain(found, f"{prefix}gain", arms)
            for arm in ("dnn", "svd"):
                for split in ("train", "test"):
                    found.one_more(f"{prefix}{arm}_{split}", arms.last(arm, "accuracy", split))
        if not prefix:
            put_cost_curves(found, "cost", arms.samples)
    return found


MNIST_RUNS = {"": "mnist-published", "corrected_": "mnist-corrected", "text_": "mnist-text"}


def mnist(runs: Runs) -> Evidence:
    """SVD-DNN on MNIST, pre-trained and not: cost, accuracy and speed.

    Costs, accuracies and speeds: as published, as corrected, and with the text's ranks.
    """
    found = Evidence()
    for prefix, run in MNIST_RUNS.items():
        for phi, name in ((0.1, "10"), (0.0, "0")):
            arms = Arms(runs, run, phi)
            put_speed(found, f"{prefix}{name}_", arms)
            if arms.trained(MNIST_EPOCHS):
                _put_scores(found, f"{prefix}{name}_", arms)
        if arms.trained(MNIST_EPOCHS):
            for split in ("train", "test"):
                found.one_more(f"{prefix}dnn_{split}", arms.last("dnn", "accuracy", split))
        if not prefix:
            put_cost_curves(found, "cost", arms.samples)
    return found


def _put_scores(found: Evidence, prefix: str, arms: Arms) -> None:
    put_costs(found, prefix, arms)
    put_gain(found, f"{prefix}gain", arms)
    for split in ("train", "test"):
        found.one_more(f"{prefix}{split}", arms.last("svd", "accuracy", split))


XOR_EPOCHS = 800


def xor(runs: Runs) -> Evidence:
    """SVD-DNN on XOR: cost and speed.

    Costs and speeds, as published and as corrected.
    """
    found = Evidence()
    for prefix, run in (("", "xor-published"), ("corrected_", "xor-corrected")):
        arms = _arms(found, runs, prefix, run, XOR_EPOCHS)
        if not prefix:
            put_cost_curves(found, "cost", arms.samples)
    return found
