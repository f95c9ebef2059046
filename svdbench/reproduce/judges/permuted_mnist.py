"""Permuted MNIST: the Spectral-RNN, the oRNN and LSTM after as many steps."""

from svdbench.quantities import quantity
from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.trainings import put_curves
from svdbench.statistics.intervals import paired_difference

OURS = "spectral_rnn"


def measure(runs: Runs) -> Measured:
    """Test accuracies, and by how many ours are higher, seed by seed."""
    found = Measured()
    summary, samples = (runs.table("pixels", name) for name in ("summary", "samples"))
    accuracy = summary.pivot_table(index="seed", columns="model", values="test_accuracy")
    small = runs.table("pixels-lstm-small").set_index("seed")["test_accuracy"]
    accuracy = accuracy.assign(small_lstm=small).dropna()
    seconds = summary.pivot_table(index="seed", columns="model", values="elapsed_s")
    for model in accuracy:
        found.mean(f"{model}_accuracy", accuracy[model])
        if model != OURS:
            gain = paired_difference(list(accuracy[OURS]), list(accuracy[model]))
            found.interval(
                f"gain_over_{model}", gain, f"mean of {quantity(gain.count, 'paired seed')}"
            )
    found.geometric("seconds_over_lstm", seconds[OURS] / seconds["lstm"])
    put_curves(found, "accuracy", samples, "accuracy")
    return found
