"""Keys of the jobs that train a model: optimiser, trainer, and the whole."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from svdbench.config.base import (
    FollowedConfig,
    Placement,
    RunConfig,
    device_option,
    threads_option,
    trained_option,
)
from svdbench.config.fields import Key, Member, group, members, option
from svdbench.job import Flag, Subject
from svdbench.members import MODELS, TASKS

# The first argument of the commands that train, and their option for the task.
MODEL = Subject(
    "MODEL,…",
    "Models, such as spectral-rnn,lstm; or all. `svdbench list models` lists them.",
    choices=MODELS,
    several=True,
)
TASK = Flag(
    "--task",
    "Task, such as copy; by default addition. `svdbench list tasks` lists them.",
    str,
    "addition",
    "TASK",
    choices=TASKS,
)

PRESET = "the preset's"
SHARE = "give a number from 0 to below 1"


def preset_option(default: Any, help: str, typed: str, **declared: Any) -> Any:
    """A key that the preset of a model and a task sets."""
    return option(default, help, typed, default_text=PRESET, **declared)


def minutes_option(of: str, **declared: Any) -> Any:
    help = f"time limit of {of}, in minutes"
    return option(None, help, "--max-minutes MINUTES", null="no limit", above=0, **declared)


class Schedule(Enum):
    """How learning rates go down, from the first step to the last: not at all, or to zero."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class OptimizerConfig:
    """What every optimiser has; those below add their own keys."""

    name: str = option("", "the optimiser, chosen by optimizer=NAME")
    lr: float = trained_option(
        1e-3,
        "learning rate",
        "--lr RATE",
        default_text="that of the preset or the optimiser",
        above=0,
    )
    orthogonal_lr: float | None = option(
        None, "learning rate of the recurrent weight's parameters", null="lr", above=0
    )
    weight_decay: float = option(
        0.0, "weight decay of all parameters except those of orthogonal factors", at_least=0
    )
    clip: float | None = option(
        None, "clip the norm of all gradients together to this value", null="no clipping", above=0
    )
    schedule: Schedule = option(
        Schedule.constant,
        "learning rate over time: constant, or linear or cosine, down to zero at the end",
    )


@dataclass
class Adam(OptimizerConfig):
    name: str = option("adam", "the optimiser, chosen by optimizer=NAME")
    betas: list[float] = option([0.9, 0.999], "decay of the two moments")
    eps: float = option(1e-8, "added to the denominator", above=0)

    def check(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"optimizer.betas is {self.betas}: give two numbers from 0 to below "
                "1, such as optimizer.betas=[0.9,0.999]"
            )


@dataclass
class RMSprop(OptimizerConfig):
    name: str = option("rmsprop", "the optimiser, chosen by optimizer=NAME")
    alpha: float = option(0.99, "decay of the squared gradients", at_least=0, below=1, remedy=SHARE)
    momentum: float = option(0.0, "momentum", at_least=0, below=1, remedy=SHARE)
    eps: float = option(1e-8, "added to the denominator", above=0)


@dataclass
class SGD(OptimizerConfig):
    name: str = option("sgd", "the optimiser, chosen by optimizer=NAME")
    momentum: float = option(0.0, "momentum", at_least=0, below=1, remedy=SHARE)


@dataclass
class Trainer:
    """How long to train, how often to evaluate, and where."""

    steps: int = preset_option(5000, "maximum number of optimiser steps", "--steps N", at_least=1)
    batch_size: int = preset_option(
        50,
        "number of sequences in a batch, for all processes together",
        "--batch B",
        former=("--batch-size",),
        at_least=1,
    )
    evaluate_every: int = preset_option(
        100, "steps between evaluations", "--evaluate-every N", former=("--every",), at_least=1
    )
    target: float = preset_option(
        0.01,
        "stop when the loss falls to this fraction of the baseline; 0: never",
        "--target SHARE",
        at_least=0,
    )
    max_minutes: float | None = minutes_option("each training", default_text="no limit")
    seeds: int = option(
        1,
        "number of seeds; the first is --seed, and each next one is higher by 1",
        "--seeds N",
        default_text="1",
        at_least=1,
    )
    device: str = device_option()
    threads: int | None = threads_option(
        "threads of each process", "as PyTorch chooses, divided among them"
    )
    processes: int = option(
        1,
        "number of processes per node, which share each batch; on GPUs, one process per GPU",
        "--processes N",
        default_text="1",
        at_least=1,
    )
    nodes: int = option(1, "machines that train together", at_least=1)
    checkpoint: bool = option(True, "save the best and the last weights of each seed")
    extrapolate: list[int] = preset_option(
        [],
        "also test on sequences that are longer by these factors, such as 2,4,8",
        "--extrapolate FACTORS",
        unique=True,
        at_least=2,
        remedy="give whole numbers from 2, such as 2,4,8",
    )
    resume: str | None = option(None, "checkpoint to start from", null="none")

    def check(self) -> None:
        if self.resume is not None and self.seeds > 1:
            raise ValueError("trainer.resume continues one training: leave --seeds out")
        if self.world_size > self.batch_size:
            nodes = f" on {self.nodes} nodes" if self.nodes > 1 else ""
            raise ValueError(
                f"trainer.processes is {self.processes}{nodes}, but a batch has only "
                f"{self.batch_size} sequences: give each process at least one"
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

    def where(self) -> Placement:
        """Device and threads."""
        return Placement(device=self.device, threads=self.threads)


@dataclass
class Training:
    """One model on one task."""

    model_name: str = option("spectral_rnn", "the model; the command sets it with model=NAME")
    task_name: str = option("addition", "the task; the command sets it with task=NAME")
    model: dict[str, Any] = members(
        MODELS,
        members={
            "hidden_size": Member(
                int,
                Key(
                    "number of hidden units",
                    typed="--hidden N",
                    default_text=f"{PRESET}, or 128",
                ),
            )
        },
    )
    task: dict[str, Any] = members(TASKS)
    optimizer: OptimizerConfig = group(
        OptimizerConfig,
        "the optimiser",
        members={
            "orthogonal_lr": Member(
                float,
                Key(
                    "learning rate of the recurrent weight's parameters",
                    typed="--orthogonal-lr RATE",
                    default_text=f"{PRESET}, or --lr",
                ),
            )
        },
    )
    trainer: Trainer = group(Trainer, "how long to train, how often to evaluate, and where")


@dataclass
class Train(RunConfig, FollowedConfig, Training):
    """``svdbench train``: one model on one task."""
