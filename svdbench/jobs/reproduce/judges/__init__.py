"""Judges: a function for each result, named like its YAML, that reads its numbers from runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from svdbench.jobs.reproduce.evidence import Runs
from svdbench.jobs.reproduce.numbers import Evidence

if TYPE_CHECKING:
    Judge = Callable[[Runs], Evidence]


def judges() -> "dict[str, Judge]":
    """The judges by the names of their results. Imports torch and pandas."""
    from . import future_work, low_rank, theory, timings, trainings

    found = (
        *(timings.step_time, timings.matrix_operations, timings.block_size, timings.rnn_loop),
        *(trainings.adding, trainings.copying, trainings.permuted_mnist, trainings.other_models),
        *(
            trainings.todays_rivals,
            trainings.state_tracking,
            trainings.gradient_norms,
            theory.parameters,
            theory.expressiveness,
            theory.ceiling,
        ),
        *(low_rank.three_layer, low_rank.rank_revealer, low_rank.alpha),
        *(low_rank.cats, low_rank.mnist, low_rank.xor),
        *(future_work.larger_networks, future_work.other_networks, future_work.alpha_and_phi),
    )
    return {judge.__name__: judge for judge in found}


def measure(runs: Runs) -> Evidence:
    """The numbers and curves of a result, from its runs."""
    return judges()[runs.result.name](runs)
