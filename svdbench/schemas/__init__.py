"""Types and ranges of every configuration: what ``conf/*.yaml`` may say.

Hydra checks the types while it composes; the ranges are checked here, before a
job starts. Messages are one line: the cause, then the remedy.
"""

from datetime import datetime

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
    "register",
]


def register() -> None:
    """Make the schemas and the discovered groups known to Hydra. Safe to repeat."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from svdbench.compressors.registry import GROUP as COMPRESSORS
    from svdbench.matrix_ops.registry import GROUP as MATRIX_OPS
    from svdbench.orthogonal.registry import GROUP as ORTHOGONAL
    from svdbench.rnn_loops.registry import GROUP as RNN
    from svdbench.svd_drivers.registry import GROUP as SVD_DRIVERS

    store = ConfigStore.instance()
    schemas = {"time_fasth": TimeFastH, "time_svd_ops": TimeSvdOps, "tune_blocks": TuneBlocks}
    schemas |= {"time_rnn": TimeRNN, "train": Train, "gradients": Gradients}
    schemas |= {"accelerate": Accelerate, "compress": Compress, "time_svd": TimeSVD}
    schemas |= {"rank_reveal": RankReveal, "compress_model": CompressModel}
    for name, schema in schemas.items():
        store.store(group="schema", name=name, node=schema, package="_global_")
    for optimizer in (Adam, RMSprop, SGD):
        store.store(group="schema/optimizer", name=optimizer.name, node=optimizer)
    for group in (ORTHOGONAL, MATRIX_OPS, RNN, SVD_DRIVERS, COMPRESSORS):
        everyone = [f"{name}@{name}" for name in group.names()]
        store.store(group=group.folder, name="all", node={"defaults": everyone})
    OmegaConf.register_new_resolver(
        "run_name", lambda name: name or datetime.now().strftime("%Y%m%d-%H%M%S"), replace=True
    )
