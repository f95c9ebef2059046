"""Time the loop of a recurrent network over T steps, forward and backward.

The Spectral-RNN is timed with single reflectors at every step, with FastH at every step, and with
W built once per pass, and compared with torch.nn.RNN, LSTM and GRU. One repetition computes all
states of 128 sequences, and the gradients with respect to the inputs and all parameters. Every
implementation is checked against float64 before and after its timing; one that fails gets no time.

Writes results/time-rnn/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment.

Examples:
    svdbench time-rnn --quick
    svdbench time-rnn --hidden 128 --length 100,1000 --methods spectral,torch_lstm
"""

from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import Key, Member, members, option, section, several
from svdbench.job import Job
from svdbench.members import LOOPS
from svdbench.timings.config import TimingConfig, methods_option

UNTUNED = Member(bool, Key("measure the block size first", quick=False))


@dataclass
class LoopSizes:
    """Recurrent networks of every hidden size, over sequences of every length."""

    hidden: list[int] = several(
        [64, 128, 256], "hidden sizes", "--hidden N,N,…", at_least=1, quick=[32, 64]
    )
    length: list[int] = several(
        [200], "steps of a sequence", "--length T,T,…", at_least=1, quick=[50]
    )
    batch: int = option(128, "number of sequences in a batch", typed="--batch B", at_least=1)
    inputs: int = option(2, "inputs at each step", at_least=1)
    reflectors: list[int | None] = option(
        [16, None],
        "numbers of reflectors of U, and of V; null: as many as hidden units",
        at_least=1,
        unique=True,
        not_empty=True,
    )

    def check(self) -> None:
        most, least = max((m for m in self.reflectors if m), default=1), min(self.hidden)
        if most > least:
            raise ValueError(
                f"sizes.reflectors has {most}, more than the {least} hidden units: "
                f"give at most {least}, or null for as many as there are"
            )


@dataclass
class TimeRNN(TimingConfig):
    sizes: LoopSizes = section(LoopSizes)
    rnn: dict[str, Any] = members(
        LOOPS, members={"fasth_each_step.tune": UNTUNED, "spectral.tune": UNTUNED}
    )
    methods: list[str] | None = methods_option(
        LOOPS, "implementations of the loop to time, such as spectral,torch_rnn"
    )


JOB = Job("time-rnn", TimeRNN, __name__, panel="Timing", place=4)
