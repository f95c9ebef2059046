"""Types and ranges of every configuration: what ``conf/*.yaml`` may say.

Hydra checks the types while it composes; the ranges are checked here, before a
job starts. Messages are one line: the cause, then the remedy.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class Dtype(Enum):
    """Of V and X. Half precision is computed in float32."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def _at_least(least: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: it must be {least} or more")


def _above_zero(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}: it must be above 0")


class L2(Enum):
    """A GPU's last cache at the start of each repetition: as the one before left it, or emptied."""

    warm = "warm"
    cold = "cold"


@dataclass
class Measure:
    """How long and how exactly to measure; ``svdbench.measure.plan.Plan`` checks the ranges."""

    budget_s: float = 150.0
    precision: float = 0.02
    min_reps: int = 5
    max_reps: int = 300
    warmup_reps: int = 2
    timeout_s: float = 20.0
    l2: L2 = L2.warm


@dataclass
class Sizes:
    """Reflectors V (n, d) applied to X (d, m)."""

    d: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024])
    n: int | None = None
    m: int = 32

    def __post_init__(self) -> None:
        if not self.d:
            raise ValueError("sizes.d is empty: give at least one size, as in sizes.d=[64,128]")
        for d in self.d:
            _at_least(1, **{"sizes.d": d})
        _at_least(1, **{"sizes.n": self.n, "sizes.m": self.m})


@dataclass
class Timing:
    """What every timing job has: where, how long, under which name."""

    sizes: Sizes = field(default_factory=Sizes)
    measure: Measure = field(default_factory=Measure)
    dtype: Dtype = Dtype.float32
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0
    name: str | None = None
    results: str = "results"

    def __post_init__(self) -> None:
        _at_least(1, threads=self.threads)
        if self.device != "cpu" and not self.device.startswith("cuda"):
            raise ValueError(f"device is {self.device!r}: choose cpu, cuda or cuda:N")


@dataclass
class TimeFastH(Timing):
    """``svdbench time-fasth``."""

    orthogonal: dict[str, Any] = field(default_factory=dict)
    methods: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        from svdbench.orthogonal.registry import GROUP

        if self.methods is not None:
            GROUP.check(self.methods)


@dataclass
class TimeSvdOps(Timing):
    """``svdbench time-svd-ops``."""

    matrix_op: dict[str, Any] = field(default_factory=dict)
    ops: list[str] | None = None
    sigma: list[float] = field(default_factory=lambda: [0.5, 1.5])

    def __post_init__(self) -> None:
        super().__post_init__()
        from svdbench.matrix_ops.registry import check_operations

        if self.ops is not None:
            check_operations(self.ops)
        if len(self.sigma) != 2 or not 0 < self.sigma[0] <= self.sigma[1] < math.inf:
            raise ValueError(
                f"sigma is {self.sigma}: give the smallest and the largest singular value, "
                "both above 0, as in sigma=[0.5,1.5]"
            )


@dataclass
class Shapes:
    """Reflectors V (n, d) applied to X (d, m), for every d and every m."""

    d: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024])
    n: int | None = None
    m: list[int] = field(default_factory=lambda: [8, 32, 128])

    def __post_init__(self) -> None:
        for key, values in (("sizes.d", self.d), ("sizes.m", self.m)):
            if not values:
                raise ValueError(f"{key} is empty: give at least one number, as in {key}=[64,128]")
            for value in values:
                _at_least(1, **{key: value})
        _at_least(1, **{"sizes.n": self.n})


@dataclass
class Budget:
    """Seconds of measuring for each shape."""

    budget_s: float = 8.0

    def __post_init__(self) -> None:
        if not self.budget_s > 0:
            raise ValueError(f"measure.budget_s is {self.budget_s}: set it above 0")


@dataclass
class TuneBlocks(Timing):
    """``svdbench tune --plot``: several m, and a budget is all there is to measuring."""

    sizes: Shapes = field(default_factory=Shapes)  # type: ignore[assignment]
    measure: Budget = field(default_factory=Budget)  # type: ignore[assignment]


@dataclass
class LoopSizes:
    """Recurrent networks of every hidden size, over sequences of every length.

    Attributes:
        batch: sequences.
        inputs: numbers that come in at each step.
        reflectors: of U, and of V; None: as many as hidden units.
    """

    hidden: list[int] = field(default_factory=lambda: [64, 128, 256])
    length: list[int] = field(default_factory=lambda: [200])
    batch: int = 128
    inputs: int = 2
    reflectors: list[int | None] = field(default_factory=lambda: [16, None])

    def __post_init__(self) -> None:
        lists: dict[str, list[Any]] = {"hidden": self.hidden, "length": self.length}
        lists["reflectors"] = self.reflectors
        for key, values in lists.items():
            if not values or len(set(values)) < len(values):
                fault = "names a number twice" if values else "is empty"
                raise ValueError(f"sizes.{key} {fault}: give numbers as in sizes.{key}=[64,128]")
            for value in values:
                _at_least(1, **{f"sizes.{key}": value})
        _at_least(1, **{"sizes.batch": self.batch, "sizes.inputs": self.inputs})
        most, least = max((m for m in self.reflectors if m), default=1), min(self.hidden)
        if most > least:
            raise ValueError(
                f"sizes.reflectors has {most}, more than the {least} hidden units: "
                f"give at most {least}, or null for as many"
            )


@dataclass
class TimeRNN(Timing):
    """``svdbench time-rnn``."""

    sizes: LoopSizes = field(default_factory=LoopSizes)  # type: ignore[assignment]
    rnn: dict[str, Any] = field(default_factory=dict)
    methods: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        from svdbench.rnn_loops.registry import GROUP

        if self.methods is not None:
            GROUP.check(self.methods)


class Schedule(Enum):
    """How learning rates go down, from the first step to the last: not at all, or to zero."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class Optimizer:
    """What every optimiser has; those below add their own.

    Attributes:
        orthogonal_lr: for the parameters of the recurrent weight; None: as the others.
        weight_decay: of the other parameters; those of an orthogonal factor have no size
            that could mean something.
        clip: the largest norm of all gradients together; None: any.
    """

    name: str = ""
    lr: float = 1e-3
    orthogonal_lr: float | None = None
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = None
    schedule: Schedule = Schedule.constant

    def __post_init__(self) -> None:
        rates = {"optimizer.lr": self.lr, "optimizer.orthogonal_lr": self.orthogonal_lr}
        _above_zero(**rates, **{"optimizer.clip": self.clip, "optimizer.eps": self.eps})
        _at_least(0, **{"optimizer.weight_decay": self.weight_decay})


@dataclass
class Adam(Optimizer):
    name: str = "adam"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"optimizer.betas is {self.betas}: give two numbers from 0 to below 1, "
                "as in optimizer.betas=[0.9,0.999]"
            )


@dataclass
class RMSprop(Optimizer):
    name: str = "rmsprop"
    alpha: float = 0.99
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, value in (("alpha", self.alpha), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"optimizer.{key} is {value}: give a number from 0 to below 1")


@dataclass
class Trainer:
    """How long to train, how often to look, and where."""

    steps: int = 5000
    batch_size: int = 50
    evaluate_every: int = 100
    target: float = 0.01
    max_minutes: float | None = None
    seeds: int = 1
    device: str = "cpu"
    threads: int | None = None
    checkpoint: bool = True
    resume: str | None = None

    def __post_init__(self) -> None:
        whole = {"steps": self.steps, "batch_size": self.batch_size, "seeds": self.seeds}
        whole["evaluate_every"] = self.evaluate_every
        _at_least(1, **{f"trainer.{key}": value for key, value in whole.items()})
        _at_least(0, **{"trainer.target": self.target})
        _above_zero(**{"trainer.max_minutes": self.max_minutes})
        if self.resume is not None and self.seeds > 1:
            raise ValueError("trainer.resume goes on with one training: leave --seeds out")
        self.place()

    def place(self) -> Timing:
        """Device and threads, checked as those of a timing job are."""
        return Timing(device=self.device, threads=self.threads)


@dataclass
class Train:
    """``svdbench train``: one model on one task."""

    model_name: str = "spectral_rnn"
    task_name: str = "addition"
    model: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    trainer: Trainer = field(default_factory=Trainer)
    seed: int = 0
    name: str | None = None
    results: str = "results"

    def __post_init__(self) -> None:
        _at_least(0, seed=self.seed)


@dataclass
class Gradients(Train):
    """``svdbench gradients``: trains as ``svdbench train`` does.

    Attributes:
        sequences: whose gradients are looked at.
    """

    sequences: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, sequences=self.sequences)


def register() -> None:
    """Make the schemas and the discovered groups known to Hydra. Safe to repeat."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from svdbench.matrix_ops.registry import GROUP as MATRIX_OPS
    from svdbench.orthogonal.registry import GROUP as ORTHOGONAL
    from svdbench.rnn_loops.registry import GROUP as RNN

    store = ConfigStore.instance()
    schemas = {"time_fasth": TimeFastH, "time_svd_ops": TimeSvdOps, "tune_blocks": TuneBlocks}
    schemas |= {"time_rnn": TimeRNN, "train": Train, "gradients": Gradients}
    for name, schema in schemas.items():
        store.store(group="schema", name=name, node=schema, package="_global_")
    for optimizer in (Adam, RMSprop):
        store.store(group="schema/optimizer", name=optimizer.name, node=optimizer)
    for group in (ORTHOGONAL, MATRIX_OPS, RNN):
        everyone = [f"{name}@{name}" for name in group.names()]
        store.store(group=group.folder, name="all", node={"defaults": everyone})
    OmegaConf.register_new_resolver(
        "run_name", lambda name: name or datetime.now().strftime("%Y%m%d-%H%M%S"), replace=True
    )
