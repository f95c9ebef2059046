"""Compresses a model of the user's own, and writes it down with what was found out about it."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from svdbench.jobs.compress_model_rows import write_rows
from svdbench.jobs.display import Display
from svdbench.jobs.timing import device_of, running
from svdbench.jobs.user_code import user_code
from svdbench.jobs.user_model import LoadedUserModel, called_by_name, user_model
from svdbench.lowrank import Compressed, compress, save
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.report.model_compression import show_run
from svdbench.reporting.words import quantity
from svdbench.schemas.compress_model import CompressModel

JOB = "compress-model"


def run(config: CompressModel, text: str, folder: str | None = None) -> Path:
    """Run the job; returns the folder with its results.

    Args:
        config: checked by its ``__post_init__``.
        text: the same as YAML, kept beside the results.
        folder: where to write instead of ``results/compress-model/<name>``.

    Raises:
        UserError: a model, weights, examples or a budget that can't be had.
        Failed: what the user's code raises.
        Interrupted: ^C.
    """
    device, own = device_of(config), config.model
    loss = None if config.loss is None else called_by_name(config.loss, "the loss", modules=True)
    brought = user_model(
        str(own.build),
        own.weights,
        own.loader,
        device=device,
        dtype=getattr(torch, config.dtype.value),
        calibration=config.calibration,
        max_examples=own.max_examples,
        seed=config.seed,
    )
    with running(JOB, config, text, folder, 1, show_run) as (record, shown):
        if brought.build in record.units:
            return record.folder
        shown.begin(brought.build)
        for note in brought.notes:
            shown.note(note)
        try:
            with user_code(brought.build):
                found = _compressed(config, brought, loss, shown)
            with user_code(brought.build):
                path = save(found, record.folder / "model.safetensors")
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


def _compressed(
    config: CompressModel,
    brought: LoadedUserModel,
    loss: Callable[..., Any] | None,
    shown: Display,
) -> Compressed:
    assert brought.splits is not None  # as the configuration has a loader
    options: dict[str, Any] = config.budget.given()
    options["max_loss_increase"] = config.budget.allowed(config.max_loss_increase)
    if config.layers is not None:
        options["layers"] = config.layers
    with warnings.catch_warnings():  # which the report tells
        warnings.simplefilter("ignore", DataWarning)
        return compress(
            brought.model,
            brought.splits,
            loss=loss,
            kind=config.kind,  # type: ignore[arg-type]
            multiple_of=config.multiple_of,
            keep_if=config.keep_if,
            finetune_epochs=config.finetune.epochs,
            lr=config.finetune.lr,
            timing_s=config.timing_s,
            seed=config.seed,
            on_progress=shown.doing,
            skip_last=config.skip_last,
            folding=config.folding,
            **options,
        )
