"""Adding: the Spectral-RNN, the oRNN and LSTM; how fast, and how steadily."""

from typing import TYPE_CHECKING

from svdbench.quantities import quantity
from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.trainings import SECONDS, put_curves, put_further
from svdbench.statistics.intervals import paired_difference

if TYPE_CHECKING:
    import pandas as pd

OURS = "spectral_rnn"
LEAP = 1.5


def measure(runs: Runs) -> Measured:
    """Losses over the baseline, ours over those of the others, and leaps of the loss."""
    import pandas as pd

    found = Measured()
    summary, samples = (runs.table("add", name) for name in ("summary", "samples"))
    for model, rows in summary.groupby("model"):
        found.mean(f"{model}_loss", rows["relative_loss"])
        found.mean(f"{model}_steps", rows["steps_to_target"])
        found.mean(f"{model}_seconds", rows["seconds_to_target"])
    put_further(found, "over_lstm", samples, OURS, "lstm")
    put_further(found, "over_lstm_seconds", samples, OURS, "lstm", SECONDS)
    put_further(found, "over_orthogonal", samples, OURS, "orthogonal_rnn")
    small = runs.table("add-lstm-small", "samples").assign(model="small")
    put_further(found, "over_small_lstm", pd.concat([samples, small]), OURS, "small")
    leaps = _leaps(samples)
    if len(leaps):
        fewer = paired_difference(list(leaps[OURS]), list(leaps["orthogonal_rnn"]))
        found.interval("leaps_difference", fewer, f"mean of {quantity(fewer.count, 'paired seed')}")
    put_curves(found, "loss", samples, "relative_loss")
    return found


def _leaps(samples: "pd.DataFrame") -> "pd.DataFrame":
    """The share of evaluations whose loss is half as large again as the best before: by seed."""
    rows = samples.sort_values("step")
    best = rows.groupby(["model", "seed"])["loss"].cummin()
    counted = rows.assign(leap=rows["loss"] > LEAP * best)
    table = counted.pivot_table(index="seed", columns="model", values="leap", aggfunc="mean")
    return table.dropna()
