"""The models that the report could not run, beside the Spectral-RNN."""

from svdbench.record.schema import WELL
from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.trainings import put_curves, put_further

OURS = "spectral_rnn"


def measure(runs: Runs) -> Measured:
    """How many models train, and the loss of ours over that of each, on both tasks."""
    found = Measured()
    for task in ("copy", "add"):
        summary, samples = (runs.table(f"all-{task}", name) for name in ("summary", "samples"))
        well = summary[summary["status"].isin(WELL)]
        found.exact(f"models_{task}", float(well["model"].nunique()))
        for model, rows in summary.groupby("model"):
            found.mean(f"{model}_{task}", rows["relative_loss"])
            if model != OURS:
                put_further(found, f"over_{model}_{task}", samples, OURS, str(model))
        put_curves(found, task, samples, "relative_loss")
    return found
