"""SVD-DNN on MNIST, pre-trained and not: cost, accuracy and speed."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.svd_dnn import Arms, put_costs, put_curves, put_gain


def measure(runs: Runs) -> Measured:
    """Costs, accuracies and speeds: as published, as corrected, and with the text's ranks."""
    found = Measured()
    parts = (("", "mnist-published"), ("corrected_", "mnist-corrected"), ("text_", "mnist-text"))
    for prefix, run in parts:
        samples, summary = (runs.table(run, name) for name in ("samples", "summary"))
        for phi, name in ((0.1, "10"), (0.0, "0")):
            arms = Arms(samples, summary, phi)
            put_costs(found, f"{prefix}{name}_", arms)
            put_gain(found, f"{prefix}{name}_gain", arms)
            found.one_more(f"{prefix}{name}_test", arms.last("svd", "accuracy", "test"))
            found.one_more(f"{prefix}{name}_train", arms.last("svd", "accuracy", "train"))
        found.one_more(f"{prefix}dnn_test", arms.last("dnn", "accuracy", "test"))
        found.one_more(f"{prefix}dnn_train", arms.last("dnn", "accuracy", "train"))
        if not prefix:
            put_curves(found, "cost", samples)
    return found
