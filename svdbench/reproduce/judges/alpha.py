"""Fewer singular values on MNIST, and SVD-DNN on a network of 50 hidden units."""

from itertools import pairwise

from svdbench.quantities import quantity
from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.svd_dnn import Arms, put_curves, put_gain, put_speed
from svdbench.statistics.intervals import paired_difference

EPOCHS = 20
ALPHAS = {"half": 0.5, "quarter": 0.25, "eighth": 0.125}


def measure(runs: Runs) -> Measured:
    """How much accuracy and cost each halving of α loses, and what the small network loses."""
    found = Measured()
    samples, summary = (runs.table("alpha", name) for name in ("samples", "summary"))
    arms = {name: Arms(samples, summary, 0.1, alpha) for name, alpha in ALPHAS.items()}
    for name, arm in arms.items():
        put_speed(found, f"{name}_", arm)
        if arm.trained(EPOCHS):
            put_gain(found, f"{name}_gain", arm)
    for (_, before), (name, arm) in pairwise(arms.items()):
        cost, cost_before = (list(one.last("svd", "loss", "train")) for one in (arm, before))
        more = paired_difference(cost, cost_before)
        found.interval(f"{name}_cost_more", more, f"mean of {quantity(more.count, 'paired seed')}")
    put_curves(found, "cost", samples)
    samples, summary = (runs.table("alpha-small", name) for name in ("samples", "summary"))
    small = Arms(samples, summary, 0.1)
    if small.trained(EPOCHS):
        put_gain(found, "small_gain", small)
        found.one_more("small_dnn_test", small.last("dnn", "accuracy", "test"))
    return found
