"""How fast SVD-DNN can be at all: what was published over what the multiplications allow."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs

# What was published, as the documents round it down: (run, φ, speed).
PUBLISHED = {
    "xor": ("xor-published", 0.1, 2.65),
    "cats": ("cats-published", 0.1, 1.455),
    "mnist": ("mnist-published", 0.1, 1.195),
    "mnist_0": ("mnist-published", 0.0, 1.2525),
}


def measure(runs: Runs) -> Measured:
    """For each experiment: the ceiling, the published speed over it, and ours over it."""
    found = Measured()
    for name, (run, phi, published) in PUBLISHED.items():
        arms = runs.table(run)
        own = arms[(arms["method"] != "dnn") & ((arms["phi"] - phi).abs() < 1e-9)]
        if own.empty:
            continue
        ceiling = float(own["ceiling"].median())
        found.exact(f"{name}_ceiling", ceiling)
        found.exact(f"{name}_published_over_ceiling", published / ceiling)
        found.mean(f"{name}_speed", own["speedup"])
        found.mean(f"{name}_speed_over_ceiling", own["speedup"] / own["ceiling"])
    return found
