"""Training on a clock of our own: the loop, the learner, evaluation and checkpoints."""

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_clock import FakeClock
from torch import Tensor

from svdbench.errors import UserError
from svdbench.measure.clock import WallClock
from svdbench.members import MODELS, TASKS
from svdbench.models.base import SequenceModel
from svdbench.models.gated import GRU
from svdbench.tasks.memory import Addition
from svdbench.training import checkpoint
from svdbench.training.config import Adam, RMSprop, Schedule
from svdbench.training.evaluation import PART, evaluate, spectrum
from svdbench.training.learner import Diverged, Learner, rate_factor
from svdbench.training.loop import Loop
from svdbench.training.parallel import digest
from svdbench.training.progress import Evaluation, Limits, StepProgress, TrainingOutcome

pytestmark = pytest.mark.usefixtures("elsewhere")

# ------------------------------------------------------------------ a task and a model


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
    model = model or GRU(input_size=2, hidden_size=4, output_size=1)
    config = options.pop("config", Adam())
    known = {"steps": 20, "batch_size": 3, "generator": torch.Generator().manual_seed(1)}
    return Learner(model, task, config, **{**known, **options})


def loop_of(
    losses: list[float] | None = None, steps: int = 20, every: int = 5, **options: Any
) -> tuple[Loop, list[Evaluation], FakeClock]:
    """A loop with a list of its evaluations."""
    clock = FakeClock()
    hooks = {name: options.pop(name) for name in ("on_step",) if name in options}
    seen: list[Evaluation] = []
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
    def press(tick: StepProgress) -> None:
        if tick.step == 7:
            raise KeyboardInterrupt

    loop, seen, _ = loop_of(on_step=press)
    outcome = loop.run()
    assert outcome.status == "interrupted"
    assert outcome.last is seen[-1]
    assert seen[-1].step == 5
    assert outcome.elapsed_s == 7


def test_what_is_raised_is_a_reason_and_mistakes_are_not() -> None:
    def fail(error: Exception) -> TrainingOutcome:
        def hook(tick: StepProgress) -> None:
            raise error

        return loop_of(on_step=hook)[0].run()

    outcome = fail(RuntimeError("odd"))
    assert (outcome.status, outcome.reason) == ("failed", "RuntimeError: odd")
    assert fail(MemoryError()).status == "oom"
    with pytest.raises(UserError, match="full disk"):
        fail(UserError("full disk"))


def test_time_left_is_by_the_limit_that_comes_first() -> None:
    ticks: list[StepProgress] = []
    loop_of(on_step=ticks.append, steps=10)[0].run()
    assert (ticks[0].left_s, ticks[0].by_clock) == (9 * 9, False)  # 8 s of evaluation and 1 s
    assert ticks[-1].left_s == 0
    ticks.clear()
    loop_of(on_step=ticks.append, max_s=29)[0].run()
    assert (ticks[0].left_s, ticks[0].by_clock) == (20, True)


# ------------------------------------------------------------------ the learner


def test_two_learning_rates_and_no_decay_of_reflectors() -> None:
    model = MODELS.load("spectral_rnn", input_size=2, output_size=1, hidden_size=8)
    config = RMSprop(lr=0.1, orthogonal_lr=0.01, weight_decay=0.5)
    learner = learner_of(Addition(6, 4), model, config=config)
    groups = {len(group["params"]): group for group in learner.optimizer.param_groups}
    orthogonal = groups[len(model.orthogonal_parameters())]
    assert (orthogonal["lr"], orthogonal["weight_decay"]) == (0.01, 0)
    others = next(g for g in learner.optimizer.param_groups if g is not orthogonal)
    assert (others["lr"], others["weight_decay"]) == (0.1, 0.5)


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_learns_and_goes_on_from_its_state(name: str) -> None:
    """Also the proof that a checkpoint misses nothing: the same losses, bit by bit."""
    task = Addition(8, 16)
    options = {"config": Adam(clip=1.0, schedule=Schedule.cosine)}
    learner = learner_of(
        task, MODELS.load(name, input_size=2, output_size=1, hidden_size=8), **options
    )
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

    other = learner_of(
        task, MODELS.load(name, input_size=2, output_size=1, hidden_size=8), **options
    )
    other.load_state_dict(checkpoint.load(path)["learner"])
    assert other.step == 3
    assert [other.learn() for _ in range(3)] == expected


def test_an_epoch_goes_on_where_it_was() -> None:
    def make() -> Learner:
        task = TASKS.load("smnist", dataset="digits", pool=4)
        torch.manual_seed(0)
        model = GRU(input_size=1, hidden_size=4, output_size=10)
        generator = torch.Generator().manual_seed(1)
        options = {"steps": 9, "batch_size": 400, "generator": generator}
        return Learner(model, task, Adam(), **options)

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
    for schedule in (Schedule.linear, Schedule.cosine):
        values = [rate_factor(schedule, step, 10) for step in range(11)]
        assert values[0] == 1
        assert values[5] == pytest.approx(0.5)
        assert values[10] == pytest.approx(0)
        assert values == sorted(values, reverse=True)
    assert rate_factor(Schedule.constant, 10, 10) == 1


# ------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("at_end", [True, False])
def test_a_set_in_parts_has_the_scores_of_the_whole(
    at_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS.load("addition", length=6) if at_end else TASKS.load("copy", lag=3)
    model = GRU(input_size=task.input_size, hidden_size=8, output_size=task.output_size)
    whole = evaluate(model, task, task.test_set(), torch.device("cpu"))
    assert task.test_set()[0].shape[0] * 8 * 1000 < PART
    monkeypatch.setattr("svdbench.training.evaluation.PART", 8 * task.length * 13)
    parts = evaluate(model, task, task.test_set(), torch.device("cpu"))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == pytest.approx(whole.accuracy)
    assert model.training


def test_spectrum_of_what_the_model_knows_or_of_its_weight() -> None:
    found = spectrum(MODELS.load("spectral_rnn", input_size=2, output_size=1, hidden_size=8))
    assert found.sigma_min == pytest.approx(1)
    plain = MODELS.load("rnn", input_size=2, output_size=1, hidden_size=8)
    weight = plain.recurrent_weight()
    assert weight is not None
    assert spectrum(plain).sigma_max == pytest.approx(torch.linalg.svdvals(weight).max().item())
    assert (
        spectrum(MODELS.load("lstm", input_size=2, output_size=1, hidden_size=8)).sigma_max is None
    )


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


def damaged(state: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A deep copy with another value, or without one, somewhere inside."""
    whole = deepcopy(state)
    *above, last = (int(key) if key.isdecimal() else key for key in path.split("/"))
    inner: Any = whole
    for key in above:
        inner = inner[key]
    if value is LEFT_OUT:
        del inner[last]
    else:
        inner[last] = value
    return whole


LEFT_OUT = object()
NAN, INF = math.nan, math.inf
DAMAGES = [
    *(("learner/step", value) for value in (NAN, -1, 1.0, True, 10**400, None, "3", [])),
    ("learner", []),
    ("learner/step", LEFT_OUT),
    ("learner/more", 1),
    ("learner/model", None),
    ("learner/model/readout.weight", LEFT_OUT),
    ("learner/model/readout.weight", torch.ones(2, 2)),
    ("learner/model/readout.weight", torch.full((1, 4), NAN)),
    ("learner/model/readout.weight", torch.ones(1, 4, dtype=torch.int8)),
    ("learner/model/readout.weight", torch.ones(1, 4).to_sparse()),
    ("learner/model/readout.weight", 3),
    ("learner/optimizer", {}),
    ("learner/optimizer/param_groups", []),
    ("learner/optimizer/param_groups/0/params", [0]),
    ("learner/optimizer/param_groups/0/params", LEFT_OUT),
    ("learner/optimizer/param_groups/0/eps", NAN),
    ("learner/optimizer/param_groups/0/eps", "x"),
    ("learner/optimizer/param_groups/0/betas", (0.9,)),
    ("learner/optimizer/param_groups/0/betas", 3),
    ("learner/optimizer/param_groups/0/capturable", True),
    ("learner/optimizer/state", []),
    ("learner/optimizer/state", {}),
    ("learner/optimizer/state/99", {}),
    ("learner/optimizer/state/0", {}),
    ("learner/optimizer/state/0/step", torch.tensor(NAN)),
    ("learner/optimizer/state/0/step", torch.tensor(-1.0)),
    ("learner/optimizer/state/0/step", "x"),
    ("learner/optimizer/state/0/exp_avg", torch.ones(1)),
    ("learner/optimizer/state/0/exp_avg", LEFT_OUT),
    ("learner/task", {"order": None, "position": 0}),
    ("learner/task", []),
    ("learner/generator", torch.zeros(5000)),
    ("learner/generator", torch.zeros(3, dtype=torch.uint8)),
    ("learner/generator", None),
    ("learner/rng", torch.zeros(0)),
    ("learner/rng", LEFT_OUT),
    ("last", [1]),
    ("last/step", NAN),
    ("last/split", "train"),
    ("last/loss", "x"),
    ("last/elapsed_s", -1.0),
    ("last/more", 1),
    ("best/loss", NAN),
    ("best/loss", LEFT_OUT),
    ("best", LEFT_OUT),
    ("best_weights", {}),
    ("best_weights/readout.bias", torch.ones(7)),
    ("elapsed_s", NAN),
    ("elapsed_s", None),
    ("evaluation_s", "x"),
    ("evaluation_s", INF),
]


@pytest.fixture(scope="module")
def trained() -> tuple[Callable[[], Loop], dict[str, Any]]:
    def make() -> Loop:
        learner = learner_of(
            Addition(8, 16), MODELS.load("lstm", input_size=2, output_size=1, hidden_size=4)
        )
        return Loop(learner, Limits(steps=4, evaluate_every=2), WallClock())

    first = make()
    first.run()
    return make, first.state_dict()


@pytest.mark.parametrize(
    ("path", "value"), DAMAGES, ids=[f"{path}={str(value)[:20]}" for path, value in DAMAGES]
)
def test_a_checkpoint_is_whole_in_every_field(
    path: str, value: Any, trained: tuple[Callable[[], Loop], dict[str, Any]]
) -> None:
    make, state = trained
    loop = make()
    before = deepcopy(loop.state_dict())
    with pytest.raises(ValueError, match=path.split("/")[0] + "|Adding|epochs") as told:
        loop.load_state_dict(damaged(state, path, value))
    assert "\n" not in str(told.value)
    assert digest(loop.state_dict()) == digest(before)  # nothing was taken from it


def test_a_whole_checkpoint_fits(trained: tuple[Callable[[], Loop], dict[str, Any]]) -> None:
    make, state = trained
    loop = make()
    loop.load_state_dict(deepcopy(state))
    assert digest(loop.state_dict()) == digest(state)
    old = {key: value for key, value in state.items() if key != "last"}
    make().load_state_dict(old)  # as it once was
