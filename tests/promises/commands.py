"""Small runs of every job, each over in a second or two, as they are typed.

``make bench-trust`` kills them; the tests give them again when they are finished.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from svdbench.jobs.reproduce.result import QUICK, NeededRun, PublishedResult, load
from svdbench.jobs.reproduce.run import reproduce

# A model of a user's own, with its examples: to be written beside the results.
MODEL = "tiny_model"
MODEL_TEXT = """\
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def data():
    X = torch.randn(240, 8, generator=torch.Generator().manual_seed(0))
    return X, X[:, :4].argmax(1)
"""

RESULTS = "results"
# Where a form of a command writes, if not under the command's name.
JOBS = {"MODULE:BUILD": "compress-model", "--when": "accelerate-when"}
# Repetitions that are counted, not chosen by how precise they are: the same rows every time.
COUNTED = "measure.min_reps=2 measure.max_reps=2 measure.warmup_reps=1 measure.budget_s=0.2"
TRAINING = "task.length=5 task.test_size=8 trainer.batch_size=4 trainer.target=0"
TIMED = {
    "time-fasth": f"--d 4,5,6,7 --methods cwy,sequential {COUNTED}",
    "time-svd-ops": f"--d 4,6 --ops inverse,logdet {COUNTED}",
    "time-rnn": "--hidden 4,6 --length 2,3 --methods spectral,torch_rnn sizes.batch=2 "
    f"sizes.reflectors=[2] {COUNTED}",
    "time-svd": f"--shapes 8x12 --ranks 2,3 --spectra step,gaussian --methods gram {COUNTED}",
    "accelerate --when": f"--when --widths 8,12 --rows 4,6 --alphas 0.5 {COUNTED}",
    "tune": "--plot --d 8,12 --m 2,3 --budget 0.02",
    "time-fasth -m": f"--d 4,5 --methods cwy,sequential sizes.m=2,3 {COUNTED}",
}
COMPUTED = {
    "train": f"lstm --hidden 4 --steps 60 --seeds 3 {TRAINING} trainer.evaluate_every=4",
    "train -m": f"lstm seed=0,1,2 --hidden 4 --steps 40 {TRAINING} trainer.evaluate_every=4",
    "train several": f"lstm,gru --hidden 4 --steps 40 {TRAINING} trainer.evaluate_every=4",
    "gradients": f"lstm,rnn --steps 12 --every 4 {TRAINING} trainer.seeds=2 sequences=4 "
    "model.hidden_size=4",
    "compress": "xor --epochs 3 --seeds 3 --ranks 1 --net 2-4-2 latency.budget_s=0.01",
    "compress MODULE:BUILD": f"{MODEL}:build --data {MODEL}:data timing_s=0.05",
    "compress -m": "xor --epochs 2 --seeds 1 --net 2-4-2 --ranks 1 seed=0,1 latency.budget_s=0.01",
    # The widths of smaller networks are found by times.
    "accelerate": "xor --epochs 8 --seeds 3 --no-rivals",
    "rank-reveal": "digits --net 64-8-10 --epochs 1 --seeds 2 fractions=[0.5] examples.curves=50 "
    "examples.search=100 examples.calibration=200 latency.budget_s=0.01",
}


@dataclass(frozen=True)
class Command:
    """A command that leaves one run, or the runs of a sweep.

    Attributes:
        title: what tells it from the others.
        job: the folder in ``results``.
        timed: whether its numbers are times, which are others each time.
        run_as: runs it under a name; the exit code.
    """

    title: str
    job: str
    timed: bool
    run_as: Callable[[str], int]

    def run(self, number: str) -> int:
        """Run it, or go on with it, under a name with this number; the exit code."""
        return self.run_as(self._name(number))

    def folder(self, number: str) -> Path:
        """Where it writes then."""
        return Path(RESULTS) / self.job / self._name(number)

    def _name(self, number: str) -> str:
        return f"{'-'.join(re.findall('[a-z]+', self.title.lower()))}-{number}"


def commands() -> list[Command]:
    """One at least of every job that leaves something, and sweeps."""
    found = []
    for timed, typed in ((True, TIMED), (False, COMPUTED)):
        for title, words in typed.items():
            name, _, form = title.partition(" ")
            given = [name, *words.split(), *(["-m"] if form == "-m" else [])]
            found.append(Command(title, JOBS.get(form, name), timed, _typed(given)))
    return [*found, Command("reproduce", "reproduce", False, _reproduced)]


def small_result() -> PublishedResult:
    """A result that is read from two runs of a few epochs."""
    xor = load("xor")
    small = "accelerate xor --epochs 3 --seeds 2 --no-rivals"
    runs = [NeededRun(run.run, small, f"{small} shuffle={run is xor.runs[0]}") for run in xor.runs]
    return replace(xor, runs=runs)


def write_model(folder: Path) -> None:
    """The user's model, where the command is run."""
    (folder / f"{MODEL}.py").write_text(MODEL_TEXT, encoding="utf-8")


def _typed(words: list[str]) -> Callable[[str], int]:
    def run(name: str) -> int:
        from svdbench.cli import main

        code: object = 1
        try:
            main([*words, "--name", name])
        except SystemExit as ended:
            code = ended.code
        return int(str(code or 0))

    return run


def _reproduced(name: str) -> int:
    root = Path(RESULTS) / "reproduce" / name
    return int(not reproduce([small_result()], root, QUICK, Console()))
