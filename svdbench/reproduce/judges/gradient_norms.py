"""‖∂L/∂h_t‖ over the sequence, and over training."""

from typing import TYPE_CHECKING

from svdbench.reproduce.numbers import Measured, Point
from svdbench.reproduce.runs import Runs

if TYPE_CHECKING:
    import pandas as pd

OURS = "spectral_rnn"


def measure(runs: Runs) -> Measured:
    """First over last norm at the start, the middle and the end; the end over the start."""
    found, rows = Measured(), runs.table("norms", "gradients")
    for model, own in rows.groupby("model"):
        by_seed = {seed: _table(norms) for seed, norms in own.groupby("seed")}
        for moment, share in (("start", 0.0), ("middle", 0.5), ("end", 1.0)):
            ratios = [
                _at(norms, share).iloc[0] / _at(norms, share).iloc[-1] for norms in by_seed.values()
            ]
            found.mean(f"{model}_{moment}", ratios)
        shrink = [_at(n, 1.0).mean() / _at(n, 0.0).mean() for n in by_seed.values()]
        found.mean(f"{model}_shrink", shrink)
    for model, own in rows.groupby("model", sort=False):
        norms = own.groupby(["step", "t"])["norm"].median().unstack()
        for moment, share in (("start", 0.0), ("end", 1.0)):
            for t, norm in _at(norms, share).items():
                if norm > 0:
                    point = Point("norms", f"{model}, {moment}", float(str(t)), float(norm))
                    found.curves.append(point)
    return found


def _table(norms: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each step of training, a column for each t."""
    return norms.pivot_table(index="step", columns="t", values="norm")


def _at(norms: "pd.DataFrame", share: float) -> "pd.Series":
    """The norms after that share of the training."""
    return norms.iloc[round(share * (len(norms) - 1))]
