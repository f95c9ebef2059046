"""``make bench-rnn``: the figures of the recurrent networks, measured and judged.

Times the loop, then trains with the presets: the Spectral-RNN first, then its rivals
only for as long as can still decide, expRNN for as many steps and LSTM for as many
seconds. Writes ``figures.csv`` beside the runs. Takes hours; parts can be named, as in
``python -m promises.recurrent loop copying-200``.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from promises.figures import Promise, measure_parts
from promises.linear_steps import linear_steps
from svdbench.config.grammar import override
from svdbench.jobs.train.models import train
from svdbench.record.reader import RecordedRun
from svdbench.running.processes import run_command
from svdbench.running.start import launch
from svdbench.timings.report import read_summary

if TYPE_CHECKING:
    import pandas as pd

OURS, SEEDS = "spectral_rnn", 3
LSTM_SEEDS = {"addition": SEEDS, "copy": 1}
LENGTH, HIDDEN = 200, (128, 256, 512)
MINUTES_750, MINUTES_PIXELS = 30, 20
PACE_STEPS = 40


def main(parts: Sequence[str]) -> None:
    """Measure the parts, all by default; write the figures and print the verdicts.

    Raises:
        UserError: a part that there is none of.
    """
    measure_parts("bench-rnn", PARTS, parts)


def loop(folder: Path) -> list[Promise]:
    """A forward and backward pass over the sequence, by hidden size."""
    common = [f"results={folder}", f"sizes.length=[{LENGTH}]"]
    sizes = f"sizes.hidden=[{','.join(map(str, HIDDEN))}]"
    launch("time_rnn", [*common, sizes, "name=loop", "methods=[spectral,torch_rnn,torch_lstm]"])
    vanilla = "methods=[spectral,reflectors_each_step]"
    launch("time_rnn", [*common, "sizes.hidden=[128]", "name=vanilla", vanilla])
    return loop_figures(read_summary(RecordedRun(folder / "time-rnn" / "loop"))) + vanilla_figures(
        read_summary(RecordedRun(folder / "time-rnn" / "vanilla"))
    )


def loop_figures(summary: "pd.DataFrame") -> list[Promise]:
    """Ratios of the Spectral-RNN's time to those of PyTorch's layers."""
    times = _step_times(summary)
    return [
        Promise(f"{ours} / {rival}", n, times.loc[n, ours] / times.loc[n, rival], False, most)
        for rival, most in (("torch_rnn", 1.15), ("torch_lstm", 0.5))
        for ours in ("spectral_16", "spectral_n")
        for n in times.index
    ]


def vanilla_figures(summary: "pd.DataFrame") -> list[Promise]:
    """How many times longer reflectors take that are applied one by one at every step."""
    times = _step_times(summary)
    return [
        Promise(
            f"reflectors_each_step_{m} / spectral_{m}",
            n,
            times.loc[n, f"reflectors_each_step_{m}"] / times.loc[n, f"spectral_{m}"],
            True,
            20,
        )
        for m in ("16", "n")
        for n in times.index
    ]


def contest(task: str, length: str, folder: Path) -> list[Promise]:
    """The steps and seconds to 1 % of the baseline, beside expRNN's and LSTM's."""
    what = f"{task} {length.partition('=')[2]}"
    title = f"{task}-{length.partition('=')[2]}"
    common = [length, f"results={folder}"]
    seeds = f"trainer.seeds={SEEDS}"
    ours = _trained(OURS, task, [*common, seeds], folder, f"{title}-{OURS}")
    steps, seconds = (
        int(ours["step"].max()),
        float((ours["elapsed_s"] + ours["evaluation_s"]).max()),
    )
    # One seed of LSTM will do for copying, which it is not expected to learn.
    limits = {
        "exprnn": [f"trainer.steps={steps}", seeds],
        "lstm": [f"trainer.max_minutes={seconds / 60}", f"trainer.seeds={LSTM_SEEDS[task]}"],
    }
    rivals = {
        model: _trained(model, task, [*common, *limit], folder, f"{title}-{model}")
        for model, limit in limits.items()
    }
    return contest_figures(what, ours, rivals)


def contest_figures(
    what: str, ours: "pd.DataFrame", rivals: dict[str, "pd.DataFrame"]
) -> list[Promise]:
    """From the summaries of the trainings, a row for each seed.

    A rival that did not get there in ours' steps or seconds took at least those.
    """
    steps, seconds = (_median(ours, column) for column in ("step", "elapsed_s"))
    at = f"after {steps:,.0f} steps, {seconds:.0f} s (medians)"
    figures = [
        Promise(f"{what}: loss / baseline, worst seed, {at}", None, _worst(ours), False, 0.01),
        Promise(f"{what}: test loss / baseline, median", None, _tested(ours), False, 0.01),
    ]
    for model, unit, of, most in (
        ("exprnn", "steps", "step", 1.5),
        ("lstm", "seconds", "elapsed_s", 1.0),
    ):
        ratio = _median(ours, of) / _median(rivals[model], of)
        there = int((rivals[model]["status"] == "target").sum())
        text = f"{what}: {unit} / {model}'s ({there} of {len(rivals[model])} seeds there)"
        figures.append(Promise(text, None, ratio, False, most))
    return figures


def long_addition(folder: Path) -> list[Promise]:
    """Adding over 750 steps."""
    options = ["task.length=750", "trainer.steps=6000", f"results={folder}"]
    options += [f"trainer.max_minutes={MINUTES_750}"]
    ours = _trained(OURS, "addition", [*options, "trainer.target=0.1"], folder, "addition-750")
    text = f"adding 750: loss / baseline within {MINUTES_750} minutes"
    return [Promise(text, None, _worst(ours), False, 0.1)]


def pixels(folder: Path) -> list[Promise]:
    """Permuted MNIST, the full preset."""
    ours = _trained(OURS, "pmnist", [f"results={folder}"], folder, "pmnist-preset")
    text = f"pmnist: test accuracy after {float(ours['elapsed_s'].iloc[0]) / 60:.0f} minutes"
    return [Promise(text, None, float(ours["test_accuracy"].iloc[0]), True, 0.92)]


def pixels_in_time(folder: Path) -> list[Promise]:
    """Permuted MNIST, beside LSTM in as many minutes, each with a decay of its own."""
    found = {}
    for model in (OURS, "lstm"):
        common, name = [f"results={folder}"], f"pmnist-{MINUTES_PIXELS}-{model}"
        few = [*common, f"trainer.steps={PACE_STEPS}"]
        pace = float(_trained(model, "pmnist", few, folder, f"{name}-pace")["step_s"].iloc[0])
        # Evaluation is a tenth of the time.
        fit = f"trainer.steps={int(0.9 * 60 * MINUTES_PIXELS / pace)}"
        run = _trained(model, "pmnist", [*common, fit], folder, name)
        found[model] = float(run["test_accuracy"].iloc[0])
    text = f"pmnist in {MINUTES_PIXELS} minutes: test accuracy {found[OURS]:.1%}, above LSTM's by"
    return [Promise(text, None, found[OURS] - found["lstm"], True, 0)]


def defaults(folder: Path) -> list[Promise]:
    """The command as a user types it first, from the prompt and back."""
    command = ["train", "spectral-rnn", "--task", "addition"]
    start = perf_counter()
    run_command([*command, f"results={folder}", "--name", "defaults"]).check_returncode()
    seconds = perf_counter() - start
    loss = _worst(_summary(folder, "defaults"))
    return [
        Promise("train spectral-rnn --task addition: seconds", None, seconds, False, 180),
        Promise("train spectral-rnn --task addition: loss / baseline", None, loss, False, 0.01),
    ]


def _trained(model: str, task: str, typed: list[str], folder: Path, name: str) -> "pd.DataFrame":
    train(model, task, [*typed, override("name", name)])
    return _summary(folder, name)


def _summary(folder: Path, name: str) -> "pd.DataFrame":
    return RecordedRun(folder / "train" / name).frame("summary")


def _step_times(summary: "pd.DataFrame") -> "pd.DataFrame":
    rows = summary[(summary["pass"] == "step") & (summary["status"] == "ok")]
    return rows.pivot_table(index="d", columns="method", values="median_s")


def _worst(runs: "pd.DataFrame") -> float:
    return float(runs["relative_loss"].max())


def _tested(runs: "pd.DataFrame") -> float:
    return float((runs["test_loss"] / runs["baseline_loss"]).median())


def _median(runs: "pd.DataFrame", column: str) -> float:
    return float(runs[column].median())


PARTS: dict[str, Callable[[Path], list[Promise]]] = {
    "loop": loop,
    "steps": linear_steps,
    "defaults": defaults,
    **{f"copying-{lag}": partial(contest, "copy", f"task.lag={lag}") for lag in (200, 500, 1000)},
    **{f"adding-{n}": partial(contest, "addition", f"task.length={n}") for n in (100, 200, 400)},
    "adding-750": long_addition,
    "pmnist": pixels,
    f"pmnist-{MINUTES_PIXELS}": pixels_in_time,
}

if __name__ == "__main__":
    main(sys.argv[1:])
