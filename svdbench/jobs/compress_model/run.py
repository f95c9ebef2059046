"""Compresses a user's model, and writes what that costs and saves."""

import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from svdbench.jobs.compress_model import JOB, CompressModel
from svdbench.lowrank import compress, save
from svdbench.lowrank.compressed import BeforeAfter, Compressed, CompressedLayer
from svdbench.lowrank.ranks.certify import Increase
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.measure.machine import device_name, fastest_threads, threads_of
from svdbench.pretrained.perplexity import PerplexityChange
from svdbench.record.run import RunWriter
from svdbench.record.schema import TableSchema, cell_id
from svdbench.reporting.words import quantity
from svdbench.running.session import RunDisplay, device_of, running
from svdbench.user_code import user_code
from svdbench.user_models.model import LoadedUserModel, configured_model, named_loss


def run(config: CompressModel, text: str, folder: str | None = None) -> Path:
    device = device_of(config)
    loss = None if config.loss is None else named_loss(config.loss)
    brought = configured_model(
        config.model,
        device=device,
        dtype=getattr(torch, config.dtype.value),
        calibration=config.calibration,
        seed=config.seed,
    )
    with (
        fastest_threads(config.threads, device) as threads,
        running(JOB, config, text, folder, 1) as (record, shown),
    ):
        if brought.build in record.units:
            return record.folder
        shown.begin(brought.build)
        for note in filter(None, (threads, *brought.notes)):
            shown.note(note)
        try:
            with user_code(brought.build):
                found = _compressed(config, brought, loss, shown)
            with user_code(brought.build):
                path = _saved(found, brought, record.folder)
        except BaseException:
            shutil.rmtree(record.folder)  # there is nothing in it yet
            raise
        write_rows(record, config, brought, found, path)
        record.finish(brought.build)
        factored = sum(rank is not None for rank in found.ranks.values())
        shown.finish(
            f"{brought.build}: {factored} of {quantity(len(found.ranks), 'weight')} factored"
        )
    return record.folder


def _saved(found: Compressed, brought: LoadedUserModel, folder: Path) -> Path:
    if brought.pretrained is not None:
        return brought.pretrained.save(found, folder)
    return save(found, folder / "model.safetensors")


# Keys that are arguments of svdbench.lowrank.compress, as they are.
PASSED_ON = (
    *("kind", "distill", "temperature", "multiple_of", "keep_if", "timing_s", "seed"),
    *("embeddings", "skip_last", "folding"),
)


def _compressed(
    config: CompressModel,
    brought: LoadedUserModel,
    loss: Callable[..., Any] | None,
    shown: RunDisplay,
) -> Compressed:
    assert brought.splits is not None  # as the configuration has a loader
    options: dict[str, Any] = config.budget.given()
    options |= {name: getattr(config, name) for name in PASSED_ON}
    options["max_loss_increase"] = config.allowed
    options["layers"] = brought.layers if config.layers is None else config.layers
    with warnings.catch_warnings():  # shown by the report
        warnings.simplefilter("ignore", DataWarning)
        return compress(
            brought.model,
            brought.splits,
            loss=loss,
            finetune_epochs=config.finetune.epochs,
            lr=config.finetune.lr,
            on_progress=shown.doing,
            **options,
        )


_MODEL = ("model", "seed", "device", "dtype", "threads")

# A row for each weight. ``macs`` are multiply-adds for an example, ``latency_s`` the seconds of
# a batch, of the layer that the weight is in; ``error`` = ‖(W − W_k)X‖/‖WX‖ on rows that were
# held out, and ``error_bound`` what it is at most on those that calibrated. ``dense_`` is
# before. A weight that was not looked at is skipped, with the reason.
LAYERS = TableSchema(
    "layers",
    (
        *_MODEL,
        *("layer", "rows", "columns", "rank", "form", "dense_numbers", "numbers"),
        *("dense_macs", "macs", "dense_latency_s", "latency_s", "error_bound", "error"),
    ),
)

# One row. Losses are means in the loss's own unit: ``increase`` over the dense model's on the
# examples held out, ``searched`` on those that chose; ``_se`` are standard errors of means of
# pairs. ``budget`` is a fraction of ``budget_of``; ``weights`` the numbers in those looked at.
SUMMARY = TableSchema(
    "summary",
    (
        *_MODEL,
        *("kind", "curvature", "loss", "unit", "embeddings"),
        *("multiple_of", "keep_if", "budget_of", "budget"),
        *("dense_n_params", "n_params", "dense_weights", "weights"),
        *("dense_macs", "macs", "dense_bytes", "bytes"),
        *("dense_latency_s", "latency_s", "latency_batch"),
        *("predicted", "dense_searched", "searched", "searched_se", "searched_examples"),
        *("dense_loss", "increase", "increase_se", "examples"),
        *("dense_perplexity", "dense_perplexity_low", "dense_perplexity_high"),
        *("perplexity", "perplexity_low", "perplexity_high"),
        *("perplexity_ratio", "perplexity_ratio_low", "perplexity_ratio_high"),
        *("documents", "tokens", "document"),
        *("evaluations", "tuned_epochs", "untuned_loss", "tuned_loss"),
        *("splits", "warnings", "weights_file", "loader", "file", "device_name"),
    ),
)

# The predicted loss of ever larger models; ``params`` are numbers in the weights looked at. Of
# other kinds than kronecker it is half of their squared error instead.
POINTS = TableSchema("frontier", (*_MODEL, "params", "predicted"))


def write_rows(
    record: RunWriter,
    config: CompressModel,
    brought: LoadedUserModel,
    found: Compressed,
    path: Path,
) -> None:
    device = torch.device(config.device)
    model: dict[str, Any] = {
        "model": brought.build,
        "seed": config.seed,
        "device": config.device,
        "dtype": config.dtype.value,
    }
    asked: dict[str, Any] = {
        "weights": config.model.weights,
        "loader": config.model.loader,
        "loss": config.loss,
    }
    # Left out by default, so that cells of earlier runs are the same ones.
    later = {"distill": None, "temperature": 1.0, "embeddings": True}
    asked |= {key: getattr(config, key) for key in later if getattr(config, key) != later[key]}
    asked |= {"limit": _limit(config), "kind": config.kind, "multiple_of": config.multiple_of}
    asked |= {"keep_if": config.keep_if, "epochs": config.finetune.epochs, "lr": config.finetune.lr}
    asked |= {"layers": config.layers, "skip_last": config.skip_last, "folding": config.folding}
    shared = model | {
        "threads": threads_of(device),
        "cell": cell_id(job=record.job, settings=model, options=asked),
        "status": "ok",
    }
    for layer in found.layers:
        record.append(LAYERS, shared | _layer(layer))
    for name, reason in found.skipped.items():
        record.append(LAYERS, shared | {"layer": name, "status": "skipped", "reason": reason})
    for params, loss in zip(
        found.frontier.points.params, found.frontier.points.losses, strict=True
    ):
        record.append(POINTS, shared | {"params": int(params), "predicted": float(loss)})
    row = _summary(config, found) | {"file": str(path), "device_name": device_name(device)}
    if brought.pretrained is not None:
        row |= _perplexity(brought.pretrained.perplexity(found.model))
        row |= {"document": brought.pretrained.document}
    record.append(SUMMARY, shared | row)


def _layer(layer: CompressedLayer) -> dict[str, Any]:
    row = {
        "layer": layer.name,
        "rows": layer.rows,
        "columns": layer.columns,
        "rank": layer.rank,
        "form": "dense" if layer.rank is None else "factors",
        **_pair("numbers", layer.numbers),
        **_pair("macs", layer.macs),
        **_pair("latency_s", layer.latency_s),
    }
    if layer.error is not None:
        row |= {"error_bound": layer.error.bound, "error": layer.error.measured}
    return row


def _summary(config: CompressModel, found: Compressed) -> dict[str, Any]:
    certificate, frontier = found.certificate, found.frontier
    of, budget = _limit(config)
    row: dict[str, Any] = {
        "kind": config.kind,
        "curvature": found.curvature,
        "loss": found.loss,
        "unit": found.unit,
        "embeddings": config.embeddings,
        "multiple_of": config.multiple_of,
        "keep_if": config.keep_if,
        "budget_of": of,
        "budget": budget,
        **_pair("n_params", found.n_params),
        **_pair("weights", BeforeAfter(frontier.n_params, certificate.params)),
        **_pair("macs", found.macs),
        **_pair("bytes", found.bytes),
        **_pair("latency_s", found.latency_s),
        "latency_batch": found.batch,
        "predicted": certificate.predicted_loss if config.kind == "kronecker" else None,
        "evaluations": certificate.evaluations,
        "tuned_epochs": len(found.tuned) - 1 if found.tuned else None,
        "splits": found.splits,
        "warnings": " | ".join(found.warnings),
        "weights_file": config.model.weights,
        "loader": config.model.loader,
    }
    if found.tuned:
        finite = [loss for loss in found.tuned if math.isfinite(loss)]
        first = found.tuned[0]
        row["untuned_loss"] = first if math.isfinite(first) else None
        row["tuned_loss"] = min(finite, default=None)
    row |= _increase("searched", "dense_searched", "searched_examples", certificate.search)
    if certificate.held_out is not None:
        row |= _increase("increase", "dense_loss", "examples", certificate.held_out)
    return row


def _perplexity(found: PerplexityChange | None) -> dict[str, Any]:
    """Of a language model: by tokens, with the ends of the intervals over documents."""
    row: dict[str, Any] = {}
    if found is not None:
        names = ("dense_perplexity", "perplexity", "perplexity_ratio")
        for name, each in zip(names, (found.dense, found.compressed, found.ratio), strict=True):
            ends = {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
            row |= {key: value for key, value in ends.items() if math.isfinite(value)}
        row |= {"documents": found.dense.documents, "tokens": found.dense.tokens}
    return row


def _limit(config: CompressModel) -> tuple[str, float]:
    for name, part in config.budget.given().items():
        return name, part
    allowed = config.allowed
    assert allowed is not None  # as there is no budget
    return "loss", allowed


def _increase(name: str, dense: str, count: str, found: Increase) -> dict[str, Any]:
    """What is not finite stays empty: a loss that is not a number, the error of one example."""
    row = {name: found.mean, f"{name}_se": found.standard_error, dense: found.dense}
    known: dict[str, Any] = {key: value for key, value in row.items() if math.isfinite(value)}
    return known | {count: found.examples}


def _pair(name: str, found: BeforeAfter | None) -> dict[str, Any]:
    return {} if found is None else {f"dense_{name}": found.before, name: found.after}
