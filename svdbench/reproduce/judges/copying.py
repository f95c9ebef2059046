"""Copying over a short and a long lag: the Spectral-RNN, the oRNN, and LSTM."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.trainings import SECONDS, put_curves, put_further

OURS = "spectral_rnn"


def measure(runs: Runs) -> Measured:
    """Losses over the baseline, ours over those of the others, and curves, for each lag."""
    found = Measured()
    for lag in ("short", "long"):
        summary, samples = (runs.table(f"copy-{lag}", name) for name in ("summary", "samples"))
        for model, rows in summary.groupby("model"):
            found.mean(f"{model}_{lag}", rows["relative_loss"])
        put_further(found, f"over_lstm_{lag}", samples, OURS, "lstm")
        put_further(found, f"over_lstm_seconds_{lag}", samples, OURS, "lstm", SECONDS)
        put_further(found, f"over_orthogonal_{lag}", samples, OURS, "orthogonal_rnn")
        put_curves(found, lag, samples, "relative_loss")
    small = runs.table("copy-lstm-small")
    found.mean("small_lstm_short", small["relative_loss"])
    found.exact("small_lstm_parameters", float(small["n_params"].iloc[0]))
    ours = summary[summary["model"] == OURS]
    found.exact("parameters", float(ours["n_params"].iloc[0]))
    return found
