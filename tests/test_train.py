"""``svdbench train``: what it writes, what it shows, and one line for every mistake."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import EVERY_RUN, assert_mistake, run, table
from fake_clock import FakeClock
from torch import Tensor

from svdbench.config.compose import compose
from svdbench.errors import Interrupted
from svdbench.jobs.train import run as job
from svdbench.jobs.train.models import configurations
from svdbench.jobs.train.report import labelled_tables
from svdbench.members import MODELS
from svdbench.record.reader import RecordedRun
from svdbench.record.schema import LENGTHS, TRAINED, TRAINING
from svdbench.reporting.words import clock_time, share, spark
from svdbench.tasks.memory import Addition
from svdbench.training import checkpoint
from svdbench.training.build import overrides_of

pytestmark = pytest.mark.usefixtures("elsewhere")

TINY = [
    *("--hidden", "8", "--batch", "4", "--steps", "6"),
    *("trainer.evaluate_every=2", "task.length=10", "task.test_size=20"),
]
SPECTRAL = ["spectral-rnn", *TINY, "model.m1=4", "model.m2=4"]


def test_writes_what_it_promises() -> None:
    code, out, _ = run(["train", *SPECTRAL, "--seeds", "2", "--name", "one"])
    assert code == 0
    folder = Path("results/train/one")
    assert {path.name for path in folder.iterdir()} == {
        *(*EVERY_RUN, "samples.csv", "summary.csv", "loss.png"),
        *("seed-0", "seed-1"),
    }
    samples, summary = table(folder / "samples.csv"), table(folder / "summary.csv")
    assert tuple(samples[0]) == TRAINING.columns
    assert tuple(summary[0]) == TRAINED.columns
    asked = (
        "model task seed step epoch split loss baseline_loss accuracy grad_norm sigma_min "
        "sigma_max n_params step_s elapsed_s"
    )
    assert set(asked.split()) <= set(TRAINING.columns)
    assert [row["step"] for row in samples if row["seed"] == "1"][:4] == ["0", "2", "4", "6"]
    assert [row["split"] for row in samples if row["seed"] == "1"][3:] == ["validation", "test"]
    assert all(float(row["sigma_max"]) < 1.1 and float(row["loss"]) > 0 for row in samples)
    assert [(row["status"], row["seed"], row["model"]) for row in summary] == [
        *(("ok", "0", "spectral_rnn"), ("ok", "1", "spectral_rnn"))
    ]
    assert len({row["cell"] for row in summary}) == 2
    assert float(summary[0]["relative_loss"]) == pytest.approx(float(summary[0]["loss"]) * 6)
    state = checkpoint.load(folder / "seed-1" / "last.pt")
    assert state["learner"]["step"] == 6
    assert state["seed"] == 1
    assert {"model", "optimizer", "task", "generator", "rng"} <= set(state["learner"])
    assert "m1: 4" in state["config"]
    assert "loss" in out
    assert "of baseline" in out
    assert "left" in out


def test_a_seed_gives_the_same_rows() -> None:
    for name in "ab":
        assert run(["train", *SPECTRAL, "--name", name, "--seed", "3", "--seeds", "2"]).code == 0
    for file in ("summary", "samples"):
        first, second = (table(f"results/train/{name}/{file}.csv") for name in "ab")
        for row in (*first, *second):
            for column in list(row):
                if column == "run_id" or re.search("_s$|steps_per", column):
                    del row[column]
        assert first == second
    at_start = {row["seed"]: row["loss"] for row in first if row["step"] == "0"}
    assert at_start["3"] != at_start["4"]


def test_resuming_gives_the_rows_of_one_go() -> None:
    spectral = [*SPECTRAL, "optimizer.schedule=constant"]  # a decay would depend on --steps
    assert run(["train", *spectral, "--name", "whole"]).code == 0
    assert run(["train", *spectral, "--name", "part", "--steps", "4"]).code == 0
    last = "results/train/part/seed-0/last.pt"
    assert run(["train", *spectral, "--name", "rest", "--resume", last]).code == 0
    whole, rest = (table(f"results/train/{name}/samples.csv") for name in ("whole", "rest"))
    assert [row["loss"] for row in rest] == [row["loss"] for row in whole[2:]]
    wrong = ["train", "lstm", *TINY, "--resume", last]
    code, _, err = run(wrong)
    assert code == 2
    assert "doesn't fit" in err
    assert err.count("\n") == 1
    assert len(list(Path("results/train").iterdir())) == 3


def test_several_models_and_their_comparison() -> None:
    code, out, _ = run(["train", "gru,lstm", *TINY, "--name", "two"])
    assert code == 0
    folder = Path("results/train/two")
    assert {"gru", "lstm", "loss.png"} <= {path.name for path in folder.iterdir()}
    tables, swept = labelled_tables(RecordedRun(folder))
    assert (sorted(tables["summary"]["label"]), swept) == (["gru", "lstm"], [])
    assert out.count("steps and seconds to the target") == 1


def test_a_sweep_of_several_models_is_one_folder() -> None:
    sweep = ["train", "gru,lstm", *TINY, "-m", "optimizer.lr=1e-3,1e-2", "--name", "both"]
    assert run(sweep).code == 0
    folder = Path("results/train/both")
    assert {"gru-0", "gru-1", "lstm-0", "lstm-1"} <= {path.name for path in folder.iterdir()}
    summary = labelled_tables(RecordedRun(folder))[0]["summary"]
    assert sorted(summary["label"])[-1] == "lstm, lr = 0.01"


def test_all_is_every_model() -> None:
    assert list(overrides_of("all", "copy", [], True)) == MODELS.names()


def test_a_sweep_over_two_keys_is_a_heat_map() -> None:
    sweep = ["train", "spectral-rnn", *TINY, "-m", "model.m1=2,4", "model.m2=1,3", "--name", "grid"]
    code, out, _ = run(sweep)
    assert code == 0
    folder = Path("results/train/grid")
    assert {"0", "1", "2", "3", "sweep.png", "loss.png"} <= {path.name for path in folder.iterdir()}
    tables, swept = labelled_tables(RecordedRun(folder))
    assert swept == ["model.m1", "model.m2"]
    assert list(tables["summary"]["label"])[1] == "m1 = 2, m2 = 3"
    assert "sweep.png" in out


def test_longer_sequences_are_tested_at_the_end() -> None:
    words = ["--task", "words", "task.group=S3", "task.length=4", "--extrapolate", "2,4"]
    code, out, _ = run(["train", "gru,reflector-rnn", *TINY[:6], *words, "--name", "words"])
    assert code == 0
    rows = table("results/train/words/gru/lengths.csv")
    assert tuple(rows[0]) == LENGTHS.columns
    assert [(row["times"], row["test_length"], row["length"]) for row in rows] == [
        *(("1", "4", "4"), ("2", "8", "4"), ("4", "16", "4"))
    ]
    assert rows[0]["accuracy"] == table("results/train/words/gru/summary.csv")[0]["test_accuracy"]
    assert Path("results/train/words/lengths.png").exists()
    assert "4× length" in out
    fixed = ["train", "gru", "--task", "smnist", "task.dataset=digits", "--extrapolate", "2"]
    code, _, err = run(fixed)
    assert (code, err.count("\n")) == (2, 1)
    assert "sequences of smnist have one length only" in err


def test_classes_have_an_accuracy_plot() -> None:
    options = [*TINY[:6], "trainer.evaluate_every=2", "task.dataset=digits", "task.pool=4"]
    code, _, _ = run(["train", "gru", "--task", "pmnist", *options, "--name", "digits"])
    assert code == 0
    assert Path("results/train/digits/accuracy.png").exists()
    assert table("results/train/digits/samples.csv")[1]["epoch"] != ""


def test_a_nan_is_a_row_and_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_at(monkeypatch, 4, lambda loss: loss * math.nan)
    code, out, _ = run(["train", *SPECTRAL, "--seeds", "2", "--name", "nan"])
    assert code == 1
    line = next(line for line in out.splitlines() if "the loss is nan" in line)
    assert "seed 0: the loss is nan at step 4" in line
    assert "gradient norm" in line
    assert "the last good checkpoint is results/train/nan/seed-0/last.pt" in line
    summary = table("results/train/nan/summary.csv")
    assert [(row["status"], row["step"]) for row in summary] == [("nan", "4")] * 2
    bad = [row for row in table("results/train/nan/samples.csv") if row["status"] == "nan"]
    assert len(bad) == 2
    assert checkpoint.load("results/train/nan/seed-0/last.pt")["learner"]["step"] == 2


def test_an_interrupt_keeps_rows_and_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(loss: Tensor) -> Tensor:
        raise KeyboardInterrupt

    spoil_at(monkeypatch, 4, press)
    code, out, err = run(["train", *SPECTRAL, "--seeds", "2", "--name", "cut"])
    assert code == Interrupted.exit_code
    assert err == (
        "svdbench: interrupted; finished parts are kept: resume with svdbench train "
        "--resume results/train/cut\n"
    )
    assert "interrupted after step 3" in out
    rows = table("results/train/cut/summary.csv")
    assert [row["status"] for row in rows] == ["interrupted"]
    assert [row["step"] for row in table("results/train/cut/samples.csv")] == ["0", "2"]
    assert checkpoint.load("results/train/cut/seed-0/last.pt")["learner"]["step"] == 2


def spoil_at(
    monkeypatch: pytest.MonkeyPatch, step: int, change: Callable[[Tensor], Tensor]
) -> None:
    """Change the training loss of one step of every training."""
    calls = {"training": 0}

    def loss(self: Addition, outputs: Tensor, y: Tensor) -> Tensor:
        found = torch.nn.functional.mse_loss(outputs, y)
        if not outputs.requires_grad:
            return found
        calls["training"] += 1
        return change(found) if calls["training"] % step == 0 else found

    monkeypatch.setattr(Addition, "loss", loss)


def test_show_config_and_what_wins() -> None:
    code, out, _ = run(["train", "spectral-rnn", "--show-config", "--lr", "0.5", "model.m1=5"])
    assert code == 0
    assert "lr: 0.5" in out
    assert "m1: 5" in out
    assert "activation: relu" in out  # of the preset
    bare = run(["train", "spectral-rnn", "--show-config", "--no-preset"]).out
    assert "activation: modrelu" in bare
    both = configurations("gru,lstm", "copy", [])
    assert both.count("model_name:") == 2
    assert not Path("results").exists()


def test_options_reach_the_configuration() -> None:
    options = ["--target", "0", "--max-minutes", "2", "--orthogonal-lr", "1e-5", "--seed", "9"]
    code, out, _ = run(["train", "lstm", "--task", "copy", "--show-config", *options])
    assert code == 0
    for line in ("target: 0.0", "max_minutes: 2.0", "orthogonal_lr: 1.0e-05", "seed: 9"):
        assert line in out


MISTAKES = [
    (["spectral-rnn", "model.m1=200", "model.m2=4"], "m1"),
    (["spectral-rnn", "model.radius=-1"], "radius"),
    (["spectral-rnn", "task.length=1"], "length is 1: give a whole number of at least 2"),
    (["spectral-rn"], "did you mean 'spectral_rnn'"),
    (["lstm", "--task", "adition"], "did you mean 'addition'"),
    (["lstm", "--task", "smnist", "task.dataset=cifar"], "no data set is called 'cifar'"),
    (["lstm", "--task", "smnist", "task.data_dir=nowhere"], "nowhere"),
    (["lstm", "model.m1=3"], "there is no key 'model.m1'"),
    (["lstm", "trainer.target=-1"], "trainer.target is -1.0: it must be 0 or more"),
    (["lstm", "--lr", "-1"], "--lr is -1.0: it must be above 0"),
    (["lstm", "--steps", "0"], "--steps is 0: it must be 1 or more"),
    (["lstm", "--hidden", "0"], "hidden_size is 0"),
    (["lstm", "optimizer.betas=[0.9]"], "optimizer.betas"),
    (["lstm", "optimizer.alpha=0.9"], "there is no key 'optimizer.alpha'"),
    (["lstm", "optimizer=lbfgs"], "lbfgs"),
    (["lstm", "optimizer=rmsprop", "optimizer.alpha=1"], "optimizer.alpha is 1.0"),
    (["lstm", "trainer.device=tpu"], "choose cpu, cuda or cuda:N"),
    (["lstm", "model=gru"], "svdbench train lstm --task copy"),
    (["lstm", "nonsense"], "is not KEY=VALUE"),
    (["model.m1=3"], "no model is given"),
    (["lstm", "--resume", "nowhere.pt", "--name", "x"], "can't read nowhere.pt"),
    (["lstm", "--resume", "x.pt", "--seeds", "2"], "leave --seeds out"),
    (["gru,spectral-rnn", "--hidden", "0"], "hidden_size is 0"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    assert_mistake(run(["train", *arguments]), says)


def test_a_preset_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "preset" / "addition"
    folder.mkdir(parents=True)
    (folder / "lstm.yaml").write_text("optimizer.lrr: 1\n")
    monkeypatch.setattr("svdbench.config.presets.files", lambda package: tmp_path)
    code, _, err = run(["train", "lstm"])
    assert code == 2
    assert "conf/preset/addition/lstm.yaml: there is no key 'optimizer.lrr'" in err


# ------------------------------------------------------------------ what is shown


def test_numbers_as_people_read_them() -> None:
    assert [share(value) for value in (0.0097, 0.43123, 1, 68.1)] == [
        *("0.97%", "43.1%", "100%", "6,810%")
    ]
    assert [clock_time(value) for value in (5, 65.4, 3723)] == ["0:05", "1:05", "1:02:03"]
    assert spark([1, 0.1, 0.01], 0.01, 1, 10) == "█▅▁"
    assert spark([2.0] * 50 + [1e-9], 0.01, 1, 3) == "██▁"


def test_a_terminal_sees_it_move() -> None:
    from io import StringIO

    from rich.console import Console

    config, text = compose("train", overrides_of("gru", "addition", TINY[6:], True)["gru"])
    config.trainer.steps = 4
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=90)
    result = job.run(config, text, clock=FakeClock(), console=console)
    shown = screen.getvalue()
    assert result.endings == ["ok"]
    for part in ("4/4", "steps/s", "of baseline", "|grad|", "σ"):
        assert part in shown or part == "σ"


def test_a_configuration_without_an_optimiser_is_refused() -> None:
    words = ["train", "lstm", "--task", "addition", *TINY, "--name", "x"]
    assert run(words).code == 0
    config = Path("results/train/x/config.yaml")
    config.write_text("model_name: lstm\ntask_name: addition\n")
    found = run(["train", "--resume", "results/train/x"])
    assert (found.code, found.err.count("\n")) == (2, 1), found.err
