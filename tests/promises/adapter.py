"""``make bench-adapter``: a training step of ``HouseholderAdapter`` beside PEFT's HRA layer.

Both wrap the same frozen linear layer in the middle of a network, so that a step is the output,
and the gradients at the input and at the reflectors. PEFT isn't a dependency: ``pip install
peft``. On one thread the clock is the thread's own processor time; on two it is the wall's, and
nothing counts as measured while other processes are busy. Writes ``figures.csv`` and
``env.json``; sizes can be named, as in ``python -m promises.adapter 768``.
"""

import copy
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from promises.core import SECONDS, Step, interleaved, step, threads
from promises.figures import Promise, measure_parts
from svdbench.measure import BUSY
from svdbench.measure.machine import Neighbours, peak_bytes
from svdbench.nn import HouseholderAdapter
from svdbench.record.environment import environment

ROWS, THREADS = 128, (1, 2)


def main(parts: Sequence[str]) -> None:
    """Measure; write the figures and print the verdicts."""
    if peft_layer(nn.Linear(2, 2), 2) is None:
        print("PEFT cannot be imported, so that nothing is measured: pip install peft")
    measure_parts("bench-adapter", PARTS, parts)


def peft_layer(layer: nn.Linear, n: int) -> nn.Module | None:
    """PEFT's HRA layer around a copy of the layer; None where PEFT cannot be imported."""
    try:
        from peft import HRAConfig
        from peft.tuners.hra.layer import HRALinear
    except ImportError:
        return None
    frozen = copy.deepcopy(layer).requires_grad_(False)
    return HRALinear(frozen, "default", HRAConfig(r=n), r=n)


def compare(
    d: int, n: int, faster: float, smaller: float, folder: Path, seconds: float = SECONDS
) -> list[Promise]:
    """Figures of time for each number of threads, and of memory.

    Args:
        d, n: size of the layer, and number of reflectors.
        faster: how many times our time PEFT's should take, at least.
        smaller: how many times our memory PEFT's should take, at least.
        folder: where the environment is written.
        seconds: for each number of threads.
    """
    what = f"PEFT's HRA layer / ours, {n} reflectors, {ROWS} rows"
    texts = {number: f"{what}: time, {number} thread{'s'[: number - 1]}" for number in THREADS}
    layer = nn.Linear(d, d)
    theirs = peft_layer(layer, n)
    if theirs is None:
        nothing = [Promise(text, d, None, True, faster) for text in texts.values()]
        return [*nothing, Promise(f"{what}: memory", d, None, True, smaller)]
    steps = _steps(HouseholderAdapter(layer, n), theirs)
    figures = []
    for number, text in texts.items():
        neighbours = Neighbours()
        with threads(number):
            times = interleaved(steps, seconds, twice=True)
        quiet = number == 1 or (neighbours.cores() or 0) <= BUSY
        faster_by = times["peft"] / times["ours"] if quiet else None
        figures.append(Promise(text, d, faster_by, True, faster))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(environment(), indent=2) + "\n"
    (folder / "env.json").write_text(text, encoding="utf-8")
    peft, ours = (peak_bytes(steps[name]) for name in ("peft", "ours"))
    ratio = peft / ours if peft and ours else None
    return [*figures, Promise(f"{what}: memory", d, ratio, True, smaller)]


def _steps(ours: HouseholderAdapter, theirs: nn.Module) -> dict[str, Step]:
    """A step of each with the same reflectors.

    Raises:
        RuntimeError: they don't compute the same.
    """
    d = ours.reflectors.shape[1]
    x, G = torch.randn(ROWS, d, requires_grad=True), torch.randn(ROWS, d)
    V = theirs.get_parameter("hra_u.default")
    with torch.no_grad():
        ours.reflectors.add_(torch.randn_like(ours.reflectors))
        V.copy_(ours.reflectors.t())
    steps = {
        "peft": step(partial(theirs, x), (x, V), G),
        "ours": step(partial(ours, x), (x, ours.reflectors), G),
    }
    (dx, dV), (dx2, dV2) = (one() for one in steps.values())
    for a, b in ((theirs(x), ours(x)), (dx, dx2), (dV.t(), dV2)):
        error = float((a - b).detach().norm() / a.detach().norm())
        if error > 1e-4:
            raise RuntimeError(f"the two layers differ by {error:.1e}: they can't be compared")
    return steps


PARTS: dict[str, Callable[[Path], list[Promise]]] = {
    "768": partial(compare, 768, 8, 12.0, 9.0),
    "2048": partial(compare, 2048, 32, 50.0, 30.0),
}

if __name__ == "__main__":
    main(sys.argv[1:])
