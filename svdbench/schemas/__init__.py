"""Types and ranges of every configuration: what ``conf/*.yaml`` may say.

Hydra checks the types while it composes; the ranges are checked here, before a
job starts. Messages are one line: the cause, then the remedy.
"""

from functools import cache
from typing import Any

from svdbench.errors import UserError
from svdbench.explanations import explain
from svdbench.files import documents, refuse_interpolations
from svdbench.refusals import refuse_nests
from svdbench.schemas.acceleration import Accelerate
from svdbench.schemas.base import Dtype, Job
from svdbench.schemas.compression import Compress
from svdbench.schemas.decomposition import MatrixSizes, TimeSVD
from svdbench.schemas.model_compression import CompressModel
from svdbench.schemas.reveal import RankReveal
from svdbench.schemas.timing import (
    L2,
    LoopSizes,
    Measure,
    Measured,
    Sizes,
    TimeFastH,
    TimeRNN,
    TimeSvdOps,
    Timing,
)
from svdbench.schemas.training import (
    SGD,
    Adam,
    Gradients,
    Optimizer,
    RMSprop,
    Schedule,
    Train,
    Trainer,
)
from svdbench.schemas.tuning import Budget, Shapes, TuneBlocks

__all__ = [
    "L2",
    "SGD",
    "Accelerate",
    "Adam",
    "Budget",
    "Compress",
    "CompressModel",
    "Dtype",
    "Gradients",
    "Job",
    "LoopSizes",
    "MatrixSizes",
    "Measure",
    "Measured",
    "Optimizer",
    "RMSprop",
    "RankReveal",
    "Schedule",
    "Shapes",
    "Sizes",
    "TimeFastH",
    "TimeRNN",
    "TimeSVD",
    "TimeSvdOps",
    "Timing",
    "Train",
    "Trainer",
    "TuneBlocks",
    "read",
    "register",
]

# By the root in ``conf/``, and by the name of the optimiser.
JOBS: dict[str, type] = {
    "accelerate": Accelerate,
    "compress": Compress,
    "compress_model": CompressModel,
    "gradients": Gradients,
    "rank_reveal": RankReveal,
    "time_fasth": TimeFastH,
    "time_rnn": TimeRNN,
    "time_svd": TimeSVD,
    "time_svd_ops": TimeSvdOps,
    "train": Train,
    "tune_blocks": TuneBlocks,
}
OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (Adam, RMSprop, SGD)}


@cache
def register() -> None:
    """Make the schemas, the discovered groups and our launcher known to Hydra, once a process."""
    from hydra.core.config_store import ConfigStore

    from svdbench import launchers
    from svdbench.members import COMPRESSORS, DRIVERS, LOOPS, METHODS, OPERATIONS

    store = ConfigStore.instance()
    if "schema" in store.repo:  # which stays, as long as this process does
        return
    launchers.register()
    for name, schema in JOBS.items():
        store.store(group="schema", name=name, node=schema, package="_global_")
    for name, optimizer in OPTIMIZERS.items():
        store.store(group="schema/optimizer", name=name, node=optimizer)
    for group in (METHODS, OPERATIONS, LOOPS, DRIVERS, COMPRESSORS):
        everyone = [f"{name}@{name}" for name in group.names()]
        store.store(group=group.folder, name="all", node={"defaults": everyone})


def read(job: str, text: str) -> list[Any]:
    """The configurations that a run's ``config.yaml`` has, checked like new ones.

    Args:
        job: its root in ``conf/``.
        text: YAML, a document for each.

    Raises:
        UserError: it is no such configuration, or one that doesn't fit this svdbench.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        trees = documents(text)
        refuse_interpolations(trees)
    except ValueError as error:
        raise UserError(f"config.yaml {error}: run the command anew") from error
    found = []
    try:
        for tree in trees:
            schema = OmegaConf.structured(JOBS[job])
            if "optimizer" in tree:
                schema.optimizer = OPTIMIZERS[tree["optimizer"]["name"]]
            merged = OmegaConf.merge(schema, tree)
            refuse_nests(merged)
            found.append(OmegaConf.to_object(merged))
    except (OmegaConfBaseException, RecursionError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"config.yaml is no configuration of this svdbench: {explain(error, job)}: run the "
            "command anew"
        ) from error
    return found
