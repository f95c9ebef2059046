"""``make bench-lowrank``: the figures of low-rank compression, measured and judged.

Times the drivers of the truncated SVD, compressing beside training, training in factors, also
step by step, and the commands as a user types them. Needs MNIST (``svdbench data fetch mnist``);
writes ``figures.csv`` beside the runs. Parts can be named, as in
``python -m promises.low_rank drivers``.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from promises.figures import Promise, measure_parts
from promises.training_steps import whole_steps
from svdbench.jobs.time_svd.report import GOOD, by_driver
from svdbench.record.reader import RecordedRun
from svdbench.running.processes import run_command
from svdbench.running.start import launch
from svdbench.statistics.intervals import paired_difference

if TYPE_CHECKING:
    import pandas as pd

LARGE, RANK = "2048x2048", 256
SPEED_SEEDS, ACCURACY_SEEDS = 2, 5
THREADS = (1, 2)


def main(parts: Sequence[str]) -> None:
    """Measure the parts, all by default; write the figures and print the verdicts.

    Raises:
        UserError: a part that there is none of.
    """
    measure_parts("bench-lowrank", PARTS, parts)


def drivers(folder: Path) -> list[Promise]:
    """Time against error of every driver, at every shape."""
    launch("time_svd", [f"results={folder}", "name=drivers"])
    return driver_figures(by_driver(RecordedRun(folder / "time-svd" / "drivers").frame("summary")))


def driver_figures(judged: "pd.DataFrame") -> list[Promise]:
    """From a row for each driver, shape and rank: ``svdbench.jobs.time_svd.report.by_driver``."""
    m, n = map(int, LARGE.split("x"))
    at = judged[(judged["m"] == m) & (judged["n"] == n) & (judged["k"] == RANK)]
    at = at.set_index("method")
    ours = at.loc["randomized"]
    what = f"randomized_svd, {LARGE}, k = {RANK}"
    figures = [
        Promise(f"{what}: error over the best", None, ours["over_optimal"], False, GOOD),
        Promise(f"{what}: svd's time over its", None, _over(at, "torch_svd", ours), True, 10),
        Promise(
            f"{what}: its time over svd_lowrank(q=k)'s",
            None,
            1 / _over(at, "torch_svd_lowrank", ours),
            False,
            1.5,
        ),
    ]
    for (rows, columns, k), cell in judged.groupby(["m", "n", "k"]):
        auto = cell[cell["method"] == "auto"]["time_s"]
        best = cell[cell["good"]]["time_s"].min()
        ratio = float(auto.iloc[0]) / best if len(auto) else None
        text = f"auto's time over the fastest within {GOOD}, {rows}x{columns}, k = {k}"
        figures.append(Promise(text, None, ratio, False, 1.1))
    return figures


def compressing(folder: Path) -> list[Promise]:
    """What compressing adds to an epoch of the three-layer network, after each or each batch."""
    figures = []
    for preset, when, most in (("corrected", "epoch", 0.03), ("published", "batch", 0.6)):
        overrides = [f"results={folder}", f"experiment=three_layer_{preset}", f"name={preset}"]
        launch("compress", overrides)
        runs = RecordedRun(folder / "compress" / preset).frame("summary")
        for method, own in runs[runs["method"] != "stock"].groupby("method"):
            text = f"{method} after each {when}: adds to an epoch"
            figures.append(Promise(text, None, float(own["added"].median()), False, most))
    return figures


def accelerating(folder: Path) -> list[Promise]:
    """How much faster SVD-DNN trains in Sarnayak et al.'s counting, and what it costs."""
    figures = []
    for meaning, least in (("code", 1.6), ("text", 1.15)):
        for threads in THREADS:
            options = [f"alpha_meaning={meaning}", f"seeds={SPEED_SEEDS}", f"threads={threads}"]
            name = f"{meaning}-threads-{threads}"
            runs = _accelerated(folder, "svd_dnn_mnist_published", options, name)
            what = f"α ½ of the {meaning}, threads {threads}"
            figures += acceleration_figures(runs, what, least)
    seeds = [f"seeds={ACCURACY_SEEDS}"]
    runs = _accelerated(folder, "svd_dnn_mnist_corrected", seeds, "corrected")
    figures += acceleration_figures(runs, "α ½, no gradient of the images", None)
    runs = _accelerated(folder, "svd_dnn_mnist_twice", seeds, "twice")
    return [*figures, *acceleration_figures(runs, "α ¼, lr 2e-3", 2.0)]


def acceleration_figures(runs: "pd.DataFrame", what: str, least: float | None) -> list[Promise]:
    """From the summary of a run: speed, and accuracy against the dense arm's, by arm."""
    dense = runs[runs["method"] == "dnn"].set_index("seed")["accuracy"]
    figures = []
    for phi, own in runs[runs["method"] != "dnn"].groupby("phi"):
        text = f"SVD-DNN, {what}, φ {phi:.0%}"
        if least is not None:
            speed = float(own["speedup"].median())
            figures.append(Promise(f"{text}: relative speed", None, speed, True, least))
        else:
            part = float((own["speedup"] / own["ceiling"]).median())
            figures.append(Promise(f"{text}: part of the ceiling", None, part, True, 0.8))
        lost = float((own.set_index("seed")["accuracy"] - dense).mean())
        figures.append(Promise(f"{text}: accuracy − dense, mean", None, lost, True, -0.003))
    return figures


PAYS, RANDOM = "SVD-DNN α 0.25, φ 10 %", "factors α 0.125"
CARRIED, RESET = "SVD-DNN α 0.25, φ 10 %", "SVD-DNN, moments reset, α 0.25, φ 10 %"


def paying(folder: Path) -> list[Promise]:
    """Low rank beside the best smaller dense network, in equal seconds, each at its best rate."""
    runs, factors, moments = (
        _accelerated(folder, f"{name}_mnist", [], name)
        for name in ("low_rank", "factors", "moments")
    )
    figures = [_against(runs, PAYS, "DNN", -0.02), _against(runs, PAYS, best_smaller(runs), 0.006)]
    return [*figures, *factors_figures(factors), moments_figure(moments)]


def best_smaller(runs: "pd.DataFrame") -> str:
    """The smaller dense network with the lowest mean test loss."""
    narrow = runs[runs["method"] == "narrow_dnn"]
    return str(narrow.groupby("arm")["loss"].mean().idxmin())


def factors_figures(runs: "pd.DataFrame") -> list[Promise]:
    """From the summary of ``factors_mnist``: loss and costs beside the best smaller network's."""
    best, first = best_smaller(runs), runs.groupby("arm").first()
    found = [_against(runs, RANDOM, best, 0.006)]
    for column, most in (("n_params", 0.45), ("multiplications", 0.7)):
        value = float(first.loc[RANDOM, column] / first.loc[best, column])
        found.append(Promise(f"{RANDOM}: {column} over {best}'s", None, value, False, most))
    return found


def _against(runs: "pd.DataFrame", arm: str, other: str, most: float) -> Promise:
    """The difference of two arms' test losses, ``most`` at most, with half its interval."""
    losses = runs.pivot_table(index="seed", columns="arm", values="loss")
    found = paired_difference(list(losses[arm]), list(losses[other]))
    text = f"{arm}: test loss − {other}'s, ± {found.halfwidth:.4f}"
    return Promise(text, None, found.mean, False, most)


def moments_figure(runs: "pd.DataFrame") -> Promise:
    """From the summary of ``moments_mnist``: whether carried moments end at the lower loss."""
    return _against(runs, CARRIED, RESET, 0.0)


def commands(folder: Path) -> list[Promise]:
    """The commands as a user types them first, from the prompt and back."""
    figures = []
    for name, most in (("mnist", 120), ("digits", 20)):
        command = ["compress", name, "--ranks", "10", f"results={folder}", "--name", name]
        start = perf_counter()
        run_command(command).check_returncode()
        seconds = perf_counter() - start
        figures.append(Promise(f"svdbench compress {name}: seconds", None, seconds, False, most))
    return figures


def _accelerated(folder: Path, experiment: str, options: list[str], name: str) -> "pd.DataFrame":
    common = [f"results={folder}", f"experiment={experiment}", f"name={name}"]
    launch("accelerate", [*common, *options])
    return RecordedRun(folder / "accelerate" / name).frame("summary")


def _over(at: "pd.DataFrame", method: str, ours: "pd.Series") -> float:
    """How many times our time ``method`` takes; NaN where it has none."""
    return float(at["time_s"].get(method, float("nan")) / ours["time_s"])


PARTS: dict[str, Callable[[Path], list[Promise]]] = {
    "drivers": drivers,
    "compressing": compressing,
    "commands": commands,
    "accelerating": accelerating,
    "paying": paying,
    "steps": whole_steps,
}

if __name__ == "__main__":
    main(sys.argv[1:])
