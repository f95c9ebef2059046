"""SVD-DNN on XOR: cost and speed."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.svd_dnn import Arms, put_costs, put_curves


def measure(runs: Runs) -> Measured:
    """Costs and speeds, as published and as corrected."""
    found = Measured()
    for prefix, run in (("", "xor-published"), ("corrected_", "xor-corrected")):
        samples, summary = (runs.table(run, name) for name in ("samples", "summary"))
        put_costs(found, prefix, Arms(samples, summary, 0.1))
        if not prefix:
            put_curves(found, "cost", samples)
    return found
