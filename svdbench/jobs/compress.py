"""Trains a network with and without compression, side by side, once for each seed."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from svdbench.classification import check_sizes, mlp, parse_net
from svdbench.compressors.registry import GROUP
from svdbench.datasets import classification
from svdbench.errors import Interrupted, UserError, one_line
from svdbench.jobs.compress_arms import Setting
from svdbench.jobs.compress_rows import Rows
from svdbench.jobs.compress_session import Given, Session
from svdbench.jobs.timing import device_of, load, running
from svdbench.report.compression import show_run
from svdbench.schemas import Compress

JOB = "compress"

HIDDEN = (15, 15)  # document 002's


def run(config: Compress, text: str, folder: str | None = None) -> Path:
    """Run the job; returns the folder with its results.

    Args:
        config: checked by its ``__post_init__``.
        text: the same as YAML, kept beside the results.
        folder: where to write instead of ``results/compress/<name>``.

    Raises:
        UserError: a data set, a network, a compressor or a device that can't be had.
        Interrupted: ^C; the epochs so far are kept.
    """
    given = prepare(config)
    seeds = range(config.seed, config.seed + config.seeds)
    with running(JOB, config, text, folder, len(seeds), show_run) as (record, shown):
        session = Session(given, Rows(record, config, given.sizes, given.epochs), shown)
        for seed in seeds:
            if not session.train(seed):
                break
    if session.ending == "interrupted":
        raise Interrupted(f"interrupted; the epochs so far are kept in {record.folder}")
    return record.folder


def prepare(config: Compress) -> Given:
    """Data, sizes and compressors: whatever may be a mistake, before a run begins.

    Raises:
        UserError: as :func:`run`.
    """
    device = device_of(config)
    settings = [Setting()] + [
        Setting(method, rank, load(GROUP, method, config.compressor[method]))
        for method in config.methods
        for rank in config.ranks
    ]
    try:
        train, test = (
            classification(config.data.name, split, data_dir=config.data.dir)
            for split in ("train", "test")
        )
        features, classes = train.X.shape[1], train.classes
        sizes = parse_net(config.net) if config.net else [features, *HIDDEN, classes]
        check_sizes(sizes, features, classes, config.data.name)
        mlp(sizes, config.activation)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    _check_ranks(settings, sizes)
    dtype = getattr(torch, config.dtype.value)

    def placed(X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return X.to(device, dtype), y.to(device)

    return Given(config, settings, sizes, placed(*train[:2]), placed(*test[:2]))


def _check_ranks(settings: list[Setting], sizes: list[int]) -> None:
    """Refuse an arm that would be stock again."""
    most = max(map(min, pairwise(sizes)))
    for setting in settings:
        if setting.compressor is not None and setting.kept >= most:
            raise UserError(
                f"{setting.label} would leave every weight of {'-'.join(map(str, sizes))} as it "
                f"is: give a rank below {most - setting.kept + (setting.rank or 0)}"
            )
