"""Everything outside the kernels that touches CUDA, once: a part of ``make gpu``.

Without a GPU the same runs on the CPU, but for what only a GPU has. No test needs Hydra.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from promises.gpu.timings import as_yaml
from torch import Tensor, nn

from svdbench.jobs.time_rnn import LoopSizes, TimeRNN
from svdbench.jobs.time_rnn import run as time_rnn
from svdbench.jobs.time_svd import MatrixSizes, TimeSVD
from svdbench.jobs.time_svd import run as time_svd
from svdbench.jobs.train import run as train
from svdbench.lowrank import compress, truncated_svd
from svdbench.lowrank.costs import latencies
from svdbench.measure.clock import EventClock, WallClock, clock_of, timed
from svdbench.measure.machine import emptier, peak_bytes, rates_of
from svdbench.members import DRIVERS, LOOPS, MODELS, TASKS
from svdbench.nn import OrthogonalRNN, SpectralRNN, SVDLinear, orthogonal
from svdbench.nn.delta_rule import delta_rule
from svdbench.nn.recurrence import recurrence, recurrence_reference
from svdbench.nn.scans import gated_scan, scan
from svdbench.record.lines import read_rows
from svdbench.running.session import device_of
from svdbench.timings.config import Measure
from svdbench.training.config import Adam, Train, Trainer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = Path(__file__).resolve().parents[1]
gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs an NVIDIA GPU that torch can see")
MEASURE = Measure(budget_s=0.2, min_reps=2, max_reps=3, warmup_reps=1)


def statuses(folder: Path) -> dict[str, str]:
    """Of each method, with the reason."""
    rows = read_rows(folder / "summary.csv")
    return {row["method"]: f"{row['status']} {row['reason']}".strip() for row in rows}


class TestMeasure:
    @gpu
    def test_events_and_the_wall_agree_on_long_work(self) -> None:
        A = torch.randn(4096, 4096, device=DEVICE)

        def work() -> None:
            for _ in range(20):
                torch.mm(A, A)

        work()
        events, wall = (timed(clock, work) for clock in (EventClock(DEVICE), WallClock(DEVICE)))
        assert events == pytest.approx(wall, rel=0.2)

    @gpu
    def test_events_of_the_stream_that_works(self) -> None:
        A, clock = torch.randn(2048, 2048, device=DEVICE), EventClock(DEVICE)
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.mm(A, A)
            assert timed(clock, lambda: torch.mm(A, A)) > 0

    def test_peak_memory_is_that_of_the_call(self) -> None:
        held = torch.zeros(1 << 20, device=DEVICE)
        found = peak_bytes(lambda: torch.zeros(1 << 20, device=DEVICE) + held, DEVICE)
        assert found is not None
        assert 8 << 20 <= found <= 9 << 20

    def test_rates(self) -> None:
        found = rates_of(torch.float32, DEVICE, clock_of(DEVICE))
        assert found.matmul > 1e9
        assert found.copy > 1e8

    @gpu
    def test_a_cold_step_is_no_faster_than_the_copy_of_its_bytes(self) -> None:
        x, clock, empty = torch.zeros(1 << 24, device=DEVICE), clock_of(DEVICE), emptier(DEVICE)
        empty()
        assert timed(clock, lambda: x.add_(1)) > 1e-6

    @gpu
    def test_a_graph_replays_a_recurrence(self) -> None:
        u, W = torch.randn(5, 3, 8, device=DEVICE), torch.randn(8, 8, device=DEVICE)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            recurrence(u, W)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            states = recurrence(u, W)
        u.copy_(torch.randn_like(u))
        graph.replay()
        torch.cuda.synchronize()
        assert torch.allclose(states, recurrence_reference(u, W), atol=1e-5)


class TestRecurrence:
    @pytest.mark.parametrize(("T", "B", "n"), [(7, 5, 33), (1, 1, 1), (20, 3, 64)])
    @pytest.mark.parametrize("activation", ["tanh", "modrelu"])
    def test_states_and_gradients(self, T: int, B: int, n: int, activation: str) -> None:
        given = [torch.randn(T, B, n), torch.randn(n, n) / n**0.5, torch.randn(B, n)]
        if activation == "modrelu":
            given.append(torch.randn(n))
        G = torch.randn(T, B, n)
        ours = [t.to(DEVICE).requires_grad_() for t in given]
        exactly = [t.double().requires_grad_() for t in given]
        found, right = step(ours, G, activation, False), step(exactly, G, activation, True)
        for value, exact in zip(found, right, strict=True):
            assert float((value.cpu().double() - exact).norm()) <= 1e-4 * float(exact.norm() + 1)

    @pytest.mark.parametrize("kind", [SpectralRNN, OrthogonalRNN])
    def test_layers(self, kind: Any) -> None:
        layer, x = kind(3, 16, device=DEVICE), torch.randn(6, 2, 3, device=DEVICE)
        states, _ = layer(x)
        states.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def step(given: list[Tensor], G: Tensor, activation: str, plain: bool) -> list[Tensor]:
    """States and gradients."""
    u, W, h0, *bias = given
    run = recurrence_reference if plain else recurrence
    states = run(u, W, h0, activation=activation, bias=bias[0] if bias else None)
    return [states.detach(), *torch.autograd.grad(states, given, G.to(u))]


class TestLinearRecurrences:
    @pytest.mark.parametrize("kind", ["real", "complex", "gated", "delta"])
    @pytest.mark.parametrize(("T", "B", "n"), [(20, 3, 17), (1, 1, 1), (70, 2, 32)])
    def test_results_and_gradients(self, kind: str, T: int, B: int, n: int) -> None:
        f: Any = gated_scan if kind == "gated" else scan
        given = [torch.rand(T, B, n), torch.randn(T, B, n), torch.randn(B, n)]
        if kind == "complex":
            eigenvalues = torch.polar(torch.rand(n), 6 * torch.rand(n))
            given = [eigenvalues, *(torch.complex(t, t.flip(0)) for t in given[1:])]
        if kind == "delta":
            keys = nn.functional.normalize(torch.randn(T, B, 2, n), dim=-1)
            given = [keys, torch.randn(T, B, 2, 5), 2 * torch.rand(T, B, 2), given[1]]
            given.append(torch.randn(B, n, 5))
            f = delta_rule
        results = []
        for device, double in ((DEVICE, False), ("cpu", True)):
            own = [
                (t.to(torch.promote_types(t.dtype, torch.double)) if double else t) for t in given
            ]
            own = [t.to(device).requires_grad_() for t in own]
            out = f(*own)[0] if kind == "delta" else f(*own)
            loss = (out * out.detach().cos()).sum().abs()
            results.append([out.detach(), *torch.autograd.grad(loss, own)])
        for found, exact in zip(*results, strict=True):
            error = (found.cpu().to(exact.dtype) - exact).norm()
            assert float(error) <= 1e-4 * float(exact.norm() + 1)


class TestLayers:
    def test_orthogonal(self) -> None:
        layer = orthogonal(nn.Linear(48, 33, device=DEVICE))
        layer(torch.randn(5, 48, device=DEVICE)).sum().backward()
        W = layer.weight.detach().double()
        assert torch.allclose(W @ W.mT, torch.eye(33, device=DEVICE).double(), atol=1e-5)

    def test_svd_linear(self) -> None:
        layer = SVDLinear.from_linear(nn.Linear(24, 17).to(DEVICE))
        x = torch.randn(5, 24, device=DEVICE)
        assert torch.allclose(layer(x), layer.to_linear()(x), atol=1e-4)


class TestLowRank:
    @pytest.mark.parametrize("driver", ["auto", "svd", "gram", "randomized"])
    @pytest.mark.parametrize("shape", [(33, 65), (129, 64), (1, 9), (3, 40, 24), (2, 3, 17, 70)])
    def test_drivers(self, driver: str, shape: tuple[int, ...]) -> None:
        A = torch.randn(*shape, device=DEVICE)
        k = min(5, *shape[-2:])
        U, S, Vh = truncated_svd(A, k, driver=driver)
        exact = torch.linalg.svdvals(A.cpu().double())
        rest = exact[..., k:].square().sum(-1).sqrt()
        error = (A - U * S.unsqueeze(-2) @ Vh).cpu().double().flatten(-2).norm(dim=-1)
        eye = torch.eye(k, device=DEVICE)
        assert torch.all(error <= 1.01 * rest + 1e-4 * exact[..., 0])
        for basis in (U, Vh.mT):
            assert torch.allclose(basis.mT @ basis, eye.expand(*shape[:-2], k, k), atol=1e-4)

    @gpu
    @pytest.mark.parametrize("driver", ["gesvdj", "gesvd"])
    @pytest.mark.parametrize("shape", [(33, 65), (129, 64), (4, 40, 24), (64, 32, 32)])
    def test_the_solvers_of_cuda(self, driver: str, shape: tuple[int, ...]) -> None:
        A = torch.randn(*shape, device=DEVICE)
        S = torch.linalg.svd(A, full_matrices=False, driver=driver).S.cpu().double()
        exact = torch.linalg.svdvals(A.cpu().double())
        assert torch.allclose(S, exact, rtol=1e-3, atol=1e-3 * float(exact.max()))

    def test_nan_is_told(self) -> None:
        for driver in ("auto", "svd", "gram", "randomized"):
            A = torch.randn(40, 30, device=DEVICE)
            A[3, 4] = torch.nan
            with pytest.raises(ValueError, match="NaN"):
                truncated_svd(A, 3, driver=driver)

    def test_compress_and_latencies(self) -> None:
        pytest.importorskip("scipy")
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).to(DEVICE)
        X = torch.randn(256, 16, device=DEVICE)
        found = compress(model, (X, X[:, :4].argmax(1)), params=0.6)
        assert next(found.model.parameters()).device.type == DEVICE
        times = latencies({"dense": model, "small": found.model}, X, budget_s=0.05)
        assert all(seconds > 0 for seconds in times.values())


class TestJobs:
    def test_time_rnn(self, tmp_path: Path, known_rates: None) -> None:
        rnn = {name: LOOPS.options_of(name) for name in LOOPS.names()}
        rnn["spectral"] = {"tune": False}
        rnn["fasth_each_step"] = rnn["fasth_each_step"] | {"tune": False}
        sizes = LoopSizes(hidden=[8], length=[3], batch=4, reflectors=[4])
        config = TimeRNN(
            sizes=sizes, rnn=rnn, measure=MEASURE, device=DEVICE, results=str(tmp_path)
        )
        found = statuses(time_rnn.run(config, as_yaml(config)))
        assert set(found.values()) == {"ok"}, found

    def test_time_svd(self, tmp_path: Path) -> None:
        drivers = {name: DRIVERS.options_of(name) for name in DRIVERS.names()}
        config = TimeSVD(
            sizes=MatrixSizes(shapes=["24x40"], ranks=[3]),
            spectra=["step"],
            svd_driver=drivers,
            measure=MEASURE,
            device=DEVICE,
            results=str(tmp_path),
            methods=["auto", "gram", "randomized", "torch_svd", "torch_svd_lowrank"],
        )
        found = statuses(time_svd.run(config, as_yaml(config)))
        assert set(found.values()) == {"ok"}, found

    def training(self, folder: Path, **changes: Any) -> Train:
        return Train(
            model_name="spectral_rnn",
            task_name="addition",
            model=MODELS.options_of("spectral_rnn") | {"hidden_size": 16},
            task=TASKS.options_of("addition") | {"length": 5, "test_size": 8},
            optimizer=Adam(),
            trainer=Trainer(steps=4, batch_size=8, evaluate_every=2, target=0, device=DEVICE),
            results=str(folder),
            **changes,
        )

    def test_train_and_resume(self, tmp_path: Path) -> None:
        config = self.training(tmp_path)
        done = train.run(config, as_yaml(config))
        assert done.endings == ["ok"]
        config.trainer.resume = str(done.folder / "seed-0" / "last.pt")
        config.trainer.steps = 6
        assert train.run(config, as_yaml(config)).endings == ["ok"]

    @gpu
    def test_train_in_a_process_for_each_gpu(self, tmp_path: Path) -> None:
        from svdbench.jobs.train.processes import launch

        if torch.cuda.device_count() < 2:
            pytest.skip("one GPU: NCCL alone is tested")
        config = self.training(tmp_path)
        config.trainer.processes = 2
        assert launch(config, as_yaml(config), None).endings == ["ok"]

    @gpu
    def test_a_group_of_one_by_nccl(self) -> None:
        script = (
            "import torch, torch.distributed as dist\n"
            "from svdbench.training.parallel import Ranks, join_on_gpu\n"
            "join_on_gpu(0)\n"
            "x = torch.ones(3, device='cuda')\n"
            "dist.all_reduce(x)\n"
            "assert x.tolist() == [1, 1, 1]\n"
            "values = ['told']\n"
            "dist.broadcast_object_list(values, src=0)\n"
            "dist.destroy_process_group()\n"
        )
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        done = python("-c", script, **alone)
        assert done.returncode == 0, done.stderr

    def test_doctor(self) -> None:
        done = python("-m", "svdbench", "doctor")
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        if DEVICE == "cuda":
            assert torch.cuda.get_device_name() in done.stdout

    def test_the_device_is_there(self) -> None:
        assert device_of(TimeRNN(device=DEVICE)).type == DEVICE


def python(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
