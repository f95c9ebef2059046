"""‖∂L/∂h_t‖ over the sequence, and over training."""

from typing import TYPE_CHECKING

from svdbench.reproduce.numbers import Measured, Point
from svdbench.reproduce.runs import Runs

if TYPE_CHECKING:
    import pandas as pd

MOMENTS = {"start": 0.0, "middle": 0.5, "end": 1.0}


def measure(runs: Runs) -> Measured:
    """First over last norm at the start, the middle and the end; the end over the start."""
    found = Measured()
    for prefix, run in (("", "norms"), ("modrelu_", "norms-modrelu")):
        rows = runs.table(run, "gradients")
        for model, own in rows.groupby("model", sort=False):
            _put(found, f"{prefix}{model}", own)
    return found


def _put(found: Measured, name: str, rows: "pd.DataFrame") -> None:
    by_seed = [_table(norms) for _, norms in rows.groupby("seed")]
    for moment, share in MOMENTS.items():
        looks = [_at(norms, share) for norms in by_seed]
        found.geometric(f"{name}_{moment}", [look.iloc[0] / look.iloc[-1] for look in looks])
    changes = [_at(norms, 1.0).mean() / _at(norms, 0.0).mean() for norms in by_seed]
    found.geometric(f"{name}_change", changes)
    norms = rows.pivot_table(index="step", columns="t", values="norm", aggfunc="median")
    for moment in ("start", "end"):
        for t, norm in _at(norms, MOMENTS[moment]).items():
            if norm > 0:
                label = f"{name}, {moment}".replace("_", " ")
                found.curves.append(Point("norms", label, float(str(t)), float(norm)))


def _table(norms: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each step of training, a column for each t."""
    return norms.pivot_table(index="step", columns="t", values="norm")


def _at(norms: "pd.DataFrame", share: float) -> "pd.Series":
    """The norms after that share of the training."""
    look: pd.Series = norms.iloc[round(share * (len(norms) - 1))]
    return look
