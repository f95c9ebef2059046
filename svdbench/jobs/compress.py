"""Trains a network with and without compression, side by side, once for each seed."""

from itertools import pairwise
from pathlib import Path

from svdbench.errors import UserError
from svdbench.jobs.compress_arms import Given, Setting
from svdbench.jobs.compress_session import CompressSession
from svdbench.jobs.side_by_side import problem_of
from svdbench.jobs.side_by_side_session import run_session
from svdbench.jobs.timing import load
from svdbench.members import COMPRESSORS
from svdbench.report.compression import show_run
from svdbench.schemas.compress import Compress

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
    return run_session(JOB, CompressSession, prepare(config), text, folder, show_run)


def check(config: Compress) -> None:
    """Check the options of the compressors."""
    for method in config.methods:
        load(COMPRESSORS, method, config.compressor)


def prepare(config: Compress) -> Given:
    """Data, sizes and compressors: whatever may be a mistake, before a run begins.

    Raises:
        UserError: as :func:`run`.
    """
    settings = [Setting()] + [
        Setting(method, rank, load(COMPRESSORS, method, config.compressor))
        for method in config.methods
        for rank in config.ranks
    ]
    sizes, train, test = problem_of(config, HIDDEN)
    _check_ranks(settings, sizes)
    return Given(config, settings, sizes, train, test)


def _check_ranks(settings: list[Setting], sizes: list[int]) -> None:
    """Refuse an arm that would be stock again."""
    most = max(map(min, pairwise(sizes)))
    for setting in settings:
        if setting.compressor is not None and setting.kept >= most:
            raise UserError(
                f"{setting.label} would leave every weight of {'-'.join(map(str, sizes))} as it "
                f"is: give a rank below {most - setting.kept + (setting.rank or 0)}"
            )
