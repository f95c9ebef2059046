"""Trains a network dense and in factors of low rank, side by side, once for each seed."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from svdbench.acceleration import alpha_rule, layer_rule
from svdbench.classification import linear_layers, mlp
from svdbench.errors import UserError, one_line
from svdbench.jobs.accelerate_arms import Given, Setting
from svdbench.jobs.accelerate_session import AccelerateSession
from svdbench.jobs.side_by_side import problem_of
from svdbench.jobs.side_by_side_session import run_session
from svdbench.lowrank import factor
from svdbench.lowrank.layers.factor import RankRule
from svdbench.report.acceleration import show_run
from svdbench.schemas.accelerate import Accelerate

JOB = "accelerate"

HIDDEN = (512, 256)  # document 003's


def run(config: Accelerate, text: str, folder: str | None = None) -> Path:
    """Run the job; returns the folder with its results.

    Args:
        config: checked by its ``__post_init__``.
        text: the same as YAML, kept beside the results.
        folder: where to write instead of ``results/accelerate/<name>``.

    Raises:
        UserError: a data set, a network, a rank or a device that can't be had.
        Interrupted: ^C; the epochs so far are kept.
    """
    return run_session(JOB, AccelerateSession, prepare(config), text, folder, show_run)


def prepare(config: Accelerate) -> Given:
    """Data, sizes and arms: whatever may be a mistake, before a run begins.

    Raises:
        UserError: as :func:`run`.
    """
    sizes, train, test = problem_of(config, HIDDEN)
    try:
        settings = [Setting(), *_settings(config, sizes)]
    except ValueError as error:
        raise UserError(one_line(error)) from error
    return Given(config, settings, sizes, train, test)


def _settings(config: Accelerate, sizes: list[int]) -> list[Setting]:
    """The arms in factors, each tried on a network of these sizes.

    Raises:
        ValueError: ranks that don't fit, or an arm that would be dense throughout.
    """
    network = mlp(sizes, config.activation)
    meaning = config.alpha_meaning.value
    options: dict[str, Any] = {"skip_last": config.skip_last, "only_if_saves": config.only_if_saves}
    rules: list[tuple[float | None, RankRule]]
    if config.ranks is not None:
        ranks = [None if rank.lower() == "none" else int(rank) for rank in config.ranks]
        # A rank for the last layer says that it is meant.
        options["skip_last"] = False
        names = [f"{name}.weight" for name in linear_layers(network)]
        rules = [(None, layer_rule(ranks, names))]
    else:
        rules = [(alpha, alpha_rule(alpha, meaning)) for alpha in config.alphas]
    found = []
    for alpha, rule in rules:
        _, layers = factor(network, rule, **options)
        if all(layer.rank is None for layer in layers):
            shapes = ", ".join(f"{n}×{m}" for m, n in pairwise(sizes))
            raise ValueError(
                f"no layer of {shapes} would be factored, as "
                f"{'; '.join(dict.fromkeys(layer.reason for layer in layers))}: "
                "give a smaller --alpha, or other --ranks"
            )
        found += [Setting(alpha, phi, rule, layers, options) for phi in config.phis]
    return found
