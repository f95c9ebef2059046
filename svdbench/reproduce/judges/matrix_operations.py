"""Matrix operations through the SVD against torch.linalg's, at equal accuracy."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.times import put_curves, put_ratio, row_of, steps

OPERATIONS = ("inverse", "logdet", "exp", "cayley")
ERRORS = ["error", "grad_V_error", "grad_X_error"]


def measure(runs: Runs) -> Measured:
    """For each operation: the time of the fastest other way over ours, by size."""
    found, timed = Measured(), steps(runs.table("operations"))
    for operation in OPERATIONS:
        own = timed[timed["operation"] == operation]
        name = ""
        for d in sorted(set(own["d"])):
            at = own[own["d"] == d]
            ours, others = row_of(at, kind="svd"), at[at["kind"] != "svd"]
            if ours is None or others.empty:
                continue
            best = others.loc[others["median_s"].idxmin()]
            name = f"{operation}_{d:.0f}"
            put_ratio(found, name, best, ours)
            errors = [max(row[ERRORS].dropna()) for row in (ours, best)]
            found.exact(f"{operation}_error", errors[0] / errors[1])
        if name:
            found.numbers[f"{operation}_largest"] = found.numbers[name]
        put_curves(found, operation, own, "d", "method")
    return found
