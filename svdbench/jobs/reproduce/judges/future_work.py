"""Judges of what the report on SVD-DNN leaves to future work: larger networks, others, α and φ."""

import pandas as pd

from svdbench.jobs.reproduce.evidence import Runs
from svdbench.jobs.reproduce.judges.low_rank import Arms, put_gain, put_speed
from svdbench.jobs.reproduce.numbers import CurvePoint, Evidence
from svdbench.reporting.words import quantity
from svdbench.statistics.intervals import paired_difference

PHI = 0.1


def larger_networks(runs: Runs) -> Evidence:
    """SVD-DNN on a transformer of 1.7 million parameters, in equal seconds.

    Process seconds of the dense network's steps over those of SVD-DNN's, losses and accuracies.
    """
    found = Evidence()
    _put_equal_seconds(found, "text", Arms(runs, "larger-text", PHI), curves=False)
    return found


def other_networks(runs: Runs) -> Evidence:
    """SVD-DNN on a convolutional and on a recurrent network, in equal seconds.

    Process seconds of the dense network's steps over those of SVD-DNN's, losses and accuracies.
    """
    found = Evidence()
    for name, run in (("conv", "convolutional"), ("lstm", "recurrent")):
        _put_equal_seconds(found, name, Arms(runs, run, PHI))
    return found


def _put_equal_seconds(found: Evidence, name: str, arms: Arms, curves: bool = True) -> None:
    """What factors reach in the seconds of the dense network.

    Args:
        curves: whether there are scores on the way.
    """
    each = [arms.last(a, "used_s", "test") / arms.last(a, "step", "test") for a in ("dnn", "svd")]
    found.geometric(f"{name}_speed", each[0] / each[1])
    found.exact(f"{name}_ceiling", float(arms.summary["ceiling"].median()))
    put_gain(found, f"{name}_gain", arms)
    more = arms.difference("loss", "test")
    found.interval(f"{name}_more_loss", more, f"mean of {quantity(more.count, 'paired seed')}")
    found.one_more(f"{name}_dnn_loss", arms.last("dnn", "loss", "test"))
    found.one_more(f"{name}_dnn_test", arms.last("dnn", "accuracy", "test"))
    if curves:
        _put_loss_curves(found, name, arms)


def _put_loss_curves(found: Evidence, figure: str, arms: Arms) -> None:
    """The test loss over the seconds of training, with the range of the seeds."""
    for label, rows in (("dense", arms.rows["dnn"]), ("SVD-DNN", arms.rows["svd"])):
        own = rows[rows["split"] == "test"].groupby("epoch")
        table = own.agg(x=("used_s", "median"), loss=("loss", "median"))
        ends = own["loss"].agg(["min", "max"])
        for row in pd.concat([table, ends], axis=1).to_dict("records"):
            values = map(float, (row["x"], row["loss"], row["min"], row["max"]))
            found.curves.append(CurvePoint(figure, label, *values))


ALPHAS = {"half": 0.5, "quarter": 0.25, "eighth": 0.125, "sixteenth": 0.0625}
PHIS = {"0": 0.0, "5": 0.05, "10": 0.1, "20": 0.2, "50": 0.5}


def alpha_and_phi(runs: Runs) -> Evidence:
    """Every α with every φ: losses, accuracies and seconds.

    Losses and accuracies less the dense network's, and losses less those at other φ.
    """
    found = Evidence()
    arms = {
        (alpha, phi): Arms(runs, "alpha-phi", share, kept)
        for alpha, kept in ALPHAS.items()
        for phi, share in PHIS.items()
    }
    for (alpha, phi), own in arms.items():
        name = f"{alpha}_{phi}"
        put_speed(found, f"{name}_", own)
        put_gain(found, f"{name}_gain", own)
        more = own.difference("loss", "test")
        found.interval(f"{name}_more_loss", more, f"mean of {quantity(more.count, 'paired seed')}")
        band = (more.low, more.high) if more.count > 1 else (None, None)
        label = {"half": "α ½", "quarter": "α ¼", "eighth": "α ⅛", "sixteenth": "α 1/16"}[alpha]
        found.curves.append(CurvePoint("phi", label, 100 * PHIS[phi], more.mean, *band))
    for alpha in ALPHAS:
        for more_phi, less in (("10", "0"), ("20", "10"), ("50", "10"), ("50", "20")):
            both = [arms[alpha, phi].last("svd", "loss", "test") for phi in (more_phi, less)]
            table = pd.concat(both, axis=1).dropna()
            change = paired_difference(list(table.iloc[:, 0]), list(table.iloc[:, 1]))
            of = f"mean of {quantity(change.count, 'paired seed')}"
            found.interval(f"{alpha}_{more_phi}_less_{less}", change, of)
    return found
