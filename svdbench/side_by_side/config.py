"""Keys of the jobs that train networks side by side on a data set."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from svdbench.config.base import TRAINED, DeviceConfig, Dtype, trained_option
from svdbench.config.fields import group, members, option, section
from svdbench.job import Subject
from svdbench.members import DATASETS, TASKS
from svdbench.training.config import OptimizerConfig, Schedule, minutes_option

# The families of networks that are no list of sizes.
CONV, LSTM, GRU, RNN, BYTE_LM = "conv", "lstm", "gru", "rnn", "byte-lm"
RECURRENT = LSTM, GRU, RNN
# The unit of a loss, unless a task says otherwise.
NATS = "nats"

# The first argument of the commands that train networks; of some it may be a model, too.
DATASET = Subject(
    "DATASET",
    "Data set: digits, mnist, xor, …; by default digits.",
    name="data.name",
    choices=DATASETS,
)
DATASET_OR_MODEL = replace(
    DATASET,
    metavar="DATASET|MODULE:BUILD|FOLDER",
    help=f"{DATASET.help} Or a function that returns a model, or a Hugging Face model: its folder, "
    "or its name in the local cache.",
)


def epochs_option(null: str) -> Any:
    return trained_option(None, "epochs of training", "--epochs N", null=null, at_least=1)


def net_option(null: str) -> Any:
    help = "sizes of the layers, such as 784-512-256-10"
    return trained_option(None, help, "--net SIZES", null=null)


def batch_option(default: int | None, null: str | None = None) -> Any:
    former = ("--batch-size",)
    help = "examples in a batch"
    return trained_option(default, help, "--batch B", null=null, former=former, at_least=1)


def seeds_option(default: int) -> Any:
    return trained_option(
        default,
        "number of seeds; the first is --seed, and each next one is higher by 1",
        "--seeds N",
        at_least=1,
    )


@dataclass
class Data:
    """A data set, by the name of its YAML, and the folder with the files of all."""

    name: str = option(
        "digits", "the data set; `svdbench list datasets` lists them", choices=DATASETS
    )
    dir: str | None = option(None, "folder with the data sets", null="$SVDBENCH_DATA")


@dataclass
class Latency:
    """How inference is timed: so many examples at once, for so long, all networks together."""

    batch: int = option(256, "batch size for timing inference", at_least=1)
    budget_s: float = option(1.0, "seconds of timing inference, all networks together", above=0)


@dataclass
class SideBySide(DeviceConfig):
    """Feed-forward networks trained side by side on a data set, once for each seed."""

    data: Data = section(Data)
    net: str | None = net_option("512 and 256 hidden units")
    activation: str = option("relu", "activation between the layers: relu, sigmoid or tanh")
    epochs: int | None = epochs_option("the job's number")
    batch_size: int | None = batch_option(None, "2048, or an eighth of a smaller data set")
    shuffle: bool = option(
        True, "shuffle the examples before every epoch, the same way for all arms"
    )
    seeds: int = seeds_option(5)
    max_minutes: float | None = minutes_option("all trainings together", panel=TRAINED)
    optimizer: OptimizerConfig = group(OptimizerConfig, "the optimiser")

    # Types that networks are trained in; bfloat16 is of products alone.
    trains_in: ClassVar[tuple[Dtype, ...]] = (Dtype.float32, Dtype.float64)

    @property
    def number_type(self) -> str:
        """The type of parameters and examples."""
        return Dtype.float32.value if self.dtype is Dtype.bfloat16 else self.dtype.value

    def check(self) -> None:
        super().check()
        if self.dtype not in self.trains_in:
            *others, last = (kind.value for kind in self.trains_in)
            raise ValueError(f"dtype is {self.dtype.value}: train in {', '.join(others)} or {last}")
        optimizer = self.optimizer
        if optimizer.clip is not None or optimizer.orthogonal_lr is not None:
            raise ValueError(
                "optimizer.clip and optimizer.orthogonal_lr are for svdbench train: leave them out"
            )
        if optimizer.schedule is not Schedule.constant:
            raise ValueError("optimizer.schedule must be constant here: leave it out")


@dataclass
class FamilyConfig(SideBySide):
    """Networks of several families: multilayer, convolutional, recurrent, and transformers."""

    net: str | None = trained_option(
        None,
        "sizes of the layers, such as 784-512-256-10; conv for images; lstm, gru or rnn for a "
        "task, or for images row by row; byte-lm for text, a transformer that predicts the next "
        "byte",
        "--net NETWORK",
        null="512 and 256 hidden units; for a task lstm",
    )
    activation: str = option(
        "relu", "activation between the layers: relu, sigmoid or tanh; φ of rnn: relu or tanh"
    )
    width: int | None = trained_option(
        None,
        "hidden units of lstm, gru and rnn, or features of byte-lm (a multiple of 4)",
        "--width N",
        null="128",
        at_least=4,
    )
    layers: int | None = trained_option(
        None, "number of layers of byte-lm", "--layers N", null="4", at_least=1
    )
    context: int | None = trained_option(
        None, "context of byte-lm, in bytes", "--context N", null="128", at_least=2
    )
    text: str | None = trained_option(
        None,
        "text for byte-lm: a file, or a folder of text files",
        "--text FILE|FOLDER",
        null="Python's standard library",
    )
    task_name: str | None = trained_option(
        None,
        "sequence task for lstm, gru or rnn, such as adding; `svdbench list tasks` lists them",
        "--task TASK",
        choices=TASKS,
        null="a data set",
    )
    task: dict[str, Any] = members(TASKS)
    length: int | None = trained_option(
        None,
        "length of the task's sequences; of copying, its lag",
        "--length N",
        null="the task's",
        at_least=1,
    )
    sequences: int | None = trained_option(
        None, "number of training sequences of the task", "--sequences N", null="10000", at_least=16
    )
    batch_size: int | None = batch_option(
        None,
        "2048, or an eighth of a smaller data set; for a text, windows of 2048 bytes in all; for "
        "a task, 50 sequences",
    )

    def check(self) -> None:
        super().check()
        if any(not isinstance(options, dict) for options in self.task.values()):
            raise ValueError("task=… does not choose a task: write task_name=…, or --task …")
        takes = {"width": (*RECURRENT, BYTE_LM)}
        for name in ("width", "layers", "context", "text"):
            if getattr(self, name) is not None and self.network not in takes.get(name, (BYTE_LM,)):
                raise ValueError(f"{name} is for the network byte-lm: add --net byte-lm")
        if self.network == BYTE_LM and (self.width or 0) % 4:
            raise ValueError(f"width is {self.width}: give a multiple of 4")
        is_data = self.data.name != Data().name
        if self.task_name is None:
            for name in ("length", "sequences"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is of a task's sequences: add --task adding")
            if self.network == BYTE_LM and is_data:
                raise ValueError(
                    f"byte-lm learns text, not {self.data.name}: leave the data set out, or name a "
                    "text with --text"
                )
        elif self.network not in RECURRENT:
            raise ValueError(
                f"{self.task_name} is read step by step, and the network is {self.net}: choose "
                "--net lstm, gru or rnn"
            )
        elif is_data:
            raise ValueError(
                f"{self.task_name} has sequences of its own, not {self.data.name}: leave the data "
                "set or --task out"
            )

    @property
    def network(self) -> str | None:
        """The network's family; None for sizes of layers by default."""
        return LSTM if self.net is None and self.task_name is not None else self.net
