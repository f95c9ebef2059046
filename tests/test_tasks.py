"""What every task in ``conf/task`` must do, and each of them by its definition."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor

from svdbench.members import TASKS
from svdbench.tasks.base import Task
from svdbench.tasks.images import PermutedImages, SequentialImages
from svdbench.tasks.words import Words, group_table

NAMES = TASKS.names()
# Without files, and small.
TINY: dict[str, dict[str, Any]] = {
    "addition": {"length": 9, "test_size": 7},
    "copy": {"lag": 3, "test_size": 7},
    "smnist": {"dataset": "digits", "pool": 2, "validation": 0.1},
    "pmnist": {"dataset": "digits", "pool": 2, "validation": 0.1},
    "pmnist_pooled": {"dataset": "digits", "validation": 0.1},
    "recall": {"pairs": 3, "length": 11, "symbols": 5, "test_size": 7},
    "words": {"group": "S3", "length": 8, "curriculum": False, "test_size": 7},
}


def load(name: str, **overrides: Any) -> Any:
    return TASKS.load(name, **{**TINY.get(name, {}), **overrides})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outputs_for(task: Task, batch_size: int) -> Tensor:
    steps = () if task.at_end else (task.length,)
    return torch.randn(*steps, batch_size, task.output_size, generator=seeded(5))


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_gives_what_it_says(name: str) -> None:
    task = load(name)
    assert task.name == name
    assert all((task.title, task.loss_unit, task.metric, task.source))
    assert 0 < task.chance < 1
    task.prepare()
    for x, y in (task.batch(5, seeded()), task.test_set(), task.validation_set()):
        assert x.shape == (task.length, x.shape[1], task.input_size)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert x.min() >= 0
        assert x.max() <= 1
        assert y.shape[0 if task.at_end else 1] == x.shape[1]
        outputs = outputs_for(task, x.shape[1]).requires_grad_()
        loss = task.loss(outputs, y)
        assert loss.shape == ()
        loss.backward()
        assert outputs.grad is not None
        assert outputs.grad.isfinite().all()
        assert 0 <= task.metrics(outputs, y)["accuracy"] <= 1
    assert task.batch(5, seeded())[0].shape[1] == 5


@pytest.mark.parametrize("name", NAMES)
def test_batches_follow_from_the_generator_alone(name: str) -> None:
    first, second = load(name), load(name)
    a, b = seeded(3), seeded(3)
    for _ in range(4):
        torch.rand(1)  # the global generator has no say
        assert same(first.batch(6, a), second.batch(6, b))
    assert not same(load(name).batch(6, seeded(4)), load(name).batch(6, seeded(3)))


@pytest.mark.parametrize("name", NAMES)
def test_training_resumes_exactly(name: str, tmp_path: Path) -> None:
    task, generator = load(name), seeded(1)
    size = 200  # the images of two epochs in 14 minibatches
    for _ in range(3):
        task.batch(size, generator)
    torch.save((task.state_dict(), generator.get_state()), tmp_path / "state.pt")
    expected = [task.batch(size, generator) for _ in range(9)]

    resumed, fresh = load(name), torch.Generator()
    state, random = torch.load(tmp_path / "state.pt")
    resumed.load_state_dict(state)
    fresh.set_state(random)
    assert all(same(batch, resumed.batch(size, fresh)) for batch in expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_fixed_sets_are_always_the_same(name: str) -> None:
    task, other = load(name), load(name)
    other.batch(3, seeded())
    assert same(task.test_set(), other.test_set())
    assert same(task.validation_set(), other.validation_set())
    assert task.test_set()[0] is task.test_set()[0]
    test, validation = (
        s[0].flatten(2).transpose(0, 1).flatten(1) for s in (task.test_set(), task.validation_set())
    )
    assert not (test[:, None] == validation[None, :50]).all(-1).any()


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up_to_the_whole(name: str) -> None:
    task = load(name)
    x, y = task.test_set()
    outputs = outputs_for(task, x.shape[1])
    parts, seen, loss, accuracy = list(task.split(x, y, 3)), 0, 0.0, 0.0
    for part, answers in parts:
        size = part.shape[1]
        own = outputs.narrow(0 if task.at_end else 1, seen, size)
        seen += size
        loss += size * task.loss(own, answers).item()
        accuracy += size * task.metrics(own, answers)["accuracy"]
    assert [part.shape[1] for part, _ in parts][:2] == [3, 3]
    assert seen == x.shape[1]
    assert loss / seen == pytest.approx(task.loss(outputs, y).item(), rel=1e-5)
    assert accuracy / seen == pytest.approx(task.metrics(outputs, y)["accuracy"], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_composes(name: str) -> None:
    with initialize_config_module("svdbench.conf", version_base="1.3"):
        config = compose(overrides=[f"+task={name}"])
    assert type(TASKS.load(name, **config.task)).name == name


def test_names() -> None:
    assert NAMES == ["addition", "copy", "pmnist", "pmnist_pooled", "recall", "smnist", "words"]
    with pytest.raises(ValueError, match="did you mean 'addition'"):
        TASKS.load("adition")
    with pytest.raises(ValueError, match="no option of copy is called 'length'"):
        TASKS.load("copy", length=3)


def test_copying_by_hand() -> None:
    task = load("copy", lag=4)
    x, y = task.batch(6, seeded())
    shown = x.argmax(-1)
    assert torch.equal(x.sum(-1), torch.ones(24, 6))
    assert (shown[:10] < 8).all()
    assert (shown[10:13] == 8).all()
    assert (shown[13] == 9).all()  # position T + 10 = 14, counted from 1
    assert (shown[14:] == 8).all()
    assert (y[:14] == 8).all()
    assert torch.equal(y[14:], shown[:10])
    perfect = 50 * torch.eye(9)[y]
    assert task.loss(perfect, y) < 1e-6
    assert task.metrics(perfect, y) == {"accuracy": 1.0}
    assert load("copy", lag=1).batch(2, seeded())[0][10].argmax(-1).tolist() == [9, 9]


@pytest.mark.parametrize(("lag", "baseline"), [(100, 0.1733), (300, 0.0650)])
def test_the_baseline_of_copying(lag: int, baseline: float) -> None:
    task = load("copy", lag=lag)
    assert task.baseline == pytest.approx(baseline, abs=5e-5)
    x, y = task.batch(50, seeded())
    # Blank until the delimiter, then any of eight alike.
    outputs = torch.full((*x.shape[:2], 9), -50.0)
    outputs[:-10, :, 8] = 0
    outputs[-10:, :, :8] = 0
    assert task.loss(outputs, y).item() == pytest.approx(task.baseline, rel=1e-5)
    symbols = y[-10:].flatten().bincount(minlength=8) / y[-10:].numel()
    assert symbols.shape == (8,)
    assert (symbols - 1 / 8).abs().max() < 0.06  # four standard deviations


@pytest.mark.parametrize(("name", "key"), [("addition", "length"), ("copy", "lag")])
def test_sequences_may_be_of_thousands_of_steps(name: str, key: str) -> None:
    task = load(name, **{key: 5000})
    x, y = task.batch(2, seeded())
    assert len(x) == task.length >= 5000
    outputs = outputs_for(task, 2)
    assert task.loss(outputs, y).isfinite()


@pytest.mark.parametrize("length", [2, 3, 10])
def test_adding_by_hand(length: int) -> None:
    task = load("addition", length=length)
    x, y = task.batch(400, seeded())
    values, markers = x.unbind(-1)
    half = length // 2
    assert set(markers.unique().tolist()) <= {0.0, 1.0}
    assert (markers[:half].sum(0) == 1).all()
    assert (markers[half:].sum(0) == 1).all()
    assert (markers.sum(1) > 0).all()  # every step has its turn
    assert torch.allclose((values * markers).sum(0).unsqueeze(1), y)
    assert y.shape == (400, 1)
    assert task.loss(y, y) == 0
    assert task.metrics(y + 0.03, y) == {"accuracy": 1.0}
    assert task.metrics(y + 0.05, y) == {"accuracy": 0.0}


def test_the_baseline_of_adding() -> None:
    task = load("addition", length=20)
    _, y = task.batch(20_000, seeded())
    one = torch.ones_like(y)
    # Four standard errors of the mean of (a + b − 1)², whose variance is 1/15 − 1/36.
    assert task.loss(one, y).item() == pytest.approx(1 / 6, abs=4 * 0.2 / math.sqrt(20_000))
    error = 4 * math.sqrt(task.chance / 20_000)
    assert task.metrics(one, y)["accuracy"] == pytest.approx(task.chance, abs=error)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("copy", {"lag": 0}, "lag is 0: give a whole number of at least 1"),
        ("copy", {"lag": 2.5}, "lag is 2.5"),
        ("addition", {"length": 1}, "length is 1: give a whole number of at least 2"),
        ("addition", {"test_size": 0}, "test_size is 0"),
        ("smnist", {"pool": 3}, "8×8 pixels: give a divisor of both"),
        ("smnist", {"pool": 0}, "pool is 0"),
        ("smnist", {"validation": 1.0}, "validation is 1.0: give a fraction"),
        ("pmnist", {"dataset": "minst"}, "did you mean 'mnist'"),
        ("words", {"group": "S6"}, "group is 'S6': choose parity, Z and an order"),
        ("words", {"group": "Z1"}, "group is 'Z1'"),
        ("words", {"letters": "some"}, "letters is 'some': choose from all, generators"),
        ("words", {"length": 1}, "length is 1"),
        ("recall", {"pairs": 6}, "pairs is 6, but there are only 5 keys"),
        ("recall", {"length": 8}, "length is 8, but 3 pairs and their queries take 9 steps"),
        ("recall", {"symbols": 1}, "symbols is 1"),
    ],
)
def test_mistakes_are_one_line(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


def test_recall_asks_for_every_key_once() -> None:
    task = load("recall", pairs=3, length=11, symbols=5)
    x, y = task.batch(300, seeded())
    shown = x.argmax(-1)
    assert torch.equal(x.sum(-1), torch.ones(11, 300))
    keys, values = shown[0:6:2], shown[1:6:2] - 5
    assert keys.sort(0).values.diff(dim=0).min() > 0  # all different
    assert values.min() == 0
    assert values.max() == 4
    asked = y != -1
    assert not asked[:6].any()
    assert (asked.sum(0) == 3).all()
    assert asked[6:].float().mean(1).sub(0.6).abs().max() < 0.12  # at any step alike
    assert (shown[6:][~asked[6:]] == 10).all()  # blanks
    for b in range(20):
        said = dict(zip(keys[:, b].tolist(), values[:, b].tolist(), strict=True))
        at = asked[:, b]
        assert {int(k): int(v) for k, v in zip(shown[at, b], y[at, b], strict=True)} == said
    right = torch.nn.functional.one_hot(y.clamp(min=0), 5).float()
    assert task.metrics(right, y) == {"accuracy": 1.0}
    assert task.loss(50 * right, y) < 1e-6
    assert task.loss(torch.zeros_like(right), y).item() == pytest.approx(task.baseline)


def test_pooled_pixels_are_those_of_pmnist() -> None:
    pooled, same_task = load("pmnist_pooled"), PermutedImages("digits", 2, 0.1)
    assert (pooled.length, pooled.title) == (16, same_task.title)
    assert same(pooled.test_set(), same_task.test_set())


def test_images_are_read_row_by_row() -> None:
    from sklearn.datasets import load_digits

    task = SequentialImages("digits")
    assert task.length == 64
    assert task.baseline == math.log(10)
    assert task.chance == 0.1
    x, _ = task.test_set()
    first = load_digits().images[load_digits().target == 0][4]  # the first to test with
    row = (torch.tensor(first / 16, dtype=torch.float32).flatten() == x[:, :, 0].T).all(1)
    assert row.sum() == 1


@pytest.mark.parametrize("pool", [1, 2])
def test_the_permutation_is_that_of_the_papers(pool: int) -> None:
    plain, permuted = SequentialImages("digits", pool), PermutedImages("digits", pool)
    order = np.random.RandomState(92916).permutation(64 // pool**2)
    draws = (lambda task: task.test_set()), (lambda task: task.batch(9, seeded()))
    for draw in draws:
        a, b = draw(plain), draw(permuted)
        assert torch.equal(a[0][order], b[0])
        assert torch.equal(a[1], b[1])
    mnist = PermutedImages().steps()  # needs no files
    assert mnist.sort().values.tolist() == list(range(784))
    assert mnist.tolist() == np.random.RandomState(92916).permutation(784).tolist()


def test_pooling_takes_means_of_squares() -> None:
    x = SequentialImages("digits").test_set()[0]
    pooled = SequentialImages("digits", pool=2).test_set()[0]
    squares = x.view(4, 2, 4, 2, -1).mean((1, 3)).flatten(0, 1)
    assert pooled.shape[0] == 16
    assert torch.allclose(pooled[:, :, 0], squares)
    assert "pooled 2×2" in SequentialImages("mnist", pool=2).title
    assert SequentialImages("mnist", pool=2).length == 196


def test_an_epoch_is_every_image_once() -> None:
    task, generator = SequentialImages("digits", validation=0.25), seeded()
    assert task.epoch_size == 1442 - 360  # round(360.5), to even
    epochs = []
    for _ in range(2):
        parts = [task.batch(100, generator)[0] for _ in range(11)]
        assert [part.shape[1] for part in parts] == [100] * 10 + [82]
        epochs.append(torch.cat(parts, 1)[:, :, 0].T)
    assert not torch.equal(epochs[0], epochs[1])
    rows = [epoch.unique(dim=0) for epoch in epochs]  # sorted
    assert len(rows[0]) == task.epoch_size
    assert torch.equal(rows[0], rows[1])
    held_out = task.validation_set()[0][:, :, 0].T
    assert len(torch.cat([rows[0], held_out]).unique(dim=0)) == 1442


def test_what_was_not_held_out_cannot_validate() -> None:
    with pytest.raises(ValueError, match="set validation to a fraction"):
        SequentialImages("digits").validation_set()


def test_a_state_of_another_task_is_refused() -> None:
    task, part = SequentialImages("digits"), SequentialImages("digits", validation=0.5)
    task.batch(4, seeded())
    for state in (task.state_dict(), {}):
        with pytest.raises(ValueError, match="the state is not of Sequential digits"):
            part.load_state_dict(state)
    with pytest.raises(ValueError, match="copy has no epochs"):
        load("copy").load_state_dict(task.state_dict())
    assert load("copy").epoch_size is None


def test_missing_files_show_when_prepared(tmp_path: Path) -> None:
    task = TASKS.load("smnist", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="or use dataset=digits, which needs no files"):
        task.prepare()


def test_mnist_itself() -> None:
    root = os.environ.get("SVDBENCH_DATA")
    if not root or not (Path(root) / "mnist").is_dir():
        pytest.skip("SVDBENCH_DATA is unset or has no mnist/")
    task = TASKS.load("pmnist", pool=2)
    assert task.epoch_size == 60_000
    x, y = task.test_set()
    assert x.shape == (196, 10_000, 1)
    assert y[:5].tolist() == [7, 2, 1, 0, 4]
    assert task.batch(128, seeded())[0].shape == (196, 128, 1)


GROUPS = [("parity", 2), ("Z7", 7), ("S3", 6), ("A4", 12), ("S4", 24), ("A5", 60), ("S5", 120)]


@pytest.mark.parametrize(("group", "order"), GROUPS)
def test_a_group_is_one_and_its_generators_generate_it(group: str, order: int) -> None:
    table, generators = group_table(group)
    every = torch.arange(order)
    assert torch.equal(table[0], every)
    assert torch.equal(table[:, 0], every)
    assert torch.equal(table.sort(0).values, every.unsqueeze(1).expand(-1, order))
    a, b, c = torch.randint(order, (3, 200), generator=seeded())
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    reached = torch.tensor([0])
    while len(more := table[list(generators)][:, reached].flatten().unique()) > len(reached):
        reached = torch.cat([reached, more]).unique()
    assert len(reached) == order


@pytest.mark.parametrize("letters", ["all", "generators"])
def test_words_are_products_of_their_letters(letters: str) -> None:
    task = load("words", group="S4", letters=letters)
    x, y = task.batch(30, seeded())
    drawn, product = task.alphabet[x.argmax(-1)], torch.zeros(30, dtype=torch.int64)
    for letter, answer in zip(drawn, y, strict=True):
        product = task.table[letter, product]
        assert torch.equal(product, answer)
    assert task.input_size == (24 if letters == "all" else 2)
    assert task.baseline == pytest.approx(math.log(24))
    right = torch.nn.functional.one_hot(y, 24).float()
    wrong = right.clone()
    wrong[:6] = 0  # all but the last quarter of eight
    assert task.metrics(wrong, y)["accuracy"] == 1
    assert task.metrics(right.roll(1, -1), y)["accuracy"] == 0


def test_words_grow_by_half_once_nine_of_ten_are_right() -> None:
    task = Words("S3", length=8, test_size=5)
    assert task.training_length == 2
    assert task.batch(10, seeded())[0].shape[:2] == (2, 40)
    assert task.test_set()[0].shape[:2] == (8, 5)
    _, y = task.batch(10, seeded())
    outputs = torch.nn.functional.one_hot(y, 6).float()
    outputs[0] = 0  # the last products alone count
    assert task.training_score(outputs, y) == 1
    lengths = []
    while task.training_length < 8:
        task.adapt(1.0)
        lengths.append(task.training_length)
    assert list(dict.fromkeys(lengths)) == [2, 3, 4, 6, 8]
    assert lengths.count(3) == 22  # 1 − 0.9²² > 0.9
    assert task.training_score(outputs, y) is None
    fresh = Words("S3", length=8)
    fresh.load_state_dict(task.state_dict())
    assert fresh.training_length == 8
    for state in ({}, {"length": 9, "running": 0.5}, {"length": 3, "running": math.nan}):
        with pytest.raises(ValueError, match="the"):
            fresh.load_state_dict(state)


def test_longer_tasks_are_the_same_at_another_length() -> None:
    for name, steps in (("words", 32), ("addition", 36), ("copy", 32), ("recall", 44)):
        task = load(name)
        longer = task.longer(4)
        assert (longer.length, longer.input_size) == (steps, task.input_size)
        assert len(longer.test_set()[0]) == steps == longer.training_length
    with pytest.raises(ValueError, match="sequences of smnist have one length only"):
        load("smnist").longer(2)
