"""A loop of the Spectral-RNN: reflectors one by one, FastH, and W built once."""

from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.times import put_curves, put_ratio, row_of, steps

VANILLA, FASTH, ONCE = "reflectors_each_step_n", "fasth_each_step_n", "spectral_n"


def measure(runs: Runs) -> Measured:
    """Times and counts of dependent operations over FastH's, by hidden size."""
    found, summary = Measured(), runs.table("loop")
    timed, every = steps(summary), summary[summary["pass"] == "step"]
    sizes = sorted(set(timed.loc[timed["method"] == FASTH, "d"]))
    for d in sizes:
        at = timed[timed["d"] == d]
        fasth = row_of(at, method=FASTH)
        for name, method in (("vanilla", VANILLA), ("lstm", "torch_lstm"), ("rnn", "torch_rnn")):
            put_ratio(found, f"{name}_{d:.0f}", row_of(at, method=method), fasth)
        put_ratio(found, f"once_{d:.0f}", fasth, row_of(at, method=ONCE))
    compared = [d for d in sizes if f"vanilla_{d:.0f}" in found.numbers]
    if compared:
        ends = {"smallest": compared[0], "largest": compared[-1]}
        for name, d in ends.items():
            found.numbers[f"vanilla_{name}"] = found.numbers[f"vanilla_{d:.0f}"]
            counts = [
                row_of(every, method=method, d=d)["sequential_ops"] for method in (VANILLA, FASTH)
            ]
            found.exact(f"sequential_{name}", counts[0] / counts[1])
    put_curves(found, "loop", timed[timed["method"].str.endswith("_n")], "d", "method")
    return found
