"""Compress networks to low rank: your own model, or a network while it is trained.

With DATASET: trains a network with and without compression, side by side. All networks start from
the same weights and see the same batches, one epoch of each in turn. The report says which
differences are more than noise. A layer is replaced by two factors only if that saves parameters;
operations are counted and the latency is measured.

experiment=three_layer_published follows the code of Keene (2022), and
experiment=three_layer_corrected his text.

Writes results/compress/NAME: CSV tables of epochs, arms and layers, plots, the
configuration and the environment.

Examples:
    svdbench compress mnist --ranks 10 --seeds 3
"""

from dataclasses import dataclass
from typing import Any

from svdbench.config.base import FollowedConfig
from svdbench.config.fields import Key, Member, members, option, section, several
from svdbench.job import Job
from svdbench.members import COMPRESSORS
from svdbench.side_by_side.config import (
    DATASET_OR_MODEL,
    Latency,
    SideBySide,
    batch_option,
    epochs_option,
    net_option,
)

EPOCH, BATCH = "epoch", "batch"
COLUMNS = ("accuracy", "loss", "time_ratio")


@dataclass
class PublishedNumberConfig:
    method: str = option("", "stock or a compressor")
    column: str = option(
        "", "result on the test set, or time_ratio, the time of the whole training over stock's"
    )
    epoch: int | None = option(None, "epoch, counted from 1", null="the last")
    value: float = option(0.0, "the number as published")
    tolerance: float = option(0.0, "its uncertainty, from reading a figure")

    def check(self) -> None:
        if self.column not in COLUMNS:
            raise ValueError(
                f"published.column is {self.column!r}: choose one of {', '.join(COLUMNS)}"
            )


@dataclass
class Compress(SideBySide, FollowedConfig):
    """``svdbench compress``: a network trained with and without compression, side by side."""

    net: str | None = net_option("15 and 15 hidden units")
    epochs: int | None = epochs_option("10, or more if needed for 1,200 batches")
    batch_size: int = batch_option(64)
    methods: list[str] = several(
        ["rsvd", "truncsvd"],
        "compressors to compare: rsvd, truncsvd, whitened",
        "--methods NAME,…",
        former=("--method",),
        choices=COMPRESSORS,
    )
    ranks: list[int] = several(
        [10], "ranks of the weights to compare", "--ranks K,K,…", former=("--rank",), at_least=1
    )
    every: str = option(
        EPOCH,
        "compress after each epoch (epoch), each batch (batch), or every N batches (a number)",
        typed="--every WHEN",
        pattern=rf"{EPOCH}|{BATCH}|0*[1-9]\d*",
        remedy=f"choose {EPOCH}, {BATCH}, or a number of batches",
    )
    calibration: int = option(2048, "number of training examples that whitened uses", at_least=1)
    latency: Latency = section(Latency)
    compressor: dict[str, Any] = members(
        COMPRESSORS,
        members={
            "rsvd.oversampling": Member(
                int, Key("probes of rsvd in addition to the rank", typed="--oversampling P")
            ),
            "rsvd.power_iterations": Member(
                int, Key("power iterations of rsvd", typed="--power-iterations Q")
            ),
        },
    )
    published: list[PublishedNumberConfig] = option(
        [], "numbers to compare with: see conf/experiment"
    )


JOB = Job("compress", Compress, __name__, DATASET_OR_MODEL, panel="Low rank", place=1)
