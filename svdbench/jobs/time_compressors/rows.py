"""What ``time-compressors`` writes: its tables and their rows, and the costs measured for them."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import one_line
from svdbench.jobs.time_compressors import TimeCompressors
from svdbench.lowrank.costs import latencies
from svdbench.lowrank.ranks.examples import DataWarning, Inputs, evaluating, tensors
from svdbench.measure.machine import device_name, threads_of
from svdbench.measure.plan import failure
from svdbench.members import is_reference
from svdbench.record.run import RunWriter
from svdbench.record.schema import TableSchema, cell_id

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


# Losses of single examples are written as means of so many blocks, at most.
BLOCKS = 200

_CELL = ("model", "method", "budget", "draw", "tuned", "seed", "device", "dtype", "threads")

# A row for each block of examples held out, in their order: ``loss`` is its mean. The dense model
# is the method ``dense``, of budget 1 and draw 0.
SAMPLES = TableSchema("samples", (*_CELL, "block", "examples", "loss"))

# A row for each method, budget and draw, and one more for the model fine-tuned. ``weights`` are
# the numbers in the weights that are compressed, ``increase`` is of the loss over the dense model's
# on the examples held out. ``calibrate_s`` is spent once for all budgets of a draw, with
# ``peak_bytes`` on top of what there was; ``compress_s`` and ``tune_s`` for the row alone.
SUMMARY = TableSchema(
    "summary",
    (
        *_CELL,
        *("against", "needs", "source", "embeddings", "unit", "weights", "dense_weights", "kept"),
        *("n_params", "dense_n_params", "bytes", "dense_bytes"),
        *("loss", "dense_loss", "increase", "increase_se", "examples"),
        *("perplexity", "dense_perplexity"),
        *("calibrate_s", "compress_s", "tune_s", "peak_bytes"),
        *("latency_s", "dense_latency_s", "latency_batch", "decode_s", "dense_decode_s"),
        *("tuned_epochs", "splits", "warnings", "weights_file", "loader", "device_name"),
    ),
)


@dataclass(frozen=True)
class CompressorRows:
    """Writes the rows of one model.

    Attributes:
        build: the model, as it was named.
        unit: what there is one loss of: an example or a batch.
        splits: how the examples were parted, in words.
    """

    record: RunWriter
    config: TimeCompressors
    build: str
    unit: str
    splits: str

    def samples(self, name: str, budget: float, draw: int, tuned: bool, losses: Tensor) -> None:
        shared = self._cell(name, budget, draw, tuned) | {"status": "ok"}
        for block, part in enumerate(losses.tensor_split(min(BLOCKS, len(losses)))):
            row = {"block": block, "examples": len(part), "loss": float(part.mean())}
            self.record.append(SAMPLES, shared | row)

    def summary(
        self, name: str, budget: float, draw: int, tuned: bool, row: dict[str, Any]
    ) -> None:
        config = self.config
        shared = self._cell(name, budget, draw, tuned) | {
            "against": config.against,
            "embeddings": config.embeddings,
            "unit": self.unit,
            "splits": self.splits,
            "weights_file": config.model.weights,
            "loader": config.model.loader,
            "device_name": device_name(torch.device(config.device)),
        }
        lines = dict.fromkeys(str(each.message) for each in row["warnings"] if of_data(each))
        self.record.append(SUMMARY, shared | row | {"warnings": " | ".join(lines)})

    def failed(
        self, name: str, budget: float, draw: int, error: Exception, own: dict[str, Any]
    ) -> None:
        status, reason = failure(error)
        if isinstance(error, ValueError) and not is_reference(name):
            status, reason = "skipped", one_line(error)  # as a budget that is too small
        self.summary(name, budget, draw, False, own | {"status": status, "reason": reason})

    def _cell(self, name: str, budget: float, draw: int, tuned: bool) -> dict[str, Any]:
        config = self.config
        cell: dict[str, Any] = {
            "model": self.build,
            "method": name,
            "budget": budget,
            "draw": draw,
            "tuned": tuned,
            "seed": config.seed,
            "device": config.device,
            "dtype": config.dtype.value,
        }
        options = {
            "method": config.model_compressor.get(name),
            "calibration": config.calibration,
            "loader": config.model.loader,
            "weights": config.model.weights,
            "loss": config.loss,
            "layers": config.layers,
            "skip_last": config.skip_last,
            "embeddings": config.embeddings,
            "distill": config.distill,
            "temperature": config.temperature,
            "folding": config.folding,
            "epochs": config.finetune.epochs if tuned else 0,
        }
        return cell | {
            "threads": threads_of(torch.device(config.device)),
            "cell": cell_id(job=self.record.job, settings=cell, options=options),
        }


def of_data(warning: warnings.WarningMessage) -> bool:
    """Whether a warning is about the examples."""
    return issubclass(warning.category, DataWarning)
