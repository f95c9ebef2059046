"""The loop of a recurrent network in every way to run it, and the command that times them."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from command import EVERY_RUN, assert_mistake, run, table
from torch import Tensor, nn

from svdbench.config.fields import check_config
from svdbench.jobs.time_rnn import LoopSizes
from svdbench.jobs.time_rnn.loops import LoopProblem, RNNLoop
from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.algorithm import Flops
from svdbench.measure.gate import check
from svdbench.members import LOOPS
from svdbench.nn import recurrence_loops

NAMES = LOOPS.names()
REFLECTORS = ["fasth_each_step", "reflectors_each_step", "spectral"]
MODULES = {"torch_rnn": nn.RNN, "torch_lstm": nn.LSTM, "torch_gru": nn.GRU}
F64 = torch.float64


def load(name: str) -> RNNLoop:
    method: RNNLoop = LOOPS.load(name, **({"tune": False} if name in REFLECTORS[::2] else {}))
    return method


def given(n: int = 5, d: int = 12, inputs: int = 3) -> tuple[Tensor, ...]:
    """U, s, V, M, b in float64, W orthogonal within some per cent."""
    U, V = torch.randn(2, n, d, dtype=F64)
    return U, 0.95 + 0.1 * torch.rand(d, dtype=F64), V, torch.randn(d, inputs, dtype=F64), U[0]


def prepared(method: RNNLoop, X: Tensor) -> tuple[Tensor, ...]:
    made = method.parameter(*(tensor.to(X.dtype) for tensor in given(inputs=X.shape[-1])))
    parameters = tuple(tensor.clone().requires_grad_() for tensor in made)
    method.prepare(*parameters, X)
    return parameters


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str) -> None:
    method = load(name)
    assert type(method).name == name
    assert (files("svdbench.conf") / "rnn" / f"{name}.yaml").read_text("utf-8").startswith("# ")
    assert method.reflectors == (name in REFLECTORS)
    assert all(text.strip() for text in (method.kind, method.builds, method.gradients))
    assert method.source.strip()
    problem = LoopProblem(d=32, n=16 if method.reflectors else 0, m=8, length=10, inputs=2)
    flops, floor = method.flops(problem), method.floor(problem)
    assert isinstance(flops, Flops)
    assert floor.step == 6 * 10 * 8 * 32**2
    if method.builds != "W h" or not method.reflectors:
        assert flops.forward >= floor.forward


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_agrees_with_the_plain_formula(name: str, dtype: torch.dtype) -> None:
    method, X = load(name), torch.randn(7, 4, 3).to(dtype)
    parameters, G = prepared(method, X), torch.randn(7, 4, 12).to(dtype)
    verdict = check(method, parameters, X, G)
    assert verdict.ok, verdict.reason
    assert verdict.orthogonality is None
    assert max(verdict.error, verdict.grad_V_error, verdict.grad_X_error) < (
        1e-13 if dtype == F64 else 1e-5
    )


@pytest.mark.parametrize("name", REFLECTORS)
def test_factors_make_an_elman_network(name: str) -> None:
    """The plain formula, too, is torch.nn.RNN with W = U diag(s) Vᵀ."""
    U, s, V, M, b = given()
    left, right = (apply_reflectors_reference(t, torch.eye(12, dtype=F64)) for t in (U, V))
    rnn = nn.RNN(3, 12, dtype=F64)
    with torch.no_grad():
        for parameter, value in zip(
            rnn.parameters(), (M, left @ s.diag() @ right.T, b, 0 * b), strict=True
        ):
            parameter.copy_(value)
    X, method = torch.randn(7, 4, 3, dtype=F64), load(name)
    torch.testing.assert_close(method.apply(U, s, V, M, b, X), rnn(X)[0])
    torch.testing.assert_close(method.reference(U, s, V, M, b, X), rnn(X)[0])


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_torchs_own(name: str) -> None:
    """Called on leaves that are laid out for cuDNN, and by their plain formula."""
    method, X = load(name), torch.randn(7, 4, 3, dtype=F64)
    weights = prepared(method, X)
    module: Any = MODULES[name](3, 12, dtype=F64)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), weights, strict=True):
            parameter.copy_(value)
    torch.testing.assert_close(method.apply(*weights, X), module(X)[0])
    torch.testing.assert_close(method.reference(*weights, X), module(X)[0])
    changed = [2 * weight for weight in weights]
    assert not torch.equal(method.apply(*changed, X), method.apply(*weights, X))


def test_sequential_operations() -> None:
    problem = LoopProblem(d=64, n=32, m=8, length=100)
    fasth = LOOPS.load("fasth_each_step", block_size=8)
    counted = {
        name: (load(name) if name != "fasth_each_step" else fasth).described(problem)
        for name in NAMES
    }
    assert counted["reflectors_each_step"] == {
        "loop": "operations",
        "sequential_ops": 6400,
        "slides_ops": 6400,
    }
    assert counted["fasth_each_step"] == {
        "loop": "operations",
        "sequential_ops": 100 * 2 * (1 + 4),
        "slides_ops": 2 * (4 + 100 * 8),
    }
    assert 100 < counted["spectral"]["sequential_ops"] <= 100 + 2 * (1 + 32)
    assert {counted[name]["sequential_ops"] for name in MODULES} == {100}
    assert {counted[name]["slides_ops"] for name in ("spectral", *MODULES)} == {None}


def test_what_runs_the_loop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small, double = LoopProblem(d=64, n=32, m=8, device="cuda:0"), LoopProblem(64, 32, 8, F64)
    assert {load(name).loop(double) for name in MODULES} == {"torch.nn"}
    assert load("spectral").loop(double) == "operations"
    monkeypatch.setattr(recurrence_loops, "triton_runs_on", lambda device: True)
    assert load("spectral").loop(small) == "one Triton kernel"
    assert load("spectral").loop(replace(small, d=257)) == "operations"
    assert {load(name).loop(small) for name in MODULES} == {"cuDNN"}


def test_reflectors_one_by_one_leave_out_what_needs_too_much_memory() -> None:
    method = LOOPS.load("reflectors_each_step", max_bytes=1e6)
    small, large = (LoopProblem(d=16, n=16, m=8, length=T) for T in (10, 100))
    assert method.skip(small) is None
    assert "3,200 states, 0.0 GB" in str(method.skip(large))


@pytest.mark.parametrize("block_size", [0, 2.5, "8"])
def test_block_size_is_a_whole_number(block_size: Any) -> None:
    with pytest.raises(ValueError, match="give a whole number above 0"):
        LOOPS.load("fasth_each_step", block_size=block_size)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": []}, "sizes.hidden is empty"),
        ({"length": [5, 5]}, "sizes.length has 5 twice"),
        ({"length": [0]}, "sizes.length has 0"),
        ({"batch": 0}, "sizes.batch is 0"),
        ({"hidden": [8, 64]}, "sizes.reflectors has 16, more than the 8 hidden units"),
    ],
)
def test_sizes_are_checked(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(LoopSizes(**sizes), "sizes.")


# ------------------------------------------------------------------ the command

TINY = ["--hidden", "8", "--length", "4,6", "--budget", "0.2", "--name", "one"]
TINY += ["sizes.batch=3", "sizes.reflectors=[2,null]", "measure.min_reps=1"]
TINY += ["measure.warmup_reps=1", "rnn.spectral.tune=false", "rnn.fasth_each_step.tune=false"]
LABELS = {f"{name}_{m}" for name in REFLECTORS for m in ("2", "n")} | set(MODULES)
FOLDER = Path("results/time-rnn/one")


@pytest.mark.usefixtures("elsewhere", "known_rates")
class TestCommand:
    def test_writes_what_it_promises(self) -> None:
        code, out, _ = run(["time-rnn", *TINY])
        assert code == 0
        plots = {"step_time.png", "step_time_by_length.png", "ratio_to_torch_rnn.png"}
        tables = {*EVERY_RUN, "samples.csv", "summary.csv"}
        assert {path.name for path in FOLDER.iterdir()} == plots | tables
        rows = table(FOLDER / "summary.csv")
        assert {row["status"] for row in rows} == {"ok"}
        cells = {(row["method"], row["d"], row["length"], row["pass"]) for row in rows}
        assert len(cells) == len(rows) == len(LABELS) * 2 * 3
        assert {row["method"] for row in rows} == LABELS
        assert len({row["cell"] for row in rows}) == len(rows) / 3
        for row in rows:
            n = {"2": "2", "n": row["d"]}.get(row["method"].rpartition("_")[2], "0")
            assert (row["n"], row["m"], row["inputs"]) == (n, "3", "2")
            assert float(row["error"]) < 1e-4
            assert float(row["vs_best"]) > 0
            assert int(row["peak_bytes"]) > 0
            assert int(row["sequential_ops"]) >= int(row["length"])
            assert row["least_bytes"] + row["orthogonality"] == ""
            share = {"fwd": 2, "bwd": 4, "step": 6}[row["pass"]]
            floor = share * int(row["length"]) * 3 * int(row["d"]) ** 2
            assert float(row["floor_s"]) * float(row["matmul_gflops"]) * 1e9 == pytest.approx(floor)
        slides = {row["method"] for row in rows if row["slides_ops"]}
        assert slides == {f"{name}_{m}" for name in REFLECTORS[:2] for m in ("2", "n")}
        assert {row["length"] for row in table(FOLDER / "samples.csv")} == {"4", "6"}
        assert all(label in out for label in LABELS)
        assert "n = 8, T = 6: reflectors_each_step_2 takes" in out

    def test_what_is_too_slow_is_not_tried_again_at_that_length(self) -> None:
        only = ["--methods", "torch_rnn,spectral", "--hidden", "8,12", "measure.timeout_s=1e-9"]
        code, out, _ = run(["time-rnn", *TINY, *only])
        assert code == 0
        rows = table(FOLDER / "summary.csv")
        assert {row["status"] for row in rows} == {"timeout"}
        reasons = {row["reason"] for row in rows if row["d"] == "12"}
        assert all(reason.startswith("at n = 8, T = ") for reason in reasons)
        assert "torch_rnn timeout at n = 12, T = 6: at n = 8, T = 6 one step" in out
        assert not list(FOLDER.glob("*.png"))

    def test_too_much_memory_is_a_row(self) -> None:
        only = ["--methods", "reflectors_each_step", "--length", "4"]
        assert run(["time-rnn", *TINY, *only, "rnn.reflectors_each_step.max_bytes=2e3"]).code == 0
        rows = table(FOLDER / "summary.csv")
        found = {(row["method"], row["d"], row["length"]): row["status"] for row in rows}
        assert found["reflectors_each_step_2", "8", "4"] == "ok"
        assert found["reflectors_each_step_n", "8", "4"] == "skipped"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--hidden", "8,x"], "--hidden is '8,x'"),
            (["--length", "0"], "--length is '0'"),
            (["--methods", "spektral"], "did you mean 'spectral'?"),
            (["sizes.reflectors=[9]"], "more than the 8 hidden units"),
            (["sizes.reflectors=[few]"], "cannot set 'sizes.reflectors"),
            (["rnn.fasth_each_step.block_size=0"], "rnn.fasth_each_step: block_size is 0"),
        ],
    )
    def test_mistakes_are_one_line(self, arguments: list[str], message: str) -> None:
        assert_mistake(run(["time-rnn", *TINY, *arguments]), message)

    def test_quick_is_small(self) -> None:
        code, out, _ = run(["time-rnn", "--quick", "--show-config"])
        assert code == 0
        assert re.search(r"length: +# .*\n  - 50\n", out)
        assert "budget_s: 8" in out
