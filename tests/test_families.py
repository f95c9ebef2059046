"""Networks beside the multilayer ones: convolutional, and of text."""

import math
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from command import assert_mistake, run, table

from svdbench.datasets.base import DatasetError
from svdbench.datasets.text import MOST_TEST, MOST_TRAIN, library_name, text_windows
from svdbench.jobs.accelerate import Accelerate
from svdbench.jobs.accelerate.costs import alpha_rank, alpha_rule, multiplications
from svdbench.jobs.accelerate.run import AccelerateSession
from svdbench.lowrank import factor
from svdbench.side_by_side.byte_lm import ByteLmFamily, heads_of
from svdbench.side_by_side.families import ConvFamily, MlpFamily, NetworkFamily
from svdbench.side_by_side.networks import evaluate
from svdbench.side_by_side.problems import TrainingProblem, by_sequence, problem_of
from svdbench.side_by_side.recurrent import RecurrentFamily, row_reader, sequence_reader
from svdbench.tasks.base import Task
from svdbench.tasks.memory import Addition, Copying
from svdbench.tasks.recall import Recall

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")
LM = ByteLmFamily(width=16, layers=2, context=8)
FAMILIES: list[NetworkFamily] = [
    MlpFamily((12, 8, 6, 3)),
    ConvFamily((8, 8), 5),
    *(row_reader(cell, (8, 8), 5, hidden=12) for cell in ("lstm", "gru", "rnn")),
    sequence_reader("lstm", Addition(6), 12),
    sequence_reader("gru", Recall(2, 8, symbols=4), 12),
    sequence_reader("rnn", Copying(3), 12, "tanh"),
    LM,
]


def examples(family: NetworkFamily, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(family, RecurrentFamily):
        if family.task is not None:
            return by_sequence(
                family.task, family.task.batch(count, torch.Generator().manual_seed(0))
            )
        return torch.rand(count, family.rows * family.inputs), torch.randint(3, (count,))
    if isinstance(family, ByteLmFamily):
        shape = count, family.context
        return torch.randint(256, shape), torch.randint(256, shape)
    features = family.sizes[0] if isinstance(family, MlpFamily) else math.prod(family.shape)
    return torch.rand(count, features), torch.randint(3, (count,))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.label)
def test_families_build_scale_and_learn(family: NetworkFamily) -> None:
    network, (X, y) = family.build(), examples(family)
    logits = network(X)
    assert logits.shape[: y.ndim] == y.shape
    family.loss(logits, y).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    before = sum(p.numel() for p in network.parameters())
    for share in (0.5, 0.01):
        small = family.scaled(share)
        assert family.loss(small.build()(X), y).isfinite()
        assert sum(p.numel() for p in small.build().parameters()) < before
        assert small.label != family.label
    assert family.scaled(1) == family


def test_scores_of_sequences_count_every_label() -> None:
    network, (X, y) = LM.build(), examples(LM, 5)
    logits = network(X)
    right = float((logits.argmax(-1) == y).float().mean())
    for chunk in (1, 16, 2048):
        scores = evaluate(network, X, y, LM.loss, chunk)
        assert scores.accuracy == pytest.approx(right)
        assert scores.loss == pytest.approx(LM.loss(logits, y).item())


class TestByteLm:
    def test_no_byte_sees_a_later_one(self) -> None:
        network, (X, _) = LM.build(), examples(LM)
        changed = X.clone()
        changed[:, 5] = (X[:, 5] + 1) % 256
        different = (network(X) != network(changed)).any(-1).any(0)
        assert different.tolist() == [False] * 5 + [True] * 3

    def test_heads_divide_the_width(self) -> None:
        assert [heads_of(width) for width in (4, 48, 64, 128, 136, 256)] == [1, 1, 2, 4, 4, 8]
        for width in range(4, 400, 4):
            assert width % heads_of(width) == 0

    def test_embedding_and_readout_stay_dense_and_one(self) -> None:
        network, layers = factor(LM.build(), lambda weight: 3)
        by_name = {layer.weight.name: layer for layer in layers}
        assert by_name["embedding.weight"].reason == "the last layer"
        assert {layer.rank for name, layer in by_name.items() if "blocks" in name} == {3}
        assert len(by_name) == 1 + 2 * 4
        assert network.readout.weight is network.embedding.weight

    @pytest.mark.parametrize("alpha", [None, 0.5])
    def test_multiplications_are_those_of_the_formula(self, alpha: float | None) -> None:
        T, d, L = LM.context, LM.width, LM.layers
        network = LM.build()
        shapes = [(3 * d, d), (d, d), (4 * d, d), (d, 4 * d)]
        each = [m * n for m, n in shapes]
        if alpha is not None:
            network, _ = factor(network, alpha_rule(alpha))
            each = [alpha_rank(alpha, m, n) * (m + n) for m, n in shapes]
        attention = 2 * T * T * d  # QKᵀ and its product with V
        forward = L * (T * sum(each) + attention) + T * d * 256
        # Twice as many backward, as a gradient of the input and one of the weight.
        assert multiplications(network, *examples(LM), LM.loss) == 3 * forward


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_multiplications_of_a_convolution_are_those_of_the_formula(alpha: float | None) -> None:
    family = ConvFamily((8, 8), 5, channels=(4, 6, 8, 8))
    network = family.build()
    places, pairs = [64, 16, 4, 1], [(1, 4), (4, 6), (6, 8), (8, 8)]
    each = [p * 9 * m * n for p, (m, n) in zip(places, pairs, strict=True)]
    if alpha is not None:
        network, layers = factor(network, alpha_rule(alpha))
        ranks = [layer.rank for layer in layers[:4]]
        assert all(ranks)
        # A column of 3 and a row of 3: rank r takes 3mr and 3rn numbers.
        each = [p * 3 * r * (m + n) for p, r, (m, n) in zip(places, ranks, pairs, strict=True) if r]
    found = multiplications(network, *examples(family), family.loss)
    # The first layer has no gradient of its input to find.
    first = each[0] if alpha is None else places[0] * 3 * (ranks[0] or 0)
    assert found == 3 * (sum(each) + 8 * 5) - first


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("task", [None, Addition(8), Copying(4)], ids=["rows", "adding", "copying"])
@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_multiplications_of_a_recurrence_are_those_of_the_formula(
    cell: str, gates: int, task: Task | None, alpha: float | None
) -> None:
    h = 12
    family = row_reader(cell, (8, 8), 5, h) if task is None else sequence_reader(cell, task, h)
    T, n, outputs = (8, 8, 5) if task is None else (task.length, family.inputs, family.outputs)
    network = family.build()
    X, y = examples(family)
    m, inputs, recurrent, made = gates * h, gates * h * n, gates * h * h, 0.0
    first = T * inputs + recurrent  # the input has no gradient to find, nor has the first state
    if alpha is not None:
        network, layers = factor(network, alpha_rule(alpha))
        assert [layer.weight.name for layer in layers if layer.rank] == [
            "rnn.weight_ih_l0",
            "rnn.weight_hh_l0",
        ]
        ranks = [alpha_rank(alpha, m, columns) for columns in (n, h)]
        if cell == "lstm":
            # The weights are made of their factors once a step, and then torch's loop is run.
            made = 3 * (ranks[0] * inputs + ranks[1] * recurrent) / len(X)
        else:
            inputs, recurrent = ranks[0] * (m + n), ranks[1] * (m + h)
            first = T * ranks[0] * n + ranks[1] * h
    read = T if task is not None and not task.at_end else 1
    loop = 3 * (T * (inputs + recurrent) + read * outputs * h) - first
    assert multiplications(network, X, y, family.loss) == loop + made


def test_an_rnn_begins_with_an_orthogonal_weight() -> None:
    for share in (1, 0.4):
        W = sequence_reader("rnn", Addition(6), 12).scaled(share).build().rnn.weight_hh_l0
        assert torch.allclose(W @ W.mT, torch.eye(len(W)), atol=1e-5)
    with pytest.raises(ValueError, match="for rnn, give relu or tanh"):
        sequence_reader("rnn", Addition(6), activation="sigmoid")


@pytest.mark.parametrize("task", [Addition(6), Copying(3), Recall(2, 8, symbols=4)])
def test_scores_of_a_task_are_its_own(task: Task) -> None:
    family = sequence_reader("gru", task, 8)
    network = family.build()
    x, y = task.batch(7, torch.Generator().manual_seed(1))
    X, labels = by_sequence(task, (x, y))
    assert X.shape == (7, task.length, task.input_size)
    outputs = network(X)
    own = outputs if task.at_end else outputs.transpose(0, 1)
    for chunk in (1, 2 * task.length, 2048):
        scores = evaluate(network, X, labels, family.loss, chunk, family.count_right)
        assert scores.loss == pytest.approx(task.loss(own, y).item(), rel=1e-5)
        right = task.metrics(own, y)["accuracy"]
        assert scores.accuracy == (None if task.name == "addition" else pytest.approx(right))


class TestText:
    def test_the_library_is_there(self) -> None:
        text = text_windows(None, 128)
        assert text.name == library_name() == f"Python {sys.version.split()[0]} library"
        for (X, y), most in ((text.train, MOST_TRAIN), (text.test, MOST_TEST)):
            assert X.shape == y.shape == (len(X), 128)
            assert X.dtype == y.dtype == torch.int64
            assert 0.5 * most < X.numel() <= most
            assert torch.equal(X.flatten()[1:], y.flatten()[:-1])
            assert X.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
        assert bytes(text.train[0][:50].flatten().tolist()).decode()  # Python's sources are UTF-8
        again = text_windows(None, 128)
        assert torch.equal(again.test[0], text.test[0])

    def test_a_folder_is_split_by_file(self, tmp_path: Path) -> None:
        for number in range(40):
            (tmp_path / f"{number}.txt").write_bytes(bytes([48 + number]) * 100)
        (tmp_path / ".hidden").write_bytes(b"hidden" * 1000)
        (tmp_path / "binary").write_bytes(b"\0\1\2" * 1000)
        (tmp_path / "empty").write_bytes(b"")
        text = text_windows(tmp_path, 10)
        train, test = ({*X.flatten().tolist()} - {10} for X, _ in (text.train, text.test))
        assert not train & test
        assert len(train) == 36
        assert len(test) == 4
        assert text.name == tmp_path.name

    @pytest.mark.parametrize("files", [1, 2])
    def test_few_files_are_split_by_blocks(self, files: int, tmp_path: Path) -> None:
        (tmp_path / "0").write_bytes(b"".join(bytes([65 + i]) * 100 for i in range(20)))
        if files == 2:
            (tmp_path / "1").write_bytes(b"few")
        text = text_windows(tmp_path / "0" if files == 1 else tmp_path, 10)
        assert {74, 84} <= {*text.test[0].flatten().tolist()}
        assert (text.train[0] == 74).sum() <= 10 * (files - 1)  # blocks begin a bit earlier
        assert text.train[0].numel() + text.test[0].numel() >= 1980

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "has no text: give a text file"),
            (b" \n\n", "has no text: give a text file"),
            (b"\0\1" * 9999, "is not text, as it has NUL bytes"),
            (b"short", "too few for windows of 128: give at least 1,556 bytes, or a smaller"),
            (None, "can't read"),
        ],
    )
    def test_refuses_what_is_no_text(
        self, content: bytes | None, says: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "text"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DatasetError, match=says):
            text_windows(path, 128)

    def test_what_it_asks_for_is_enough(self, tmp_path: Path) -> None:
        for context in (2, 7, 128):
            path = tmp_path / "text"
            path.write_bytes(b"x" * (12 * context + 20))
            text = text_windows(path, context)
            assert len(text.train[0]) >= 8
            assert len(text.test[0]) >= 1


TINY = ["accelerate", "--seeds", "1", "--epochs", "2", "--alphas", "0.5", "--phis", "0.5"]


def lm_words(folder: Path) -> list[str]:
    (folder / "text.txt").write_text("def add(a, b):\n    return a + b\n" * 100)
    small = ["--width", "16", "--layers", "1", "--context", "8"]
    return [*TINY, "--net", "byte-lm", *small, "--text", "text.txt", "--batch", "64"]


class TestTasks:
    SMALL: ClassVar[list[str]] = [*TINY, "--sequences", "60", "--width", "8", "--batch", "10"]

    def test_a_regression_has_losses_and_no_accuracies(self) -> None:
        words = [*self.SMALL, "--task", "adding", "--length", "6", "--seeds", "2", "--name", "r"]
        answer = run([*words, "--no-rivals", "task.addition.test_size=20"])
        assert (answer.code, answer.err) == (0, "")
        assert "baseline: 0.1667 squared error" in answer.out
        assert "training loss" in answer.out
        assert "nan" not in answer.out.lower()
        assert "accuracy" not in answer.out
        assert "nats" not in answer.out
        dense, factored = table("results/accelerate/r/summary.csv")[:2]
        assert (dense["model"], dense["dataset"]) == ("lstm-2-8-1", "Adding, length 6")
        assert dense["accuracy"] == dense["metric"] == ""
        assert dense["loss_unit"] == "squared error"
        assert float(dense["baseline_loss"]) == pytest.approx(1 / 6)
        assert int(factored["n_params"]) < int(dense["n_params"])

    def test_an_interrupted_run_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        words = [*self.SMALL, "--task", "copying", "--net", "rnn", "--length", "3", "--name", "r"]
        equal = ["--equal", "multiplications", "task.copy.test_size=20"]

        def interrupted(*arguments: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(AccelerateSession, "begin", interrupted)
            assert run([*words, *equal]).code == 130
        answer = run(["accelerate", "--resume", "results/accelerate/r"])
        assert (answer.code, answer.err) == (0, "")
        assert "resuming: 1 of 2 parts done" in answer.out
        assert "the share of symbols right in the last 10 steps" in answer.out
        rows = table("results/accelerate/r/summary.csv")
        assert {row["method"] for row in rows} == {"dnn", "svd_dnn", "narrow_dnn"}
        assert {row["loss_unit"] for row in rows} == {"nats a step"}
        assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)

    def test_sequences_are_drawn_from_the_seed_and_the_test_set_stays(self) -> None:
        def problem(seed: int) -> TrainingProblem:
            config = Accelerate(
                seed=seed, task_name="addition", task={"addition": {}}, length=6, sequences=20
            )
            return problem_of(config, (4,))

        one, same, other = (problem(seed) for seed in (0, 0, 1))
        assert torch.equal(one.train[0], same.train[0])
        assert not torch.equal(one.train[0], other.train[0])
        assert torch.equal(one.test[0], other.test[0])
        assert one.train[0].shape == (20, 6, 2)
        assert one.is_regression

    def test_ranks_are_given_to_every_weight(self) -> None:
        words = [*self.SMALL, "--task", "adding", "--length", "6", "--ranks", "none,2,none"]
        answer = run([*words, "--no-rivals", "--epochs", "1", "--name", "r"])
        assert (answer.code, answer.err) == (0, "")
        layers = table("results/accelerate/r/layers.csv")[:3]
        assert [row["form"] for row in layers] == ["dense", "factors", "dense"]


@pytest.mark.parametrize("net", ["conv", "lstm", "byte-lm"])
def test_accelerate_runs_with_other_networks(net: str, tmp_path: Path) -> None:
    words = lm_words(Path.cwd()) if net == "byte-lm" else [*TINY, "--net", net, "--epochs", "1"]
    answer = run([*words, "--name", "r"])
    assert (answer.code, answer.err) == (0, "")
    dense, factored = table("results/accelerate/r/summary.csv")[:2]
    model, dataset, last = {
        "conv": ("conv-32-64-128-128", "digits", "14.weight"),
        "lstm": ("lstm-8-128-10", "digits", "readout.weight"),
        "byte-lm": ("byte-lm-16x1-8", "text.txt", "embedding.weight"),
    }[net]
    assert (dense["model"], dense["dataset"]) == (model, dataset)
    # An LSTM makes its weights of their factors, which saves nothing while it is trained.
    least, most = (0.9, 1) if net == "lstm" else (1, 2)
    assert least < float(factored["ceiling"]) < most
    assert int(factored["n_params"]) < int(dense["n_params"])
    assert (int(factored["macs"]) < int(dense["macs"])) == (net != "lstm")
    rows = table("results/accelerate/r/samples.csv")
    losses = [float(r["train_loss"]) for r in rows if r["arm"] == "DNN" and r["split"] == "test"]
    assert losses[-1] < losses[0] or len(losses) == 1
    forms = {row["layer"]: row["form"] for row in table("results/accelerate/r/layers.csv")}
    assert "factors" in forms.values()
    assert forms[last] == "dense"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--net", "conf"], "joined by '-'"),
        (["--width", "8"], "width is for the network byte-lm: add --net byte-lm"),
        (["--length", "8"], "length is of a task's sequences: add --task adding"),
        (["--task", "adding", "--net", "conv"], "addition is read step by step"),
        (["mnist", "--task", "copy"], "copy has sequences of its own, not mnist"),
        (["--task", "adding", "--length", "1"], "length is 1: give a whole number of at least 2"),
        (["--task", "words"], "add task.words.curriculum=false"),
        (["--task", "smnist", "--length", "9"], "sequences of smnist have one length only"),
        (["--task", "copi"], "did you mean 'copy'"),
        (["task=addition"], "task=… does not choose a task"),
        (["--task", "adding", "--arms", "cola"], "no linear layer would have a low rank"),
        (["--net", "rnn", "activation=sigmoid"], "for rnn, give relu or tanh"),
        (["--net", "byte-lm", "--width", "6"], "give a multiple of 4"),
        (["xor", "--net", "conv"], "conv is for images"),
        (["mnist", "--net", "byte-lm"], "byte-lm learns text, not mnist"),
        (["--net", "byte-lm", "--text", "nowhere"], "can't read nowhere"),
        (["--net", "byte-lm", "input_gradient=true"], "input_gradient needs floating-point inputs"),
    ],
)
def test_refuses(words: list[str], says: str) -> None:
    assert_mistake(run(["accelerate", *words]), says)
