"""Keys that configurations share: where a job runs, and where its results go."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from svdbench.config.fields import check_config, option
from svdbench.files import refuse_name
from svdbench.job import Subject

# More would be a slip of the finger, and the system may refuse them in the middle of a run.
MOST_THREADS = 1024
LAST_SEED = 2**32 - 1
DEVICE = r"cpu|cuda(:\d{1,3})?"
DEVICES = "choose cpu, cuda or cuda:N"

# Headings of the options of a command that takes a data set, or a model of the user's own.
TRAINED, OWN = "Networks that it trains", "A model of your own"
# The first argument of the commands that take a model of the user's own.
OWN_MODEL = Subject(
    "MODULE:BUILD|FOLDER",
    "A function that returns a model, or the folder of a Hugging Face model.",
    function="model.build",
)
# The key that chooses a file of conf/experiment.
EXPERIMENT = "experiment"
# Headings of the options that all commands with a configuration have.
MACHINE, RUN = "Machine and precision", "The run and its results"


class Dtype(Enum):
    """Floating-point types. Half precision is computed in float32."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


# Spellings of the types that are understood, too.
SPELLINGS = {
    **{f"torch.{kind.value}": kind.value for kind in Dtype},
    **{"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"},
    **{"double": "float64", "float": "float32", "half": "float16"},
}


def dtype_option(help: str = "precision: float64, float32, bfloat16 or float16") -> Any:
    """The precision of a job."""
    return option(Dtype.float32, help, "--dtype DTYPE", aliases=SPELLINGS, panel=MACHINE)


def device_option() -> Any:
    """The device of a job."""
    return option(
        "cpu",
        "device: cpu, cuda or cuda:N",
        typed="--device DEVICE",
        default_text="cpu",
        pattern=DEVICE,
        remedy=DEVICES,
        panel=MACHINE,
    )


def threads_option(help: str, null: str) -> Any:
    """The threads of a process."""
    return option(
        None,
        help,
        null=null,
        typed="--threads N",
        default_text=null,
        at_least=1,
        at_most=MOST_THREADS,
        panel=MACHINE,
    )


def seed_option(help: str) -> Any:
    """The first seed of a job."""
    return option(0, help, "--seed N", at_least=0, at_most=LAST_SEED, panel=MACHINE)


def trained_option(default: Any, help: str, typed: str, **declared: Any) -> Any:
    """A key about the networks that a job trains."""
    return option(default, help, typed, panel=TRAINED, **declared)


def own_option(default: Any, help: str, typed: str, **declared: Any) -> Any:
    """A key about a model of the user's own."""
    return option(default, help, typed, panel=OWN, **declared)


@dataclass
class Placement:
    """Where a job runs, and in which precision."""

    dtype: Dtype = dtype_option()
    device: str = device_option()
    threads: int | None = threads_option("number of threads", "as PyTorch chooses")
    parallel: bool = option(False, "allow timing jobs of a sweep to run side by side")


@dataclass
class RunConfig:
    """The root of every configuration: a run's seed, and where its results go."""

    seed: int = seed_option("seed for initialisation and samples")
    name: str | None = option(
        None, "name of the run's folder", null="the current time", typed="--name NAME", panel=RUN
    )
    results: str = option(
        "results", "folder for the results of all runs", typed="--results FOLDER", panel=RUN
    )

    def __post_init__(self) -> None:
        check_config(self)

    def check(self) -> None:
        """Check the relations between values. Subclasses add theirs."""
        refuse_name(self.name)


@dataclass
class FollowedConfig:
    """Of jobs whose training can be followed in TensorBoard."""

    tensorboard: bool = trained_option(
        False,
        "also write TensorBoard event files, into the folder tensorboard of the run",
        "--tensorboard",
    )


@dataclass
class DeviceConfig(RunConfig, Placement):
    """The root of the configurations of jobs that run in one process."""
