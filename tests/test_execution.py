"""How the step of a training is computed: products in bfloat16, and graphs of torch.compile."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_mistake, run, table
from fake_clock import FakeClock
from torch import Tensor, nn

from svdbench.side_by_side import execution
from svdbench.side_by_side.arms import Arm, Batches
from svdbench.side_by_side.execution import Execution
from svdbench.side_by_side.networks import loss_for, mlp

pytestmark = pytest.mark.usefixtures("elsewhere", "one_thread")
LOSS = loss_for(3)


def batch(count: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(count, 12, generator=generator)
    return X, X[:, :3].argmax(1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return mlp([12, 32, 32, 3])


def eager(function: Any, **options: Any) -> Any:
    """In place of ``torch.compile``: counts its calls, and compiles nothing."""

    def called(*arguments: Any) -> Any:
        called.count += 1  # type: ignore[attr-defined]
        return function(*arguments)

    called.count = 0  # type: ignore[attr-defined]
    return called


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", eager)


class TestAutocast:
    def test_products_alone_are_bfloat16(self) -> None:
        seen: list[torch.dtype] = []
        net, (X, y) = network(), batch()
        for module in net:
            module.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
        loss = Execution(torch.bfloat16).pass_of(net, LOSS)(X, y)
        loss.backward()
        assert set(seen) == {torch.bfloat16}
        assert loss.dtype == torch.float32
        assert {p.grad.dtype for p in net.parameters() if p.grad is not None} == {torch.float32}
        assert loss.item() == pytest.approx(LOSS(net(X), y).item(), rel=0.01)

    def test_without_it_nothing_changes(self) -> None:
        net, (X, y) = network(), batch()
        assert torch.equal(Execution().pass_of(net, LOSS)(X, y), LOSS(net(X), y))


@pytest.mark.usefixtures("no_compiler")
class TestCompiled:
    def test_preparing_changes_nothing(self) -> None:
        net, (X, y) = nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(0.5), network()), batch()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        random = torch.get_rng_state()
        X.requires_grad_()
        Execution(compiled=True).pass_of(net, LOSS).prepare(X, y)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert all(p.grad is None for p in [X, *net.parameters()])
        assert torch.equal(torch.get_rng_state(), random)

    def test_a_batch_of_another_size_is_not_compiled(self) -> None:
        forward = Execution(compiled=True).pass_of(network(), LOSS)
        assert not forward.ready
        forward.prepare(*batch())
        assert forward.ready
        fast: Any = forward._fast
        assert fast.count == 1
        forward(*batch())
        forward(*batch(7))
        assert fast.count == 2

    def test_an_arm_compiles_before_its_clock_starts(self) -> None:

        class Slow(Arm):
            def _compile(self, *arguments: Any) -> None:
                clock.work(100)
                super()._compile(*arguments)

        clock, net = FakeClock(), network()
        arm = Slow("one", net, torch.optim.SGD(net.parameters()), LOSS, Execution(None, True))
        for _ in range(2):
            done = arm.train_epoch(Batches(*batch(), 16).epoch(0), clock)
            assert (done.seconds, done.steps) == (0, 3)  # the first batch is trained on, too
        assert clock.time == 100


TINY = ["accelerate", "digits", "--net", "64-24-20-10", "--batch", "128", "--name", "one"]
TINY += ["--seeds", "1", "--epochs", "2", "--no-rivals", "--arms", "svd-dnn,self-guided"]
FOLDER = Path("results/accelerate/one")


class TestCommand:
    def test_bfloat16(self) -> None:
        code, out, _ = run([*TINY, "--dtype", "bf16"])
        assert code == 0
        assert "products in bfloat16" in out
        rows = table(FOLDER / "summary.csv")
        assert {(row["dtype"], row["compiled"]) for row in rows} == {("bfloat16", "False")}
        assert {row["status"] for row in rows} == {"ok"}

    @pytest.mark.usefixtures("no_compiler")
    def test_compiled(self) -> None:
        code, out, _ = run([*TINY, "--compile", "--budget", "0.05"])
        assert code == 0
        assert ", compiled" in out
        rows = table(FOLDER / "summary.csv")
        assert {row["compiled"] for row in rows} == {"True"}
        assert all(float(row["compile_s"]) > 0 for row in rows)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--dtype", "float16"], "train in float32, float64 or bfloat16"),
            (["--dtype", "bfloat16", "--compile", "x"], "x"),
        ],
    )
    def test_a_mistake_is_one_line(self, more: list[str], says: str) -> None:
        assert_mistake(run([*TINY, *more]), says)

    def test_without_a_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(function: Any, **options: Any) -> Any:
            def called(*arguments: Any) -> Any:
                raise RuntimeError("backend='inductor' raised:") from OSError("no g++ here")

            return called

        monkeypatch.setattr(torch, "compile", broken)
        assert_mistake(run([*TINY, "--compile"]), "no g++ here): install a C++ compiler")
        assert not FOLDER.exists()


@pytest.mark.slow
class TestInductor:
    def test_a_compiled_step_is_the_step(self) -> None:
        net, (X, y) = network(), batch()
        forward = Execution(compiled=True).pass_of(net, LOSS)
        forward.prepare(X, y)
        loss = forward(X, y)
        torch.testing.assert_close(loss, LOSS(net(X), y))
        found = torch.autograd.grad(loss, list(net.parameters()))
        for a, b in zip(found, torch.autograd.grad(LOSS(net(X), y), net.parameters()), strict=True):
            torch.testing.assert_close(a, b)

    def test_more_networks_than_torch_compiles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By default, torch stops compiling after 8 graphs of a function and only logs it."""
        from torch._dynamo.utils import counters

        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
        counters.clear()
        passes = []
        for width in range(4, 16):
            torch.manual_seed(0)
            passes.append(Execution(compiled=True).pass_of(mlp([12, width, 3]), LOSS))
            passes[-1].prepare(*batch())
        graphs = counters["stats"]["unique_graphs"]
        assert graphs == len(passes)
        for forward in passes:
            forward(*batch())
        assert counters["stats"]["unique_graphs"] == graphs

    def test_a_compiler_that_is_not_there(self, tmp_path: Path) -> None:
        environment = os.environ | {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "svdbench", *TINY, "--compile"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "install a C++ compiler" in done.stderr


def test_the_probe_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", eager)
    execution.check_compiler(torch.device("cpu"))
