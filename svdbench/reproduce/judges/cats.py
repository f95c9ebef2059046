"""SVD-DNN on Cats: cost, accuracy and speed."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.svd_dnn import Arms, put_costs, put_curves, put_gain, put_speed

EPOCHS = 100


def measure(runs: Runs) -> Measured:
    """Costs, accuracies and speeds, as published and as corrected."""
    found = Measured()
    for prefix, run in (("", "cats-published"), ("corrected_", "cats-corrected")):
        samples, summary = (runs.table(run, name) for name in ("samples", "summary"))
        arms = Arms(samples, summary, 0.1)
        put_speed(found, prefix, arms)
        if arms.trained(EPOCHS):
            put_costs(found, prefix, arms)
            put_gain(found, f"{prefix}gain", arms)
            for arm in ("dnn", "svd"):
                for split in ("train", "test"):
                    found.one_more(f"{prefix}{arm}_{split}", arms.last(arm, "accuracy", split))
        if not prefix:
            put_curves(found, "cost", samples)
    return found
