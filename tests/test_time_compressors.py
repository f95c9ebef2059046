"""``svdbench time-compressors``: ways to compress a model, at equal numbers, side by side."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command import EVERY_RUN, assert_mistake, run, table
from torch import Tensor, nn

import svdbench
from svdbench.jobs.time_compressors.methods.asvd import ASVD
from svdbench.jobs.time_compressors.methods.base import (
    CompressionProblem,
    column_sums,
    rows_of,
    scaled_spectrum,
)
from svdbench.jobs.time_compressors.methods.fwsvd import FWSVD
from svdbench.jobs.time_compressors.methods.svd_llm import SVDLLM
from svdbench.jobs.time_compressors.summaries import summarise
from svdbench.lowrank.layers.base import Side
from svdbench.lowrank.losses import usual_loss
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.members import MODEL_COMPRESSORS

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")
NAMES = MODEL_COMPRESSORS.names()
FOLDER = Path("results/time-compressors/r")
SOURCE = """
import torch
from torch import nn
from svdbench.extend import ModelCompressor

X = torch.randn(240, 12, generator=torch.Generator().manual_seed(0))
y = (X[:, :2].sum(1) > 0).long() + (X[:, 2] > 0).long()


def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(),
                          nn.Linear(20, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimizer.step()
    return model


def loader():
    return X, y


class TooLarge(ModelCompressor):
    title, source, needs = "nothing at all", "nowhere", "nothing"

    def calibrated(self, problem):
        return lambda params: problem.model


class Fails(TooLarge):
    def calibrated(self, problem):
        raise KeyError("x")
"""
TINY = ["time-compressors", "my_net:build", "--data", "my_net:loader", "--name", "r"]
# The search of ASVD takes most of the time.
QUICKER = "model_compressor.asvd.examples=0"
QUICK = [*TINY, "--params", "0.6,0.4", "--draws", "2", "timing_s=0"]


@pytest.fixture(autouse=True)
def package(elsewhere: None) -> Iterator[None]:
    """``my_net`` in the current folder; forgotten afterwards."""
    Path("my_net.py").write_text(SOURCE)
    path = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    yield
    sys.path[:] = path
    sys.modules.pop("my_net", None)


def problem(model: nn.Module, X: Tensor, y: Tensor, **options: Any) -> CompressionProblem:
    return CompressionProblem(model.eval(), (X, y), (X, y), usual_loss, **options)


def linear(rows: int = 6, columns: int = 9, examples: int = 40) -> CompressionProblem:
    """y = W x without a bias, with inputs of different sizes, and targets of its own rows."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(columns, rows, bias=False))
    X = torch.randn(examples, columns) * torch.logspace(-1, 1, columns)
    return problem(model, X, torch.randn(examples, rows))


def product(small: nn.Module) -> Tensor:
    layer = small[0]  # type: ignore[index]
    weight: Tensor = layer.weight.detach()
    return weight


class TestMethods:
    def test_svd_llm_is_the_svd_of_w_s(self) -> None:
        for rows, columns in ((6, 9), (9, 6)):
            given = linear(rows, columns)
            X, W = given.calibration[0].double(), given.sites["0.weight"].matrix.double()  # type: ignore[index]
            S = torch.linalg.cholesky(X.T @ X)
            U, s, Vh = torch.linalg.svd(W @ S)
            nearest = (U[:, :2] * s[:2]) @ Vh[:2] @ torch.linalg.inv(S)
            small = SVDLLM().calibrated(given)(2 * (rows + columns))
            torch.testing.assert_close(product(small).double(), nearest, rtol=1e-3, atol=1e-4)

    def test_svd_llm_damps_more_where_there_are_few_rows(self) -> None:
        given = linear(30, 20, examples=5)
        with pytest.warns(DataWarning, match="too few for svd_llm: damped by"):
            small = SVDLLM(damping=1e-16).calibrated(given)(2 * 50)
        X, _ = given.calibration  # type: ignore[misc]
        assert (small(X) - given.model(X)).norm() < 0.5 * given.model(X).norm()

    def test_asvd_scales_columns_by_their_inputs(self) -> None:
        given = linear()
        X, W = given.calibration[0].double(), given.sites["0.weight"].matrix.double()  # type: ignore[index]
        s = X.abs().mean(0) ** 0.5
        U, S, Vh = torch.linalg.svd(W * s)
        nearest = (U[:, :2] * S[:2]) @ Vh[:2] / s
        small = ASVD(examples=0).calibrated(given)(2 * 15)
        torch.testing.assert_close(product(small).double(), nearest, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("loss", [0.7, math.inf])  # 0.7 is less in single precision
    def test_asvd_reaches_the_smallest_ranks_that_it_tried(self, loss: float) -> None:
        given, method = linear(), ASVD()
        frontier = method.components(given)
        method.losses = {"0.weight": {1: loss, 2: 0.1}}
        assert method.ranks(given, frontier, 15) == {"0.weight": 1}

    def test_fwsvd_scales_columns_by_single_gradients(self) -> None:
        given = linear()
        X, W = given.calibration[0].double(), given.sites["0.weight"].matrix.double()  # type: ignore[index]
        G = 2 * (X @ W.T - given.calibration[1].double()) / 6  # type: ignore[index]
        squares = torch.einsum("ni,nj->nij", G, X).square().sum((0, 1))
        U, S, Vh = torch.linalg.svd(W * squares.sqrt())
        nearest = (U[:, :2] * S[:2]) @ Vh[:2] / squares.sqrt()
        small = FWSVD(examples=100).calibrated(given)(2 * 15)
        torch.testing.assert_close(product(small).double(), nearest, rtol=1e-4, atol=1e-5)

    def test_fwsvd_refuses_targets_that_are_the_models_own(self) -> None:
        given = linear()
        own = given.model(given.calibration[0]).detach()  # type: ignore[index]
        same = problem(given.model, given.calibration[0], own)  # type: ignore[index]
        with pytest.raises(ValueError, match="the gradient vanishes"):
            FWSVD().calibrated(same)

    @pytest.mark.parametrize("shape", [(4, 30), (30, 4)])
    @pytest.mark.parametrize("side", ["columns", "rows"])
    def test_components_are_of_the_scaled_weight(self, shape: tuple[int, int], side: Side) -> None:
        site = linear(*shape).sites["0.weight"]
        W, k = site.matrix.double(), site.weight.most
        s = torch.rand(W.shape[side == "columns"]) + 0.1
        left, right = scaled_spectrum(site, s, side).components(site.matrix, k)
        scaled = W * s if side == "columns" else W * s.unsqueeze(1)
        U, S, Vh = torch.linalg.svd(scaled, full_matrices=False)
        wanted = U[:, :k] @ (S[:k, None] * Vh[:k])
        wanted = wanted / s if side == "columns" else wanted / s.unsqueeze(1)
        torch.testing.assert_close((left @ right).double(), wanted, rtol=1e-4, atol=1e-5)

    def test_every_kind_of_layer(self) -> None:
        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(50, 16)
                self.conv = nn.Conv1d(16, 16, 3, padding=1)
                self.lstm = nn.LSTM(16, 16, batch_first=True)
                self.last = nn.Linear(16, 5)

            def forward(self, ids: Tensor) -> Tensor:
                x = self.conv(self.embedding(ids).mT).mT
                found: Tensor = self.last(self.lstm(x)[0][:, -1])
                return found

        torch.manual_seed(0)
        given = problem(Mixed(), torch.randint(50, (60, 7)), torch.randint(5, (60,)))
        sums = column_sums(given, torch.abs)
        assert rows_of(given)["conv.weight"] >= 60 * 7
        assert sums["embedding.weight"][0].total is None
        params = int(0.5 * given.plain.n_params)
        for name in NAMES:
            small = MODEL_COMPRESSORS.load(name).calibrated(given)(params)
            assert 0.3 * given.plain.n_params < given.numbers_in(small) <= params, name
            assert small(given.calibration[0]).isfinite().all()  # type: ignore[index]

    def test_what_is_larger_is_no_worse(self) -> None:
        """All methods keep the whole network where they may, and lose more with less."""
        import my_net

        given = problem(my_net.build(), *my_net.loader())
        X, y = my_net.loader()
        whole = usual_loss(given.model(X), y)
        for name in NAMES:
            compressed = MODEL_COMPRESSORS.load(name).calibrated(given)
            losses = [
                usual_loss(compressed(int(part * given.plain.n_params))(X), y)
                for part in (0.15, 0.9, 1.0)
            ]
            assert losses[0] > losses[1], name
            torch.testing.assert_close(losses[2], whole, rtol=1e-4, atol=1e-4)


def test_writes_what_it_promises() -> None:
    answer = run([*TINY, "--params", "0.5", "--draws", "2", "timing_s=0", QUICKER])
    assert (answer.code, answer.err) == (0, "")
    assert {path.name for path in FOLDER.iterdir()} == {
        *EVERY_RUN,
        *("samples.csv", "summary.csv", "loss_by_budget.png"),
    }
    rows = table(FOLDER / "summary.csv")
    assert {row["status"] for row in rows} == {"ok"}, [row["reason"] for row in rows]
    assert {row["method"] for row in rows} == set(NAMES)
    assert len(rows) == len(NAMES) * 2
    assert all(float(row["kept"]) <= float(row["budget"]) for row in rows)
    assert "next is" in answer.out or "more than noise" in answer.out
    ours = {row["draw"]: row["loss"] for row in rows if row["method"] == "kronecker"}
    assert len(set(ours.values())) == 2


def test_without_targets_the_dense_model_teaches() -> None:
    Path("my_net.py").write_text(SOURCE + "\n\ndef inputs():\n    return [X[:120], X[120:]] * 4\n")
    typed = ["time-compressors", "my_net:build", "--data", "my_net:inputs", "--name", "r"]
    methods = ["--methods", "kronecker,svd_llm,fwsvd"]
    answer = run([*typed, "--params", "0.5", "--draws", "1", "timing_s=0", *methods])
    assert (answer.code, answer.err) == (0, "")
    rows = {row["method"]: row for row in table(FOLDER / "summary.csv")}
    assert float(rows["kronecker"]["dense_loss"]) == pytest.approx(0, abs=1e-6)
    assert 0 < float(rows["kronecker"]["loss"]) < float(rows["svd_llm"]["loss"])
    assert (rows["fwsvd"]["status"], rows["fwsvd"]["loss"]) == ("skipped", "")


def test_all_are_tuned_alike() -> None:
    tuning = ["--finetune-epochs", "2", "--lr", "0.01", "--methods", "kronecker,uniform"]
    answer = run([*TINY, "--params", "0.3", "--draws", "1", "timing_s=0", *tuning])
    assert (answer.code, answer.err) == (0, "")
    rows = table(FOLDER / "summary.csv")
    assert [(row["method"], row["tuned"]) for row in rows] == [
        *(("kronecker", "False"), ("kronecker", "True")),
        *(("uniform", "False"), ("uniform", "True")),
    ]
    assert float(rows[3]["loss"]) < float(rows[2]["loss"])
    assert rows[3]["weights"] == rows[2]["weights"]
    assert "30% of the weights, fine-tuned" in answer.out


def test_a_finished_run_is_left_as_it_is_and_resumes() -> None:
    assert run([*QUICK, "--methods", "uniform,kronecker"]).code == 0
    before = (FOLDER / "samples.csv").read_bytes()
    again = ["time-compressors", "my_net:build", "--data", "my_net:loader", "--resume", str(FOLDER)]
    answer = run(again)
    assert (answer.code, answer.err) == (0, "")
    assert "already complete: 5 of 5 parts done" in answer.out
    assert (FOLDER / "samples.csv").read_bytes() == before


def test_a_run_that_was_cut_short_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FWSVD, "components", stop)
        answer = run([*QUICK, "--methods", "kronecker,uniform,fwsvd", "--draws", "1"])
    assert answer.code == 130
    assert len(table(FOLDER / "summary.csv")) == 4
    again = ["time-compressors", "my_net:build", "--data", "my_net:loader", "--resume", str(FOLDER)]
    assert run(again).code == 0
    assert len(table(FOLDER / "summary.csv")) == 6


def test_from_python_with_latency() -> None:
    found = svdbench.run(
        "time-compressors",
        "my_net:build",
        data="my_net:loader",
        methods=["kronecker", "svd_llm"],
        params=[0.5],
        draws=1,
        overrides=["timing_s=0.1"],
    )
    assert set(found.summary["method"]) == {"kronecker", "svd_llm"}
    assert (found.summary["latency_s"] > 0).all()
    assert found.report.headline.startswith("50% of the weights, kronecker: loss ")
    assert set(found.figures) == {"loss_by_budget"}


def test_a_method_that_keeps_too_much_or_fails_gets_no_number() -> None:
    methods = "kronecker,my_net:TooLarge,my_net:Fails"
    answer = run([*QUICK, "--methods", methods, "--draws", "1"])
    assert answer.code == 0, answer.err
    rows = {row["method"]: row for row in table(FOLDER / "summary.csv")}
    assert rows["kronecker"]["status"] == "ok"
    assert rows["my_net:TooLarge"]["status"] == "failed"
    assert "are allowed" in rows["my_net:TooLarge"]["reason"]
    assert rows["my_net:Fails"]["status"] == "failed"
    assert "KeyError" in rows["my_net:Fails"]["reason"]


def test_a_budget_that_is_too_small_is_skipped() -> None:
    answer = run([*TINY, "--params", "0.01", "--draws", "1", "--methods", "kronecker,uniform"])
    assert answer.code == 0, answer.err
    assert {row["status"] for row in table(FOLDER / "summary.csv")} == {"skipped"}


def test_differences_are_paired() -> None:
    shared = {"model": "m", "budget": 0.5, "tuned": False, "status": "ok", "against": "a"}
    shared |= {"kept": 0.5, "peak_bytes": 1.0, "calibrate_s": 1.0, "compress_s": 1.0}
    shared |= {"tune_s": None, "latency_s": None, "dense_latency_s": None}
    shared |= {"decode_s": None, "dense_decode_s": None}
    blocks, rows = [], []
    for draw, level in enumerate((1.0, 5.0, 3.0)):  # draws differ, the methods always by 0.5 or so
        for method, more in (("a", 0.0), ("b", 0.5)):
            rows.append(
                shared | {"method": method, "draw": draw, "loss": level + more, "increase": more}
            )
            for block in range(10):
                loss = level + block + more * (1 + 0.01 * (block % 3))
                blocks.append(
                    {"budget": 0.5, "tuned": False, "method": method, "draw": draw}
                    | {"block": block, "loss": loss}
                )
    own, other = summarise(pd.DataFrame(rows), pd.DataFrame(blocks))
    assert (own.method, other.method) == ("a", "b")
    assert own.difference is None
    assert other.difference is not None
    assert other.difference.mean == pytest.approx(0.5, rel=0.02)
    assert other.difference.halfwidth < 0.01
    assert other.differs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "svdllm,kronecker"], "did you mean 'svd_llm'"),
        (["--methods", "uniform,energy"], "against is kronecker, which is not among the methods"),
        (["--params", "0"], "params has 0.0: give a fraction of the dense network"),
        (["--draws", "0"], "draws is 0"),
        (["model_compressor.asvd.alpha=-1"], "alpha is -1: give a number from 0 to 4"),
        (["--calibration", "0"], "calibration is 0"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    assert_mistake(run([*TINY, *arguments]), message)


def test_a_model_without_examples_is_refused() -> None:
    assert_mistake(run(["time-compressors", "my_net:build"]), "no examples are given")
