"""What a compressed model costs: seconds of a batch and of a generated token, and memory."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.costs import latencies
from svdbench.lowrank.ranks.examples import Inputs, evaluating, tensors

# Tokens that are generated, and how often; and how often memory is looked at, in seconds.
TOKENS, REPEATS, EVERY_S = 16, 3, 0.02


def prefill(dense: nn.Module, small: nn.Module, x: Inputs, budget_s: float) -> dict[str, float]:
    """The seconds of a batch through both models, in turn."""
    found = latencies({"dense": dense, "small": small}, x, budget_s=budget_s)
    return {"dense_latency_s": found["dense"], "latency_s": found["small"]}


def decoding(dense: nn.Module, small: nn.Module, x: Inputs) -> dict[str, float]:
    """The seconds of a token that each model generates after one prompt; {} where none does."""
    generators = [_generator(model) for model in (dense, small)]
    prompt = tensors(x)[0]
    if None in generators or prompt.is_floating_point() or prompt.ndim != 2:
        return {}
    prompt = prompt[:1, : max(1, prompt.shape[1] // 2)]
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad(), evaluating(dense), evaluating(small):
        for repeat in range(REPEATS + 1):
            for own, generate in zip(times, generators, strict=True):
                seconds = _seconds(generate, prompt)
                if repeat:  # the first one warms up
                    own.append(seconds / TOKENS)
    return {"dense_decode_s": median(times[0]), "decode_s": median(times[1])}


def _generator(model: nn.Module) -> Any:
    """The method ``generate`` of a model, or of the one that it wraps."""
    for module in (model, *model.children()):
        if callable(found := getattr(module, "generate", None)):
            return found
    return None


def _seconds(generate: Callable[..., Any], prompt: Tensor) -> float:
    start = time.perf_counter()
    generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
        pad_token_id=0,
    )
    return time.perf_counter() - start


class MostMemory:
    """The most bytes that this process took on top of what it had, within :func:`watched`."""

    bytes: int | None = None


@contextmanager
def watched(device: torch.device) -> Iterator[MostMemory]:
    """Watch the memory of a block: of a GPU by torch's account, else what is resident (Linux)."""
    found = MostMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    before = _resident()
    if device.type != "cpu" or not before:
        yield found
        return
    done, most = threading.Event(), [before]

    def look() -> None:
        while not done.wait(EVERY_S):
            most[0] = max(most[0], _resident())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.bytes = max(most[0], _resident()) - before


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    import resource

    return pages * resource.getpagesize()
