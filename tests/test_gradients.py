"""The norm of ∂L/∂h_t: whether it is that, and the command that follows it over training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import assert_mistake, run, table
from torch import Tensor

from svdbench.jobs.gradients.report import limits, median_norms
from svdbench.members import MODELS, TASKS
from svdbench.record.reader import RecordedRun
from svdbench.tasks.base import Batch, Task
from svdbench.training.evaluation import state_gradient_norms

F64 = torch.float64
Step = Callable[[Tensor, Tensor], Tensor]


def adding() -> tuple[Task, Batch]:
    task = TASKS.load("addition", length=6, test_size=5)
    x, y = task.test_set()
    return task, (x.double(), y.double())


def plain_step(name: str) -> tuple[torch.nn.Module, Step]:
    """A small model, and its h_t of x_t and h_{t−1} by the plain formula."""
    model = MODELS.load(name, input_size=2, output_size=1, hidden_size=8).double()
    cells = [torch.zeros(5, 8, dtype=F64)]

    def elman(x: Tensor, h: Tensor) -> Tensor:
        u = x @ model.input.weight.T + model.bias
        return (u + h @ model.recurrent_weight().T).tanh()

    def lstm(x: Tensor, h: Tensor) -> Tensor:
        rnn = model.rnn
        gates = x @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + h @ rnn.weight_hh_l0.T
        i, f, g, o = gates.chunk(4, -1)
        cells.append(f.sigmoid() * cells[-1] + i.sigmoid() * g.tanh())
        return o.sigmoid() * cells[-1].tanh()

    return model, lstm if name == "lstm" else elman


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_is_what_a_change_of_the_state_does_to_the_loss(name: str) -> None:
    """ε_t, zero, added to h_t: its gradient is ∂L/∂h_t by way of all later states."""
    task, (x, y) = adding()
    model, step = plain_step(name)
    epsilon = torch.zeros(6, 5, 8, dtype=F64, requires_grad=True)
    h = torch.zeros(5, 8, dtype=F64)
    for x_t, epsilon_t in zip(x, epsilon, strict=True):
        h = step(x_t, h) + epsilon_t
    (whole,) = torch.autograd.grad(task.loss(model.readout(h), y), epsilon)
    # Of the loss of each sequence alone, of which the loss is the mean of five.
    each = 5 * whole.norm(dim=-1)
    found = state_gradient_norms(model, task, (x, y))
    torch.testing.assert_close(found, each.square().mean(1).sqrt())


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_has_them(name: str) -> None:
    """Of all states, whatever the number of sequences; the last one's by hand."""
    task, (x, y) = adding()
    model = MODELS.load(name, input_size=2, output_size=1, hidden_size=8).double()
    found = state_gradient_norms(model, task, (x, y))
    assert found.shape == (6,)
    assert found.isfinite().all()
    twice = state_gradient_norms(model, task, (x.repeat(1, 3, 1), y.repeat(3, 1)))
    torch.testing.assert_close(twice, found)
    h = model.states(x)[-1].detach()
    slope = 2 * (model.readout(h) - y) @ model.readout.weight
    torch.testing.assert_close(found[-1], slope.norm(dim=-1).square().mean().sqrt().detach())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tasks_that_answer_at_every_step() -> None:
    """The last state matters to its own output only, the first to all."""
    task = TASKS.load("copy", lag=3, test_size=4)
    model = MODELS.load(
        "rnn", input_size=task.input_size, output_size=task.output_size, hidden_size=8
    )
    found = state_gradient_norms(model, task, task.test_set())
    assert found.shape == (task.length,)
    assert (found > 0).all()


# ------------------------------------------------------------------ the command

KEYS = ["task.length=6", "task.test_size=8", "model.hidden_size=8", "trainer.batch_size=4"]
TINY = ["--steps", "4", "--evaluate-every", "2", "--name", "one", "sequences=5", *KEYS]
FOLDER = Path("results/gradients/one")


@pytest.mark.usefixtures("elsewhere")
class TestCommand:
    def test_writes_what_it_promises(self) -> None:
        code, out, _ = run(["gradients", "lstm,rnn", *TINY, "--seed", "3", "trainer.seeds=2"])
        assert code == 0
        written = {
            "config.yaml",
            "env.json",
            "progress.jsonl",
            "gradients.csv",
            "samples.csv",
            "summary.csv",
        }
        assert {path.name for path in FOLDER.iterdir()} == written | {"heat_map.png", "norms.png"}
        rows = table(FOLDER / "gradients.csv")
        looks = {(row["model"], row["seed"], row["step"], row["t"]) for row in rows}
        assert looks == {
            (model, seed, step, str(t))
            for model in ("lstm", "rnn")
            for seed in ("3", "4")
            for step in ("0", "2", "4")
            for t in range(1, 7)
        }
        assert len(rows) == len(looks)
        assert all(float(row["norm"]) > 0 and row["sequences"] == "5" for row in rows)
        assert {row["model"] for row in table(FOLDER / "samples.csv")} == {"lstm", "rnn"}
        assert len(table(FOLDER / "summary.csv")) == 4
        norms = median_norms(RecordedRun(FOLDER).frame("gradients"))
        assert list(norms) == ["lstm", "rnn"]
        assert norms["rnn"].shape == (3, 6)
        assert "Adding, length 6: ‖∂L/∂h_1‖ / ‖∂L/∂h_T‖" in out
        assert "an LSTM also passes gradients through its cell state" in out

    def test_trains_as_train_does(self) -> None:
        """The looks change nothing: the losses are those of ``svdbench train``."""
        assert run(["gradients", "rnn", *TINY]).code == 0
        keys = ["trainer.steps=4", "trainer.evaluate_every=2", "trainer.target=0", *KEYS]
        assert run(["train", "rnn", "--name", "two", *keys]).code == 0
        ours, theirs = (
            [(row["step"], row["loss"]) for row in table(folder / "samples.csv")]
            for folder in (FOLDER, Path("results/train/two"))
        )
        assert ours == theirs

    def test_an_interruption_keeps_the_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from svdbench.jobs.gradients import run as gradients

        right, calls = gradients.state_gradient_norms, iter(range(9))

        def interrupted(*arguments: object) -> Tensor:
            if next(calls) == 2:
                raise KeyboardInterrupt
            return right(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(gradients, "state_gradient_norms", interrupted)
        code, _, err = run(["gradients", "rnn,lstm", *TINY])
        assert code == 130
        assert "kept" in err
        assert {(row["model"], row["step"]) for row in table(FOLDER / "gradients.csv")} == {
            ("rnn", "0"),
            ("rnn", "2"),
        }
        assert (FOLDER / "heat_map.png").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["spektral-rnn", *TINY], "did you mean 'spectral_rnn'?"),
            (["rnn", *TINY, "--task", "addin"], "no task is called 'addin'"),
            (["rnn", *TINY, "sequences=0"], "sequences is 0"),
            (
                ["rnn", *TINY, "--evaluate-every", "0"],
                "--evaluate-every is 0: it must be",
            ),
            (["rnn", *TINY, "task.length=1"], "length is 1"),
        ],
    )
    def test_mistakes_are_one_line(self, arguments: list[str], message: str) -> None:
        assert_mistake(run(["gradients", *arguments]), message)

    def test_shows_a_configuration_for_each_model(self) -> None:
        shown = ["gradients", "spectral-rnn,lstm", *TINY, "--show-config"]
        code, _, err = run([*shown, "model.m1=4"])  # an LSTM has no reflectors
        assert code == 2
        assert "model.m1" in err
        code, out, _ = run(shown)
        assert code == 0
        assert out.count("model_name: ") == 2
        assert "steps: 4 " in out
        assert "sequences: 5" in out


def test_limits_leave_out_what_has_vanished() -> None:
    import pandas as pd

    tables = {"a": pd.DataFrame([[1e-30, 1e-3], [0.0, 10.0]]), "b": pd.DataFrame([[5.0, 2.0]])}
    low, high = limits(tables)
    assert (low, high) == pytest.approx((11e-8, 11.0))
    assert limits({"a": pd.DataFrame([[0.0]])}) == (1e-3, 1.0)
