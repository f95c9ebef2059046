"""Which ranks the three-layer network needs, and what Algorithm 3 finds."""

from svdbench.reproduce.numbers import Measured, Point
from svdbench.reproduce.runs import Runs
from svdbench.statistics.intervals import mean_interval

LAYERS = {"0.weight": "first", "2.weight": "second", "4.weight": "last"}


def measure(runs: Runs) -> Measured:
    """Losses added by each algorithm's ranks, ranks needed, and the work."""
    found = Measured()
    summary, samples, curves = (
        runs.table("three-layer-ranks", name) for name in ("summary", "samples", "curves")
    )
    for method, own in summary.groupby("method"):
        name = str(method).replace(" ", "_")
        found.mean(f"{name}_increase", own["increase"])
        found.mean(f"{name}_kept", own["kept"])
        found.mean(f"{name}_seconds", own["decompose_s"])
        found.mean(f"{name}_evaluations", own["evaluations"])
    exact = samples[samples["method"] == "exact"]
    for layer, name in LAYERS.items():
        found.mean(f"{name}_rank", exact.loc[exact["layer"] == layer, "rank"])
        own = curves[curves["layer"] == layer]
        for rank, rows in own.groupby("rank"):
            at = mean_interval(list(rows["loss"] - rows["dense_loss"]))
            band = (at.low, at.high) if at.count > 1 else (None, None)
            found.curves.append(Point("curves", f"{name} weight", float(str(rank)), at.mean, *band))
    return found
