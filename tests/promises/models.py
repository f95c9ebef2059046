"""``make bench-models``: compression of real models, ours and published ways, measured and judged.

Needs the extra ``zoo`` (tests/zoo); trains a small GPT-2 once, which takes minutes. Parts can be
named, as in ``python -m promises.models speaker``. Three draws of the calibration examples each;
DRAWS=1 in the environment takes one.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import svdbench
from promises.figures import Promise, measure_parts
from svdbench.jobs.time_compressors.summaries import CompressorSummary, summarise
from svdbench.lowrank import compress
from svdbench.lowrank.layers.base import bytes_of
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.losses import Distillation
from svdbench.lowrank.ranks.examples import give_back
from svdbench.record.reader import RecordedRun
from svdbench.running.processes import end_with

OURS = "kronecker"
# What the speaker encoder may lose at a quarter of its weights, in nats.
SPEAKER = 0.09
TARGET, TARGET_KEPT = 0.02, 0.9


def main(parts: Sequence[str]) -> None:
    """Measure the parts, all by default; write the figures and print the verdicts.

    Raises:
        UserError: a part that there is none of.
    """
    measure_parts("bench-models", PARTS, parts)


def sentences(folder: Path) -> list[Promise]:
    """The sentence encoder MiniLM, its linear layers and all, with itself as the teacher."""
    options: dict[str, Any] = {"data": "zoo.minilm:loader", "distill": "cosine"}
    few = {"methods": [OURS, "svd_llm", "svd_llm_v2"]}
    build = "zoo.minilm:build"
    inner = compared(
        folder, "minilm-linear", build, linear_weights(), params=[0.5, 0.25], **options, **few
    )
    whole = compared(folder, "minilm", build, None, params=[0.5], **options, **few)
    return [
        *loss_figures("MiniLM, linear layers", inner, {0.5: 0.18, 0.25: 0.34}, "1 − cosine"),
        *loss_figures("MiniLM", whole, {0.5: 0.13}, "1 − cosine"),
    ]


def speaker(folder: Path) -> list[Promise]:
    """The speaker encoder, an LSTM: what it loses, and whether it is faster."""
    methods = [OURS, "uniform", "svd_llm", "svd_llm_v2", "fwsvd"]
    found = compared(
        folder,
        "speaker",
        "zoo.speaker:build",
        None,
        data="zoo.speaker:loader",
        params=[0.5, 0.25],
        methods=methods,
    )
    own = one_of(found, OURS, 0.25)
    dense = own.loss - own.increase
    what = f"speaker encoder at 25%: loss (dense {dense:.3g})"
    return [
        Promise(what, None, own.loss, False, dense + SPEAKER),
        Promise("speaker encoder at 25%: its time over dense", None, own.latency_ratio, False, 1.0),
        *rivals_figures("speaker encoder", found),
    ]


def pitch(folder: Path) -> list[Promise]:
    """The pitch tracker, a CNN: better than the same fraction of every weight."""
    found = compared(
        folder,
        "pitch-full",
        "zoo.pitch:full",
        None,
        data="zoo.pitch:loader",
        loss="zoo.pitch:loss",
        params=[0.5],
        methods=[OURS, "uniform", "svd_llm"],
    )
    return rivals_figures("pitch tracker", found)


def language(folder: Path, name: str = "gpt2", shape: str = "GPT-2") -> list[Promise]:
    """A GPT-2 of 1.4 M parameters, against every rival."""
    found = compared(
        folder,
        name,
        f"zoo.language:{name}_logits",
        None,
        data="zoo.language:loader",
        params=[0.7, 0.5, 0.3],
    )
    figures = rivals_figures(f"{shape}-shaped", found)
    for budget in (0.7, 0.5, 0.3):
        own = one_of(found, OURS, budget)
        best = min(each.loss for each in found if each.budget == budget and each is not own)
        dense = math.exp(own.loss - own.increase)
        what = f"{shape}-shaped at {budget:.0%}: perplexity (dense {dense:.3g})"
        figures.append(Promise(what, None, math.exp(own.loss), False, math.exp(best)))
    return figures


def llama(folder: Path) -> list[Promise]:
    """A Llama of 1.4 M parameters, with grouped queries, against every rival."""
    return language(folder, "llama", "Llama")


def target(folder: Path) -> list[Promise]:
    """MiniLM's linear layers, where 1 − cosine may rise by 0.02."""
    from zoo import minilm

    found = compress(
        minilm.build(),
        minilm.loader(),
        loss=Distillation("cosine"),
        max_loss_increase=TARGET,
        layers=linear_weights(),
        timing_s=0,
    )
    held_out = found.certificate.held_out
    assert held_out is not None
    kept = found.certificate.params / found.frontier.n_params
    what = f"MiniLM, linear layers, {TARGET:g} allowed"
    return [
        Promise(f"{what}: held out", None, held_out.mean, False, TARGET),
        Promise(f"{what}: part of the weights kept", None, kept, False, TARGET_KEPT),
    ]


def costs(folder: Path) -> list[Promise]:
    """Seconds and memory of compressing MiniLM on 400 sentences, in a process of its own."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    ) as process:
        found = process.submit(compressed_encoder).result()
    extra = found["extra_bytes"] / found["bytes"]
    what = "MiniLM, 400 sentences"
    return [
        Promise(f"{what}: seconds", None, found["seconds"], False, 90),
        Promise(f"{what}: memory on top of the model, in models", None, extra, False, 1.0),
    ]


def compressed_encoder() -> dict[str, float]:
    """Seconds, and the most bytes held above what was held before, with the model's own."""
    from zoo import minilm

    model, data = minilm.build(), minilm.loader()
    compress(model, minilm.few(), params=0.9, timing_s=0, layers=linear_weights()[:1])  # warms up
    # Read all of the weights: those in a file count when they are first read.
    _ = [float(parameter.sum()) for parameter in model.parameters()]
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, start = _resident_bytes("VmRSS"), time.perf_counter()
    compress(model, data, params=0.5, timing_s=0)
    seconds = time.perf_counter() - start
    extra = _resident_bytes("VmHWM") - before
    return {"seconds": seconds, "extra_bytes": extra, "bytes": bytes_of(model)}


def linear_weights() -> list[str]:
    """The weights of MiniLM that are multiplied with, not looked up."""
    from zoo import minilm

    sites, _ = factorable_weights(minilm.build())
    return [site.name for site in sites if not site.uses[0].kind.lookup]


def compared(
    folder: Path, name: str, build: str, layers: Sequence[str] | None, **options: Any
) -> list[CompressorSummary]:
    """A run of ``time-compressors`` in ``folder``, all its methods over all draws."""
    overrides = [] if layers is None else [f"layers=[{','.join(layers)}]"]
    run = svdbench.run(
        "time-compressors",
        build,
        results=str(folder),
        name=name,
        draws=int(os.environ.get("DRAWS", "3")),
        overrides=overrides,
        quiet=False,
        **options,
    )
    recorded = RecordedRun(Path(run.folder))
    return summarise(recorded.frame("summary"), recorded.frame("samples"))


def one_of(found: Sequence[CompressorSummary], method: str, budget: float) -> CompressorSummary:
    """A method's numbers within a budget."""
    return next(each for each in found if (each.method, each.budget) == (method, budget))


def loss_figures(
    model: str, found: Sequence[CompressorSummary], targets: dict[float, float], unit: str
) -> list[Promise]:
    """The losses of ours, and those of the others for comparison."""
    figures = []
    for budget, most in targets.items():
        own = one_of(found, OURS, budget)
        figures.append(Promise(f"{model} at {budget:.0%}: {unit}", None, own.loss, False, most))
        for each in found:
            if each.budget == budget and each is not own:
                figures.append(_over(model, each))
    return figures


def rivals_figures(model: str, found: Sequence[CompressorSummary]) -> list[Promise]:
    """How much more each rival loses, at the least: the lower end of its interval."""
    return [_over(model, each) for each in found if each.difference is not None]


def _over(model: str, rival: CompressorSummary) -> Promise:
    what = f"{model} at {rival.budget:.0%}: {rival.method}'s loss − ours, at the least"
    low = None if rival.difference is None else rival.difference.low
    return Promise(what, None, low, True, 0.0)


def _resident_bytes(which: str) -> int:
    """What this process holds in memory (Linux): now, VmRSS, or at most, VmHWM."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{which}:")[2].split()[0])


PARTS: dict[str, Callable[[Path], list[Promise]]] = {
    "target": target,
    "costs": costs,
    "speaker": speaker,
    "language": language,
    "llama": llama,
    "sentences": sentences,
    "pitch": pitch,
}

if __name__ == "__main__":
    main(sys.argv[1:])
