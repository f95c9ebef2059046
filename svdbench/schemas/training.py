"""Configurations of the jobs that train a model: optimiser, trainer, and the whole."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from svdbench.refusals import refuse_name
from svdbench.schemas.base import Job, above_zero, at_least, check_seed


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
    weight_decay: float = 0.0
    clip: float | None = None
    schedule: Schedule = Schedule.constant

    def __post_init__(self) -> None:
        rates = {"optimizer.lr": self.lr, "optimizer.orthogonal_lr": self.orthogonal_lr}
        above_zero(**rates, **{"optimizer.clip": self.clip})
        at_least(0, **{"optimizer.weight_decay": self.weight_decay})


@dataclass
class Adam(Optimizer):
    name: str = "adam"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(**{"optimizer.eps": self.eps})
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
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(**{"optimizer.eps": self.eps})
        for key, value in (("alpha", self.alpha), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"optimizer.{key} is {value}: give a number from 0 to below 1")


@dataclass
class SGD(Optimizer):
    name: str = "sgd"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"optimizer.momentum is {self.momentum}: give a number from 0 to below 1"
            )


@dataclass
class Trainer:
    """How long to train, how often to look, and where.

    Attributes:
        batch_size: of all processes together.
        threads: of each process; None: as PyTorch chooses, divided among them.
        processes: that train together, of each node; on GPUs, one each.
        nodes: machines that train together.
    """

    steps: int = 5000
    batch_size: int = 50
    evaluate_every: int = 100
    target: float = 0.01
    max_minutes: float | None = None
    seeds: int = 1
    device: str = "cpu"
    threads: int | None = None
    processes: int = 1
    nodes: int = 1
    checkpoint: bool = True
    resume: str | None = None

    def __post_init__(self) -> None:
        whole = {"steps": self.steps, "batch_size": self.batch_size, "seeds": self.seeds}
        whole |= {"evaluate_every": self.evaluate_every}
        whole |= {"processes": self.processes, "nodes": self.nodes}
        at_least(1, **{f"trainer.{key}": value for key, value in whole.items()})
        at_least(0, **{"trainer.target": self.target})
        above_zero(**{"trainer.max_minutes": self.max_minutes})
        if self.resume is not None and self.seeds > 1:
            raise ValueError("trainer.resume continues one training: leave --seeds out")
        self.place()
        if self.world_size > self.batch_size:
            nodes = f" on {self.nodes} nodes" if self.nodes > 1 else ""
            raise ValueError(
                f"trainer.processes is {self.processes}{nodes}, and a batch has "
                f"{self.batch_size} sequences to divide: give a process one at least"
            )
        if self.world_size > 1 and self.device.startswith("cuda:"):
            raise ValueError(
                f"trainer.device is {self.device}, and {self.world_size} processes take a GPU "
                "each: use trainer.device=cuda"
            )

    @property
    def world_size(self) -> int:
        """The processes of all nodes."""
        return self.nodes * self.processes

    def place(self) -> Job:
        """Device and threads, checked as those of other jobs are."""
        return Job(device=self.device, threads=self.threads)


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
        check_seed(self.seed)
        refuse_name(self.name)


@dataclass
class Gradients(Train):
    """``svdbench gradients``: trains as ``svdbench train`` does.

    Attributes:
        sequences: whose gradients are looked at.
    """

    sequences: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, sequences=self.sequences)
        for key in ("processes", "nodes"):
            if (count := getattr(self.trainer, key)) > 1:
                raise ValueError(
                    f"trainer.{key} is {count}, and svdbench gradients runs in one: leave it out"
                )
