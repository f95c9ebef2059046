"""``make bench-reveal``: the figures of rank reveal, measured and judged.

Needs MNIST (``svdbench data fetch mnist``); writes ``figures.csv`` beside the runs. Parts can
be named, as in ``python -m promises.ranks curves``.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from promises.figures import Promise, measure_parts
from svdbench.config.compose import compose
from svdbench.jobs.rank_reveal.subject import RevealSubject, trained_subject
from svdbench.lowrank import Curve, compress, loss_curves
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.record.reader import RecordedRun
from svdbench.running.processes import end_with
from svdbench.running.start import launch
from svdbench.side_by_side.networks import evaluate
from svdbench.statistics.intervals import mean_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 5
SMALL, SMALL_LOSS = 0.04, 0.29
RIVALS = ("uniform", "energy", "minimax")
FROM, TO = 0.02, 0.5
TOKENS, LENGTH, CLASSES = 1000, 16, 10  # of the encoder


def main(parts: Sequence[str]) -> None:
    """Measure the parts, all by default; write the figures and print the verdicts.

    Raises:
        UserError: a part that there is none of.
    """
    measure_parts("bench-reveal", PARTS, parts)


def curves(folder: Path) -> list[Promise]:
    """Exact curves of 784-512-256-10 on MNIST against the loop over all ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    subject = trained_subject(compose("rank_reveal", ["data.name=mnist"])[0]).subject(0, _silent)
    loss_curves(subject.model, first_of(subject, 10), subject.loss)  # warms up
    start = time.perf_counter()
    found = loss_curves(subject.model, subject.curves, subject.loss)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    looped = naive_curves(subject)
    naive = time.perf_counter() - start
    return curve_figures(found, looped, ours, naive)


def curve_figures(
    found: dict[str, Curve], looped: dict[str, Tensor], ours: float, naive: float
) -> list[Promise]:
    """From the curves of both, and their seconds."""
    apart = max(float((found[name].losses - looped[name]).abs().max()) for name in found)
    return [
        Promise("exact curves: seconds", None, ours, False, naive / 25),
        Promise("the naive loop's time over that of exact curves", None, naive / ours, True, 25),
        Promise("largest difference of their losses", None, apart, False, 1e-5),
    ]


@torch.no_grad()
def naive_curves(subject: RevealSubject) -> dict[str, Tensor]:
    """The losses at all ranks of all layers: an SVD and an evaluation of the network for each."""
    assert isinstance(subject.curves, tuple)
    X, y = subject.curves
    model = deepcopy(subject.model)
    found = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        dense = layer.weight.clone()
        losses = []
        for rank in range(1, min(dense.shape) + 1):
            U, S, Vh = torch.linalg.svd(dense, full_matrices=False)
            layer.weight.copy_((U[:, :rank] * S[:rank]) @ Vh[:rank])
            losses.append(evaluate(model, X, y, subject.loss).loss)
        layer.weight.copy_(dense)
        found[f"{name}.weight"] = torch.tensor(losses, dtype=torch.float64)
    return found


def first_of(subject: RevealSubject, count: int) -> tuple[Tensor, Tensor]:
    """Some of the examples of the curves."""
    assert isinstance(subject.curves, tuple)
    return subject.curves[0][:count], subject.curves[1][:count]


def frontier(folder: Path) -> list[Promise]:
    """What ranks come to on MNIST, ours and others' at the same sizes, without fine-tuning."""
    options = [f"results={folder}", "name=frontier", "data.name=mnist", f"seeds={SEEDS}"]
    launch("rank_reveal", [*options, "algorithms=[frontier]", "affordable_s=1e6"])
    run = folder / "rank-reveal" / "frontier"
    return frontier_figures(RecordedRun(run).frame("summary"), RecordedRun(run).frame("frontier"))


def frontier_figures(summary: "pd.DataFrame", points: "pd.DataFrame") -> list[Promise]:
    """From the rows of a run."""
    own = summary[summary["method"] == "frontier"]
    over = float((own["evaluations"] - own["most_evaluations"]).max())
    figures = [
        Promise("evaluations beyond ⌈log₂ R⌉ + 5", None, over, False, 0),
        Promise(
            "test loss − dense where 0.01 is allowed, mean",
            None,
            own["increase"].mean(),
            False,
            0.01,
        ),
    ]
    ok = points[points["status"] == "ok"]
    losses = ok.pivot_table(index=["budget", "seed"], columns="method", values="loss")
    small = losses.loc[SMALL]
    what = f"test loss at {SMALL:.0%} of the weights"
    figures.append(Promise(what, None, small["kronecker"].mean(), False, SMALL_LOSS))
    for name in RIVALS:
        figures.append(Promise(f"{what}: {name}'s over ours", None, _over(small, name), True, 1.0))
    for budget, rows in losses.groupby("budget"):
        if FROM <= budget <= TO:
            # The rival that is best at this size, over all seeds; and what isn't noise of it.
            best = rows[list(RIVALS)].mean().idxmin()
            worse = paired_difference(list(rows["kronecker"]), list(rows[best]))
            text = f"at {budget:.0%}: our loss − {best}'s, the least that it may be"
            figures.append(Promise(text, None, worse.low, False, 0.0))
    return figures


def three_layer(folder: Path) -> list[Promise]:
    """The ranks of Keene's network, and whether 10 is the right one."""
    launch(
        "rank_reveal",
        [f"results={folder}", "name=three_layer", "experiment=rank_reveal_three_layer"],
    )
    run = folder / "rank-reveal" / "three_layer"
    return three_layer_figures(RecordedRun(run).frame("summary"), RecordedRun(run).frame("samples"))


def three_layer_figures(summary: "pd.DataFrame", samples: "pd.DataFrame") -> list[Promise]:
    """From the rows of a run: the half-widths of the ranks' intervals, and evaluations."""
    exact = samples[samples["method"] == "exact"]
    figures = []
    for name, rows in exact.groupby("layer", sort=False):
        need = mean_interval(list(rows["rank"].astype(float)))
        figures.append(
            Promise(f"exact rank of {name} is {need.mean:.3g} ±", None, need.halfwidth, False, 3)
        )
    own = summary[summary["method"] == "frontier"]
    over = float((own["evaluations"] - own["most_evaluations"]).max())
    return [*figures, Promise("evaluations beyond ⌈log₂ R⌉ + 5", None, over, False, 0)]


def encoder(folder: Path) -> list[Promise]:
    """Compressing a transformer encoder of some thirty million parameters, in its own process."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    ) as process:
        found = process.submit(compressed_encoder).result()
    what = f"compress, encoder of {found['parameters'] / 1e6:.0f} M parameters"
    extra = f"{what}: memory on top of the model, in models"
    return [
        Promise(f"{what}: seconds", None, found["seconds"], False, 600),
        Promise(extra, None, found["extra_bytes"] / found["bytes"], False, 2),
        Promise(f"{what}: part of the weights kept", None, found["kept"], False, 0.5),
    ]


class Encoder(nn.Module):
    """Classes of sequences of tokens, by torch's own encoder."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True)
        self.embedding = nn.Embedding(TOKENS, width)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.last = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.last(self.encoder(self.embedding(tokens)).mean(1))
        return out


def compressed_encoder(
    layers: int = 10, width: int = 512, examples: int = 1100
) -> dict[str, float]:
    """What compressing an encoder to half its weights takes; its tokens and classes are random.

    Returns:
        parameters and bytes of the model; seconds; extra_bytes: the most that this process
        held above what it held before; kept: the part of the weights' numbers.
    """
    torch.manual_seed(0)
    model = Encoder(layers, width).eval()
    data = torch.randint(TOKENS, (examples, LENGTH)), torch.randint(CLASSES, (examples,))
    few = data[0][:80], data[1][:80]
    compress(Encoder(1, 16), few, params=0.5, timing_s=0)  # what is loaded at first use
    before, start = _resident_bytes(), time.perf_counter()
    found = compress(model, data, params=0.5, timing_s=0)
    seconds = time.perf_counter() - start
    numbers = [layer.numbers for layer in found.layers]
    return {
        "parameters": numbers_of(model),
        "bytes": bytes_of(model),
        "seconds": seconds,
        "extra_bytes": 1024 * getrusage(RUSAGE_SELF).ru_maxrss - before,
        "kept": sum(each.after for each in numbers) / sum(each.before for each in numbers),
    }


def _resident_bytes() -> int:
    """What this process holds in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * getpagesize()


def _over(losses: "pd.DataFrame", name: str) -> float:
    return float(losses[name].mean() / losses["kronecker"].mean())


def _silent(fraction: float, doing: str) -> None:
    """Nothing is shown."""


PARTS: dict[str, Callable[[Path], list[Promise]]] = {
    "curves": curves,
    "frontier": frontier,
    "three_layer": three_layer,
    "encoder": encoder,
}

if __name__ == "__main__":
    main(sys.argv[1:])
