"""SVD-DNN on MNIST, pre-trained and not: cost, accuracy and speed."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.svd_dnn import Arms, put_costs, put_curves, put_gain, put_speed

EPOCHS = 20
RUNS = {"": "mnist-published", "corrected_": "mnist-corrected", "text_": "mnist-text"}


def measure(runs: Runs) -> Measured:
    """Costs, accuracies and speeds: as published, as corrected, and with the text's ranks."""
    found = Measured()
    for prefix, run in RUNS.items():
        samples, summary = (runs.table(run, name) for name in ("samples", "summary"))
        for phi, name in ((0.1, "10"), (0.0, "0")):
            arms = Arms(samples, summary, phi)
            put_speed(found, f"{prefix}{name}_", arms)
            if arms.trained(EPOCHS):
                _scores(found, f"{prefix}{name}_", arms)
        if arms.trained(EPOCHS):
            for split in ("train", "test"):
                found.one_more(f"{prefix}dnn_{split}", arms.last("dnn", "accuracy", split))
        if not prefix:
            put_curves(found, "cost", samples)
    return found


def _scores(found: Measured, prefix: str, arms: Arms) -> None:
    put_costs(found, prefix, arms)
    put_gain(found, f"{prefix}gain", arms)
    for split in ("train", "test"):
        found.one_more(f"{prefix}{split}", arms.last("svd", "accuracy", split))
