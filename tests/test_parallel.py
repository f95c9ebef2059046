"""Several processes that train one model: the same gradients, parameters and rows as one."""

import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from command import assert_mistake, losses, run, table
from torch import multiprocessing as mp

from svdbench.errors import Interrupted
from svdbench.jobs.train import processes as train_processes
from svdbench.members import MODELS, TASKS
from svdbench.tasks.base import Batch, Task
from svdbench.training import checkpoint
from svdbench.training.config import Adam, Schedule
from svdbench.training.evaluation import evaluate
from svdbench.training.learner import Learner
from svdbench.training.parallel import Broken, Ranks, digest, join_group

pytestmark = pytest.mark.usefixtures("elsewhere")

OPTIONS = {
    "addition": {"length": 8, "test_size": 7},
    "copy": {"lag": 2, "test_size": 7},
    "pmnist": {"dataset": "digits", "pool": 4},
}


def task_of(name: str) -> Task:
    """A small task in float64, where rounding is far below what could go wrong."""
    task = TASKS.load(name, **OPTIONS[name])
    batch = task.batch

    def doubled(batch_size: int, generator: torch.Generator) -> Batch:
        x, y = batch(batch_size, generator)
        return x.double(), y.double() if y.is_floating_point() else y

    task.batch = doubled  # type: ignore[method-assign]
    return task


def learner_of(
    model: str, task: str, ranks: Sequence[int] = (0, 1), batch_size: int = 5, **options: Any
) -> Learner:
    """A learner that is the ``ranks[0]``-th of ``ranks[1]`` processes."""
    torch.manual_seed(0)
    given = task_of(task)
    sizes = given.input_size, given.output_size
    return Learner(
        MODELS.load(
            model, input_size=sizes[0], output_size=sizes[1], hidden_size=6, **options
        ).double(),
        given,
        Adam(lr=1e-2, clip=0.5, weight_decay=1e-3, schedule=Schedule.cosine),
        steps=8,
        batch_size=batch_size,
        generator=torch.Generator().manual_seed(1),
        ranks=Ranks(*ranks),
    )


# ------------------------------------------------------------------ parts and their sum


@pytest.mark.parametrize("task", OPTIONS)
@pytest.mark.parametrize(("size", "batch_size"), [(2, 5), (3, 4), (4, 3)])
def test_the_parts_add_up_to_the_gradient_of_the_whole(
    task: str, size: int, batch_size: int
) -> None:
    """Parts of unequal size, and where there are more processes than sequences, none."""
    whole = learner_of("spectral_rnn", task, batch_size=batch_size)
    batch = whole.task.batch(batch_size, whole.generator)
    loss = whole._backward(batch).item()
    expected = [parameter.grad for parameter in whole.parameters]

    losses, total = 0.0, [torch.zeros_like(parameter) for parameter in whole.parameters]
    sequences = 0
    for rank in range(size):
        one = learner_of("spectral_rnn", task, (rank, size), batch_size)
        sequences += one.ranks.part(one.task, batch)[0].shape[1]
        losses += one._backward(batch).item()
        for sum_, parameter in zip(total, one.parameters, strict=True):
            sum_ += 0 if parameter.grad is None else parameter.grad
    assert sequences == batch_size
    assert losses == pytest.approx(loss, rel=1e-12)
    for sum_, gradient in zip(total, expected, strict=True):
        assert gradient is not None
        torch.testing.assert_close(sum_, gradient, rtol=1e-10, atol=1e-12)


def test_a_digest_tells_one_bit_and_one_number() -> None:
    learner = learner_of("factorized_rnn", "addition", rms=True)
    learner.learn()
    state = learner.state_dict()
    before = digest(state)
    assert digest(learner.state_dict()) == before
    weight = learner.model.readout.weight
    with torch.no_grad():
        weight[0, 0] = torch.nextafter(weight[0, 0], weight[0, 0] + 1)
    assert digest(learner.state_dict()) != before
    assert digest({"step": 1}) != digest({"step": 2})


# ------------------------------------------------------------------ processes


def together(size: int, work: Any, *arguments: Any) -> None:
    """Run ``work(ranks, *arguments)`` in so many processes; what one raises, is raised."""
    mp.spawn(_meet, (size, str(Path("store").resolve()), work, arguments), size)


def _meet(rank: int, size: int, store: str, work: Any, arguments: Any) -> None:
    torch.set_num_threads(1)
    join_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    work(Ranks(rank, size), *arguments)
    dist.destroy_process_group()
    assert_nothing_is_left()


def assert_nothing_is_left() -> None:
    """No thread of a process group, which might abort the process as the interpreter ends.

    The system may show one that has ended for a moment longer.
    """
    for _ in range(600):
        if not any("gloo" in name for name in thread_names()):
            return
        time.sleep(0.1)
    raise AssertionError(list(thread_names()))


def thread_names() -> Iterator[str]:
    """Of this process, as the system knows them."""
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            yield path.read_text().strip()


def _train_all(ranks: Ranks, models: list[str], batch_size: int) -> None:
    """Every model: the steps of one process, and the same bits in all of them."""
    for name in models:
        task = "copy" if name in ("exprnn", "lstm") else "addition"
        options = {"dynamic": True, "rebase_every": 2} if name == "exprnn" else {}
        one = learner_of(name, task, batch_size=batch_size, **options)
        part = learner_of(name, task, (ranks.rank, ranks.size), batch_size, **options)
        for _ in range(5):
            assert part.learn() == pytest.approx(one.learn(), rel=1e-9)
            part.check_same()
        for own, other in zip(part.parameters, one.parameters, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-9)


def _end_of_an_epoch(ranks: Ranks) -> None:
    """Its last minibatch has fewer sequences than there are processes."""
    one = learner_of("gru", "pmnist")
    most = one.task.epoch_size or 0
    one, part = (learner_of("gru", "pmnist", (r, s), most - 1) for r, s in _views(ranks))
    for _ in range(3):
        assert part.learn() == pytest.approx(one.learn(), rel=1e-9)


def _views(ranks: Ranks) -> list[tuple[int, int]]:
    return [(0, 1), (ranks.rank, ranks.size)]


def _scores(ranks: Ranks) -> None:
    """Of a set that all have a share of; and of one with fewer sequences than processes."""
    for name in OPTIONS:
        learner = learner_of("gru", name)
        x, y = learner.task.batch(7, learner.generator)
        for count in (7, 1):
            few = x[:, :count], y[:count] if learner.task.at_end else y[:, :count]
            one, own = (
                evaluate(learner.model, learner.task, few, learner.device, Ranks(*view))
                for view in _views(ranks)
            )
            assert own.loss == pytest.approx(one.loss, rel=1e-12)
            assert own.accuracy == pytest.approx(one.accuracy)


def _agree(ranks: Ranks) -> None:
    last = ranks.rank == ranks.size - 1
    assert ranks.any(last)
    assert not ranks.any(False)
    assert ranks.broadcast(ranks.rank) == 0
    assert ranks.add({"a": ranks.rank}) == {"a": sum(range(ranks.size))}
    learner = learner_of("lstm", "addition", (ranks.rank, ranks.size))
    if last:  # ^C in one is ^C in all, at the same step
        learner.ranks.interrupt()
    with pytest.raises(KeyboardInterrupt):
        learner.learn()
    assert learner.step == 1
    if last:
        next(iter(learner.optimizer.state.values()))["exp_avg"].view(-1)[0] += 1e-9
    with pytest.raises(Broken, match=rf"step 1 process {ranks.size - 1} no longer has"):
        learner.check_same()


def _few(ranks: Ranks) -> None:
    _train_all(ranks, ["spectral_rnn", "factorized_rnn", "exprnn"], 5)
    _agree(ranks)


def _everything(ranks: Ranks) -> None:
    _train_all(ranks, MODELS.names(), 5)
    _end_of_an_epoch(ranks)
    _scores(ranks)
    _agree(ranks)


def test_two_processes_learn_what_one_does() -> None:
    together(2, _few)


@pytest.mark.slow
def test_three_processes_learn_what_one_does_with_every_model() -> None:
    together(3, _everything)


# ------------------------------------------------------------------ the command

TINY = [
    *("train", "spectral-rnn", "--hidden", "8", "--batch", "5", "--steps", "6", "--name"),
    *("run", "trainer.evaluate_every=2", "task.length=10", "task.test_size=21"),
    *("optimizer.schedule=constant", "trainer.target=0"),
]
TWO = ["--processes", "2"]
FOLDER = Path("results/train/run")
LAST = FOLDER / "seed-0" / "last.pt"
GO_ON = f"finished parts are kept: resume with svdbench train --resume {FOLDER}"


def called(name: str, *more: str) -> list[str]:
    return [name if word == "run" else word for word in TINY] + list(more)


def orderly(*arguments: Any) -> Any:
    """What each process does, and leaves nothing that could abort it."""
    result = train_processes.work(*arguments)
    assert_nothing_is_left()
    return result


def test_rows_of_two_processes_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_processes, "work", orderly)
    assert run(called("one", "--seeds", "2")).code == 0
    assert run(called("two", "--seeds", "2", *TWO)).code == 0
    assert losses("two") == pytest.approx(losses("one"), rel=1e-4)
    one, two = (table(f"results/train/{name}/summary.csv") for name in ("one", "two"))
    assert [row["processes"] for row in (*one, *two)] == ["1", "1", "2", "2"]
    assert [row["seed"] for row in two] == ["0", "1"]
    assert {row["status"] for row in two} == {"ok"}
    for first, second in zip(one, two, strict=True):
        assert first["cell"] != second["cell"]
        assert float(first["test_loss"]) == pytest.approx(float(second["test_loss"]), rel=1e-4)
        for column in ("n_params", "baseline_loss", "test_step", "sigma_max", "test_accuracy"):
            assert float(first[column]) == pytest.approx(float(second[column]), rel=1e-4)


@pytest.mark.slow
def test_goes_on_in_any_number_of_processes() -> None:
    """In the same number bit by bit, elsewhere but for rounding."""
    assert run(called("whole", *TWO)).code == 0
    assert run(called("part", *TWO, "--steps", "4")).code == 0
    last = "results/train/part/seed-0/last.pt"
    for name, more in (("same", TWO), ("fewer", []), ("more", ["--processes", "3"])):
        assert run(called(name, *more, "--resume", last)).code == 0
    assert losses("same") == losses("whole")[2:]
    for name in ("fewer", "more"):
        assert losses(name) == pytest.approx(losses("whole")[2:], rel=1e-4)


def test_mistakes_are_told_before_any_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdbench.jobs.train.processes.elastic_launch", None)
    for more, says in (
        (["--processes", "0"], "--processes is 0: it must be 1 or more"),
        (["--processes", "6"], "trainer.processes is 6, but a batch has only 5 sequences"),
        ([*TWO, "trainer.device=cuda:1"], "use trainer.device=cuda"),
        ([*TWO, "task.length=1"], "length is 1: give a whole number of at least 2"),
        ([*TWO, "--resume", "nowhere.pt"], "can't read nowhere.pt"),
    ):
        assert_mistake(run(called("run", *more)), says)
    with monkeypatch.context() as here:
        here.setattr(torch.cuda, "is_available", lambda: True)
        here.setattr(torch.cuda, "device_count", lambda: 1)
        answer = run(called("run", *TWO, "trainer.device=cuda"))
    assert_mistake(answer, "trainer.processes is 2, one per GPU, but torch sees only 1 here")
    assert_mistake(run(["gradients", "lstm", "trainer.processes=2"]), "leave it out")


# ------------------------------------------------------------------ when one of them dies


def _once(rank: int, ending: Callable[[Learner], Any], arguments: Any) -> Any:
    """What each process does; but at the fourth step something happens in one of them."""
    learn = Learner.learn

    def changed(self: Learner) -> tuple[float, float]:
        if (self.ranks.rank, self.step) == (rank, 3):
            ending(self)
        return learn(self)

    Learner.learn = changed  # type: ignore[method-assign]
    return train_processes.work(*arguments)


def killed(*arguments: Any) -> Any:
    return _once(1, lambda learner: os.kill(os.getpid(), signal.SIGKILL), arguments)


def failing(*arguments: Any) -> Any:
    def fail(learner: Learner) -> None:
        raise MemoryError("no room\nfor more")

    return _once(1, fail, arguments)


def diverging(*arguments: Any) -> Any:
    def spoil(learner: Learner) -> None:
        learner.parameters[0].register_hook(lambda gradient: gradient * math.nan)

    return _once(1, spoil, arguments)


def apart(*arguments: Any) -> Any:
    @torch.no_grad()
    def nudge(learner: Learner) -> None:
        learner.parameters[0].view(-1)[0] += 1e-3

    return _once(1, nudge, arguments)


def unwritable(*arguments: Any) -> Any:
    def block(learner: Learner) -> None:
        shutil.rmtree(LAST.parent)
        LAST.parent.touch()

    return _once(0, block, arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "code", "says"),
    [
        (killed, 1, "process 1 was killed (SIGKILL), as the system does when memory runs out"),
        (failing, 1, "process 1 failed: MemoryError: no room"),
        (apart, 1, "at step 4 process 1 no longer has the parameters of process 0"),
        (unwritable, 2, f"can't write {LAST.parent}"),
    ],
)
def test_one_that_dies_ends_the_run_with_one_line(
    work: Any, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as here:
        here.setattr(train_processes, "work", work)
        found, _, err = run(called("run", *TWO))
    assert found == code
    assert err.startswith(f"svdbench: {says}")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert signal.getsignal(signal.SIGINT) is before
    assert not multiprocessing.active_children()
    if work is killed:
        assert err.endswith(f"{GO_ON}\n")
        assert checkpoint.load(LAST)["learner"]["step"] == 2
        assert run(["train", "--resume", str(FOLDER)]).code == 0
        assert run(called("whole", *TWO)).code == 0
        assert losses("run") == losses("whole")  # bit by bit


@pytest.mark.slow
def test_a_nan_in_one_is_the_end_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_processes, "work", diverging)
    assert run(called("run", *TWO, "--seeds", "2")).code == 1
    summary = table(FOLDER / "summary.csv")
    assert [(row["status"], row["step"]) for row in summary] == [("nan", "4")] * 2


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["all", "one", "launcher"])
def test_an_interrupt_stops_all_after_the_same_step(whom: str) -> None:
    """^C in a terminal reaches all; where the launcher is killed, the others end by themselves."""
    arguments = called("run", *TWO, "--steps", "1000000", "trainer.evaluate_every=5")
    started = subprocess.Popen(
        [sys.executable, "-m", "svdbench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    assert any(line.startswith("step      10") for line in started.stdout)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    workers = [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    if whom == "all":
        os.killpg(started.pid, signal.SIGINT)
    elif whom == "one":
        os.kill(int(workers[1]), signal.SIGINT)
    else:
        started.kill()
    _, err = started.communicate(timeout=300)  # until the last of them has closed its end
    if whom != "launcher":
        assert started.returncode == Interrupted.exit_code
        assert err == f"svdbench: interrupted; {GO_ON}\n"
    (row,) = table(FOLDER / "summary.csv")
    assert row["status"] == "interrupted"
    assert checkpoint.load(LAST)["learner"]["step"] % 5 == 0
