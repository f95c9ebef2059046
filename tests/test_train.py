"""Training: the loop on a clock of our own, checkpoints, presets, the command and its plots."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from svdbench import schemas
from svdbench.cli import main
from svdbench.errors import Interrupted, UserError
from svdbench.jobs import train as job
from svdbench.jobs.train_models import configurations, overrides_of
from svdbench.launch import compose
from svdbench.models.base import SequenceModel
from svdbench.models.gru import GRU
from svdbench.models.registry import load_model, model_names
from svdbench.record.schema import TRAINED, TRAINING
from svdbench.report.training import read_runs
from svdbench.report.units import clock_time, share, spark
from svdbench.tasks.addition import Addition
from svdbench.tasks.registry import task_names
from svdbench.training import checkpoint
from svdbench.training.evaluation import PART, evaluate, spectrum
from svdbench.training.learner import Diverged, Learner
from svdbench.training.loop import Loop
from svdbench.training.optimizers import factor
from svdbench.training.presets import override, preset
from svdbench.training.progress import Limits, Outcome, Point, Tick

# ------------------------------------------------------------------ a clock, a task, a model


class FakeClock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def stamp(self) -> float:
        return self.time

    def sync(self) -> None:
        pass

    def seconds(self, start: float, end: float) -> float:
        return end - start


class Timed(Addition):
    """A minibatch takes a second, an evaluation eight; losses can be dictated."""

    def __init__(self, clock: FakeClock, losses: list[float] | None = None) -> None:
        super().__init__(length=6, test_size=4)
        self.clock = clock
        self.losses = losses
        self.batches = 0

    def batch(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if batch_size != self.test_size:
            self.clock.time += 1
            self.batches += 1
        return super().batch(batch_size, generator)

    def split(self, x: Tensor, y: Tensor, size: int) -> Any:
        self.clock.time += 8
        return super().split(x, y, size)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        found = super().loss(outputs, y)
        if outputs.requires_grad or self.losses is None:
            return found
        return torch.tensor(self.losses.pop(0))


def learner_of(task: Addition, model: SequenceModel | None = None, **options: Any) -> Learner:
    torch.manual_seed(0)
    model = model or GRU(2, 4, 1)
    config = options.pop("config", schemas.Adam())
    known = {"steps": 20, "batch_size": 3, "generator": torch.Generator().manual_seed(1)}
    return Learner(model, task, config, **{**known, **options})


def loop_of(
    losses: list[float] | None = None, steps: int = 20, every: int = 5, **options: Any
) -> tuple[Loop, list[Point], FakeClock]:
    """A loop with a list of its evaluations."""
    clock = FakeClock()
    hooks = {name: options.pop(name) for name in ("on_step",) if name in options}
    seen: list[Point] = []
    learner = learner_of(Timed(clock, losses))
    limits = Limits(steps=steps, evaluate_every=every, **options)
    loop = Loop(learner, limits, clock, on_evaluation=lambda p, best: seen.append(p), **hooks)
    return loop, seen, clock


# ------------------------------------------------------------------ the loop


def test_evaluations_are_not_training_time() -> None:
    loop, seen, clock = loop_of(steps=12)
    outcome = loop.run()
    assert outcome.status == "ok"
    assert [point.step for point in seen] == [0, 5, 10, 12]
    assert [point.elapsed_s for point in seen] == [0, 5, 10, 12]
    assert [point.step_s for point in seen] == [None, 1, 1, 1]
    assert outcome.elapsed_s == 12
    assert outcome.evaluation_s == 8 * 5  # the test set, at the end, is one more
    assert outcome.steps_per_s == 1
    assert clock.time == 12 + 40


def test_stops_at_the_target() -> None:
    loop, seen, _ = loop_of([1, 0.5, 0.2, 0.3], target=0.25)
    outcome = loop.run()
    assert outcome.status == "target"
    assert outcome.reached is seen[-1]
    assert (seen[-1].step, seen[-1].loss) == (10, pytest.approx(0.2))


def test_stops_by_the_clock_with_an_evaluation() -> None:
    loop, seen, _ = loop_of(max_s=8 + 5 + 8 + 2)
    outcome = loop.run()
    assert outcome.status == "timeout"
    assert [point.step for point in seen] == [0, 5, 7]
    assert "after step 7" in outcome.reason


def test_the_best_weights_are_tested_and_the_last_where_nothing_is_held_out() -> None:
    losses = [3.0, 1.0, 2.0, 2.5, 7.0]
    loop, seen, _ = loop_of(list(losses), steps=15)
    outcome = loop.run()
    assert outcome.best is seen[1]
    assert outcome.last is seen[3]
    assert outcome.test is not None
    assert (outcome.test.step, outcome.test.split, outcome.test.loss) == (5, "test", 7.0)
    assert all(
        torch.equal(value, loop.best_weights[name])
        for name, value in loop.learner.model.state_dict().items()
    )

    class NothingHeldOut(Timed):
        def validation_set(self) -> Any:
            raise ValueError("none")

    learner = learner_of(NothingHeldOut(FakeClock(), list(losses)))
    outcome = Loop(learner, Limits(15, 5), FakeClock()).run()
    assert outcome.last is not None
    assert outcome.last.split == "test"
    assert outcome.test is not None
    assert outcome.test.step == 15


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_gradient_stops_before_it_does_harm(bad: float) -> None:
    loop, seen, _ = loop_of()
    weight = loop.learner.parameters[0]
    before: list[Tensor] = []

    def spoil(gradient: Tensor) -> Tensor:
        if loop.learner.step == 7:
            before.append(weight.detach().clone())
            return gradient * bad
        return gradient

    weight.register_hook(spoil)
    outcome = loop.run()
    assert outcome.status == "nan"
    assert "the gradient norm is" in outcome.reason
    assert "at step 8" in outcome.reason
    assert "at step 5 the loss was" in outcome.reason
    assert outcome.last is not None
    assert (outcome.last.step, outcome.last.loss) == (8, None)
    assert outcome.test is None
    assert [point.step for point in seen] == [0, 5]
    assert torch.equal(weight, before[0])


def test_a_bad_evaluation_stops_and_is_never_the_best() -> None:
    loop, seen, _ = loop_of([1.0, math.nan])
    outcome = loop.run()
    assert outcome.status == "nan"
    assert "the loss is nan at step 5" in outcome.reason
    assert outcome.best is seen[0]


def test_an_interrupt_keeps_what_there_is() -> None:
    def press(tick: Tick) -> None:
        if tick.step == 7:
            raise KeyboardInterrupt

    loop, seen, _ = loop_of(on_step=press)
    outcome = loop.run()
    assert outcome.status == "interrupted"
    assert outcome.last is seen[-1]
    assert seen[-1].step == 5
    assert outcome.elapsed_s == 7


def test_what_is_raised_is_a_reason_and_mistakes_are_not() -> None:
    def fail(error: Exception) -> Outcome:
        def hook(tick: Tick) -> None:
            raise error

        return loop_of(on_step=hook)[0].run()

    outcome = fail(RuntimeError("odd"))
    assert (outcome.status, outcome.reason) == ("failed", "RuntimeError: odd")
    assert fail(MemoryError()).status == "oom"
    with pytest.raises(UserError, match="full disk"):
        fail(UserError("full disk"))


def test_time_left_is_by_the_limit_that_comes_first() -> None:
    ticks: list[Tick] = []
    loop_of(on_step=ticks.append, steps=10)[0].run()
    assert (ticks[0].left_s, ticks[0].by_clock) == (9 * 9, False)  # 8 s of evaluation and 1 s
    assert ticks[-1].left_s == 0
    ticks.clear()
    loop_of(on_step=ticks.append, max_s=29)[0].run()
    assert (ticks[0].left_s, ticks[0].by_clock) == (20, True)


# ------------------------------------------------------------------ the learner


def test_two_learning_rates_and_no_decay_of_reflectors() -> None:
    model = load_model("spectral_rnn", 2, 1, hidden_size=8)
    config = schemas.RMSprop(lr=0.1, orthogonal_lr=0.01, weight_decay=0.5)
    learner = learner_of(Addition(6, 4), model, config=config)
    groups = {len(group["params"]): group for group in learner.optimizer.param_groups}
    orthogonal = groups[len(model.orthogonal_parameters())]
    assert (orthogonal["lr"], orthogonal["weight_decay"]) == (0.01, 0)
    others = next(g for g in learner.optimizer.param_groups if g is not orthogonal)
    assert (others["lr"], others["weight_decay"]) == (0.1, 0.5)


@pytest.mark.parametrize("name", model_names())
def test_every_model_learns_and_goes_on_from_its_state(name: str) -> None:
    """Also the proof that a checkpoint misses nothing: the same losses, bit by bit."""
    task = Addition(8, 16)
    options = {"config": schemas.Adam(clip=1.0, schedule=schemas.Schedule.cosine)}
    learner = learner_of(task, load_model(name, 2, 1, hidden_size=8), **options)
    trained = [parameter for parameter in learner.parameters if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    for _ in range(3):
        learner.learn()
    moved = [not torch.equal(a, b) for a, b in zip(before, trained, strict=True)]
    assert all(moved)
    assert (learner.model.promise() or 0) < 1e-4
    path = Path("last.pt")
    checkpoint.save(path, {"learner": learner.state_dict()})
    expected = [learner.learn() for _ in range(3)]

    other = learner_of(task, load_model(name, 2, 1, hidden_size=8), **options)
    other.load_state_dict(checkpoint.load(path)["learner"])
    assert other.step == 3
    assert [other.learn() for _ in range(3)] == expected


def test_an_epoch_goes_on_where_it_was() -> None:
    from svdbench.tasks.registry import load_task

    def make() -> Learner:
        task = load_task("smnist", dataset="digits", pool=4)
        torch.manual_seed(0)
        model = GRU(1, 4, 10)
        generator = torch.Generator().manual_seed(1)
        options = {"steps": 9, "batch_size": 400, "generator": generator}
        return Learner(model, task, schemas.Adam(), **options)

    learner = make()
    learner.learn()
    assert learner.epoch == pytest.approx(1 / math.ceil(learner.task.epoch_size / 400))
    checkpoint.save(Path("last.pt"), {"learner": learner.state_dict()})
    expected = [learner.learn() for _ in range(6)]
    other = make()
    other.load_state_dict(checkpoint.load("last.pt")["learner"])
    assert [other.learn() for _ in range(6)] == expected


def test_a_step_without_a_number_changes_nothing() -> None:
    learner = learner_of(Addition(6, 4))
    with torch.no_grad():
        learner.model.readout.weight[0, 0] = math.nan
    with pytest.raises(Diverged, match="the loss is nan at step 1"):
        learner.learn()
    assert learner.step == 0


def test_schedules_end_at_zero() -> None:
    for schedule in (schemas.Schedule.linear, schemas.Schedule.cosine):
        values = [factor(schedule, step, 10) for step in range(11)]
        assert values[0] == 1
        assert values[5] == pytest.approx(0.5)
        assert values[10] == pytest.approx(0)
        assert values == sorted(values, reverse=True)
    assert factor(schemas.Schedule.constant, 10, 10) == 1


# ------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("at_end", [True, False])
def test_a_set_in_parts_has_the_scores_of_the_whole(
    at_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svdbench.tasks.registry import load_task

    task = load_task("addition", length=6) if at_end else load_task("copy", lag=3)
    model = GRU(task.input_size, 8, task.output_size)
    whole = evaluate(model, task, task.test_set(), torch.device("cpu"))
    assert task.test_set()[0].shape[0] * 8 * 1000 < PART
    monkeypatch.setattr("svdbench.training.evaluation.PART", 8 * task.length * 13)
    parts = evaluate(model, task, task.test_set(), torch.device("cpu"))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == pytest.approx(whole.accuracy)
    assert model.training


def test_spectrum_of_what_the_model_knows_or_of_its_weight() -> None:
    found = spectrum(load_model("spectral_rnn", 2, 1, hidden_size=8))
    assert found.sigma_min == pytest.approx(1)
    plain = load_model("rnn", 2, 1, hidden_size=8)
    weight = plain.recurrent_weight()
    assert weight is not None
    assert spectrum(plain).sigma_max == pytest.approx(torch.linalg.svdvals(weight).max().item())
    assert spectrum(load_model("lstm", 2, 1, hidden_size=8)).sigma_max is None


# ------------------------------------------------------------------ checkpoints


def test_a_checkpoint_is_whole_or_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("seed-0/last.pt")
    checkpoint.save(path, {"learner": {"step": 1}})

    def torn(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(UserError, match=r"can't write .*No space left.*checkpoint=false"):
        checkpoint.save(path, {"learner": {"step": 2}})
    assert checkpoint.load(path)["learner"] == {"step": 1}


def test_what_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match="can't read"):
        checkpoint.load("nowhere.pt")
    Path("text.pt").write_text("hello")
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoint.load("text.pt")
    torch.save({"weights": torch.ones(1)}, "other.pt")
    with pytest.raises(UserError, match=r"not a checkpoint of svdbench train"):
        checkpoint.load("other.pt")


# ------------------------------------------------------------------ presets


def test_what_is_typed_wins_over_the_model_and_the_model_over_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "preset" / "addition"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text(
        "optimizer: adam\noptimizer.betas: [0.8, 0.9]\ntrainer.steps: 7\nname: it's\n"
    )
    (folder / "gru.yaml").write_text("optimizer: rmsprop\noptimizer.lr: 3e-3\ntrainer.seeds: null")
    monkeypatch.setattr("svdbench.training.presets.files", lambda package: tmp_path)
    assert preset("addition", "lstm") == [
        *("optimizer='adam'", "optimizer.betas=[0.8,0.9]", "trainer.steps=7"),
        r"name='it\'s'",
    ]
    assert preset("addition", "gru")[:2] == ["trainer.steps=7", r"name='it\'s'"]
    assert preset("addition", "gru")[2:] == [
        *("optimizer='rmsprop'", "optimizer.lr=0.003", "trainer.seeds=null")
    ]
    assert preset("addition", "gru", ["optimizer=adam", "name=x"]) == [
        *("trainer.steps=7", "trainer.seeds=null")
    ]
    assert preset("copy", "gru") == []


@pytest.mark.parametrize("text", ["plain", "it's", r"back\slash", "a,b", "x=[1", "it\\'s\\"])
def test_values_survive_hydra(text: str) -> None:
    config, _ = compose("train", [override("name", text)])
    assert config.name == text


@pytest.mark.parametrize("task", task_names())
def test_every_preset_fits_its_model_and_task(task: str) -> None:
    data = ["task.dataset=digits"] if "mnist" in task else []
    for overrides in overrides_of("all", task, data, True).values():
        config, _ = compose("train", overrides)
        model, made, _ = job.build(config, 0)
        assert model.input_size == made.input_size


# ------------------------------------------------------------------ the command

TINY = [
    *("--hidden", "8", "--batch", "4", "--steps", "6"),
    *("trainer.evaluate_every=2", "task.length=10", "task.test_size=20"),
]
SPECTRAL = ["spectral-rnn", *TINY, "model.m1=4", "model.m2=4"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    out, err = capsys.readouterr()
    code = stopped.value.code
    return (code if isinstance(code, int) else 0), out, err


def table(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_writes_what_it_promises(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*SPECTRAL, "--seeds", "2", "--name", "one"], capsys)
    assert code == 0
    folder = Path("results/train/one")
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "env.json", "samples.csv", "summary.csv", "loss.png"),
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


def test_a_seed_gives_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        assert run([*SPECTRAL, "--name", name, "--seed", "3"], capsys)[0] == 0
    for file in ("samples", "summary"):
        first, second = (table(f"results/train/{name}/{file}.csv") for name in "ab")
        for row in (*first, *second):
            for column in list(row):
                if column == "run_id" or re.search("_s$|steps_per", column):
                    del row[column]
        assert first == second
    other = run([*SPECTRAL, "--name", "c", "--seed", "4"], capsys)
    assert other[0] == 0
    assert table("results/train/c/samples.csv")[0]["loss"] != first[0]["loss"]


def test_resuming_gives_the_rows_of_one_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SPECTRAL, "--name", "whole"], capsys)[0] == 0
    assert run([*SPECTRAL, "--name", "part", "--steps", "4"], capsys)[0] == 0
    last = "results/train/part/seed-0/last.pt"
    assert run([*SPECTRAL, "--name", "rest", "--resume", last], capsys)[0] == 0
    whole, rest = (table(f"results/train/{name}/samples.csv") for name in ("whole", "rest"))
    assert [row["loss"] for row in rest] == [row["loss"] for row in whole[2:]]
    wrong = ["lstm", *TINY, "--resume", last]
    code, _, err = run(wrong, capsys)
    assert code == 2
    assert "doesn't fit" in err
    assert err.count("\n") == 1
    assert len(list(Path("results/train").iterdir())) == 3


def test_several_models_and_their_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["gru,lstm", *TINY, "--name", "two"], capsys)
    assert code == 0
    folder = Path("results/train/two")
    assert {"gru", "lstm", "loss.png"} <= {path.name for path in folder.iterdir()}
    _, summary, swept = read_runs(folder)
    assert (sorted(summary["label"]), swept) == (["gru", "lstm"], [])
    assert out.count("steps and seconds to the target") == 1


def test_a_sweep_of_several_models_is_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["gru,lstm", *TINY, "-m", "optimizer.lr=1e-3,1e-2", "--name", "both"]
    assert run(sweep, capsys)[0] == 0
    folder = Path("results/train/both")
    assert {"gru-0", "gru-1", "lstm-0", "lstm-1"} <= {path.name for path in folder.iterdir()}
    assert sorted(read_runs(folder)[1]["label"])[-1] == "lstm, lr = 0.01"


def test_all_is_every_model() -> None:
    assert list(overrides_of("all", "copy", [], True)) == model_names()


def test_a_sweep_over_two_keys_is_a_heat_map(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["spectral-rnn", *TINY, "-m", "model.m1=2,4", "model.m2=1,3", "--name", "grid"]
    code, out, _ = run(sweep, capsys)
    assert code == 0
    folder = Path("results/train/grid")
    assert {"0", "1", "2", "3", "sweep.png", "loss.png"} <= {path.name for path in folder.iterdir()}
    _, summary, swept = read_runs(folder)
    assert swept == ["model.m1", "model.m2"]
    assert list(summary["label"])[1] == "m1 = 2, m2 = 3"
    assert "sweep.png" in out


def test_classes_have_an_accuracy_plot(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*TINY[:6], "trainer.evaluate_every=2", "task.dataset=digits", "task.pool=4"]
    code, _, _ = run(["gru", "--task", "pmnist", *options, "--name", "digits"], capsys)
    assert code == 0
    assert Path("results/train/digits/accuracy.png").exists()
    assert table("results/train/digits/samples.csv")[1]["epoch"] != ""


def test_a_nan_is_a_row_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_at(monkeypatch, 4, lambda loss: loss * math.nan)
    code, out, _ = run([*SPECTRAL, "--seeds", "2", "--name", "nan"], capsys)
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


def test_an_interrupt_keeps_rows_and_checkpoints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(loss: Tensor) -> Tensor:
        raise KeyboardInterrupt

    spoil_at(monkeypatch, 4, press)
    code, out, err = run([*SPECTRAL, "--seeds", "2", "--name", "cut"], capsys)
    assert code == Interrupted.exit_code
    assert err == (
        "svdbench: interrupted; rows and checkpoints so far are kept in results/train/cut\n"
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


def test_show_config_and_what_wins(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["spectral-rnn", "--show-config", "--lr", "0.5", "model.m1=5"], capsys)
    assert code == 0
    assert "lr: 0.5" in out
    assert "m1: 5" in out
    assert "activation: relu" in out  # of the preset
    bare = run(["spectral-rnn", "--show-config", "--no-preset"], capsys)[1]
    assert "activation: modrelu" in bare
    both = configurations("gru,lstm", "copy", [])
    assert both.count("model_name:") == 2
    assert not Path("results").exists()


def test_options_reach_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--target", "0", "--max-minutes", "2", "--orthogonal-lr", "1e-5", "--seed", "9"]
    code, out, _ = run(["lstm", "--task", "copy", "--show-config", *options], capsys)
    assert code == 0
    for line in ("target: 0.0", "max_minutes: 2.0", "orthogonal_lr: 1.0e-05", "seed: 9"):
        assert line in out


MISTAKES = [
    (["spectral-rnn", "model.m1=200", "model.m2=4"], "m1"),
    (["spectral-rnn", "model.radius=-1"], "radius"),
    (["spectral-rnn", "task.length=1"], "length is 1: give a whole number from 2 up"),
    (["spectral-rn"], "did you mean 'spectral_rnn'"),
    (["lstm", "--task", "adition"], "did you mean 'addition'"),
    (["lstm", "--task", "smnist", "task.dataset=cifar"], "no data set is called 'cifar'"),
    (["lstm", "--task", "smnist", "task.data_dir=nowhere"], "nowhere"),
    (["lstm", "model.m1=3"], "there is no key 'model.m1'"),
    (["lstm", "trainer.target=-1"], "trainer.target is -1.0: it must be 0 or more"),
    (["lstm", "--lr", "-1"], "optimizer.lr is -1.0: it must be above 0"),
    (["lstm", "--steps", "0"], "trainer.steps is 0: it must be 1 or more"),
    (["lstm", "--hidden", "0"], "hidden_size is 0"),
    (["lstm", "optimizer.betas=[0.9]"], "optimizer.betas"),
    (["lstm", "optimizer.alpha=0.9"], "there is no key 'optimizer.alpha'"),
    (["lstm", "optimizer=sgd"], "sgd"),
    (["lstm", "optimizer=rmsprop", "optimizer.alpha=1"], "optimizer.alpha is 1.0"),
    (["lstm", "trainer.device=tpu"], "choose cpu, cuda or cuda:N"),
    (["lstm", "model=gru"], "svdbench train lstm --task copy"),
    (["lstm", "nonsense"], "is not KEY=VALUE"),
    (["model.m1=3"], "the first argument is MODEL"),
    (["lstm", "--resume", "nowhere.pt", "--name", "x"], "can't read nowhere.pt"),
    (["lstm", "--resume", "x.pt", "--seeds", "2"], "leave --seeds out"),
    (["gru,spectral-rnn", "--hidden", "0"], "hidden_size is 0"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert code == 2
    assert says in err
    assert err.startswith("svdbench: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("results").exists()


def test_a_preset_that_does_not_fit_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "preset" / "addition"
    folder.mkdir(parents=True)
    (folder / "lstm.yaml").write_text("optimizer.lrr: 1\n")
    monkeypatch.setattr("svdbench.training.presets.files", lambda package: tmp_path)
    code, _, err = run(["lstm"], capsys)
    assert code == 2
    assert "conf/preset/addition/lstm.yaml: there is no key 'optimizer.lrr'" in err


# ------------------------------------------------------------------ what is shown


def test_numbers_as_people_read_them() -> None:
    assert [share(value) for value in (0.0097, 0.43123, 1, 68.1)] == [
        *("0.97 %", "43.1 %", "100 %", "6810 %")
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
