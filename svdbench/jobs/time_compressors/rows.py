"""The tables of ``time-compressors``, and the rows in them."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svdbench.errors import one_line
from svdbench.jobs.time_compressors import TimeCompressors
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.measure.machine import device_name, threads_of
from svdbench.measure.plan import failure
from svdbench.members import is_reference
from svdbench.record.run import RunWriter
from svdbench.record.schema import TableSchema, cell_id

DENSE = "dense"
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
