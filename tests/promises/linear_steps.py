"""A training step of the recurrences that are linear in their state, on one thread.

A part of ``make bench-rnn``: ``python -m promises.recurrent steps``, half a minute. Steps of a
comparison take turns in one run, and are timed by the thread's own processor time, so that a busy
machine spoils them little.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from promises.core import Step, interleaved, threads
from promises.figures import Promise
from svdbench.members import MODELS
from svdbench.models.base import SequenceModel
from svdbench.models.lru import DiagonalMixer
from svdbench.models.minimal import MinimalMixer

STEPS, BATCH, WIDTHS = 200, 50, (64, 128)
SECONDS = 4.0  # for each comparison
# Of a step of torch.nn.GRU of the same width; and seconds of one of DeltaProduct.
SHARE, DELTA_S = 0.5, 0.1


def linear_steps(folder: Path | None = None, seconds: float = SECONDS) -> list[Promise]:
    """LRU and minGRU over GRU, as layers and as models of one block, and DeltaProduct's step."""
    with threads(1):
        return [
            *(figure for d in WIDTHS for figure in over_gru("layer", layers(d), d, seconds)),
            *(figure for d in WIDTHS for figure in over_gru("model", models(d), d, seconds)),
            *(delta_step(reflectors, seconds) for reflectors in (1, 2)),
        ]


def over_gru(what: str, steps: dict[str, Step], d: int, seconds: float) -> list[Promise]:
    """How much of GRU's time a step of each of the others takes."""
    times = interleaved(steps, seconds)
    return [
        Promise(
            f"a step of {name} / GRU, {what}, {STEPS} steps of {BATCH}",
            *(d, times[name] / times["GRU"], False, SHARE),
        )
        for name in times
        if name != "GRU"
    ]


def layers(d: int) -> dict[str, Step]:
    """The recurrences alone, from d features to d, with the gradient at the features."""
    gru = nn.GRU(d, d)
    made: dict[str, Callable[[Tensor], Tensor]] = {
        "GRU": lambda x: gru(x)[0],
        "LRU": DiagonalMixer(d, d, 0.0, 1.0, 6.28),
        "minGRU": MinimalMixer(d, 1, None),
    }
    x = torch.randn(STEPS, BATCH, d, requires_grad=True)
    return {name: partial(backward, layer, x) for name, layer in made.items()}


def models(d: int) -> dict[str, Step]:
    """Whole models on inputs as of adding: encoder, one block and readout, beside GRU's."""
    named: dict[str, tuple[str, dict[str, int]]] = {
        "GRU": ("gru", {}),
        "LRU": ("lru", {"layers": 1}),
        "minGRU": ("mingru", {"layers": 1}),
    }
    x = torch.randn(STEPS, BATCH, 2)
    return {title: partial(backward, _model(*of, d).last, x) for title, of in named.items()}


def _model(name: str, options: dict[str, int], d: int) -> SequenceModel:
    model: SequenceModel = MODELS.load(name, input_size=2, output_size=1, hidden_size=d, **options)
    return model


def backward(f: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A pass forward and backward."""
    f(x).square().mean().backward()


def delta_step(reflectors: int, seconds: float) -> Promise:
    """The seconds of a step of DeltaProduct: two blocks of width 64, keys of 16."""
    model = _model("deltaproduct", {"layers": 2, "key_size": 16, "reflectors": reflectors}, 64)
    x = torch.randn(STEPS, BATCH, 2)
    times = interleaved({"ours": partial(backward, model, x)}, seconds)
    what = (
        f"seconds of a step of DeltaProduct, n_h = {reflectors}, 2 blocks, {STEPS} steps of {BATCH}"
    )
    return Promise(what, 64, times["ours"], False, DELTA_S)
