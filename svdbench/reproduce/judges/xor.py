"""SVD-DNN on XOR: cost and speed."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.svd_dnn import Arms, put_costs, put_curves, put_speed

EPOCHS = 800


def measure(runs: Runs) -> Measured:
    """Costs and speeds, as published and as corrected."""
    found = Measured()
    for prefix, run in (("", "xor-published"), ("corrected_", "xor-corrected")):
        samples, summary = (runs.table(run, name) for name in ("samples", "summary"))
        arms = Arms(samples, summary, 0.1)
        put_speed(found, prefix, arms)
        if arms.trained(EPOCHS):
            put_costs(found, prefix, arms)
        if not prefix:
            put_curves(found, "cost", samples)
    return found
