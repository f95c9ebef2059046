"""What is asked of CUDA, where no GPU is: the calls themselves are judged."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from svdbench.config.base import DeviceConfig, Placement
from svdbench.errors import Failed, device_lost
from svdbench.jobs.time_svd.drivers import Auto, SVDProblem
from svdbench.jobs.train import processes
from svdbench.lowrank.drivers import truncated
from svdbench.lowrank.drivers.base import SVD, factorise
from svdbench.lowrank.drivers.truncated import choose_driver
from svdbench.measure import machine
from svdbench.measure.clock import WallClock
from svdbench.measure.plan import Contender, TimingPlan, failure, measure
from svdbench.record.environment import gpu_driver
from svdbench.running.session import device_of, machine_line
from svdbench.timings.session import Timed
from svdbench.training import parallel
from svdbench.training.config import Train, Trainer

Calls = list[tuple[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Two GPUs, as far as anybody asks, and what was asked of them, in order."""
    found: Calls = []

    def noted(name: str, answer: Any = None) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            found.append((name, options or (arguments[0] if arguments else None)))
            return answer

        return call

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    for name in ("set_device", "synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, noted(name))
    monkeypatch.setattr(torch.cuda, "memory_allocated", noted("memory_allocated", 100))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", noted("max_memory_allocated", 160))
    monkeypatch.setattr(dist, "init_process_group", noted("init_process_group"))
    return found


class TestDevice:
    def test_a_numbered_one_becomes_the_current_one(self, calls: Calls) -> None:
        assert device_of(Placement(device="cuda:1")) == torch.device("cuda:1")
        assert calls == [("set_device", torch.device("cuda:1"))]
        calls.clear()
        device_of(Placement(device="cuda"))
        device_of(Placement(device="cpu"))
        assert calls == []

    def test_the_line_of_a_run_names_that_one_alone(self, calls: Calls) -> None:
        environment: Mapping[str, Any] = {"cpu": "a CPU", "gpus": ["GPU A", "GPU B"]}
        line = machine_line(environment, DeviceConfig(device="cuda:1"))
        assert line.startswith("GPU of cuda:1, float32")
        assert machine_line(environment, DeviceConfig()).startswith("a CPU, ")


class TestMeasure:
    def test_the_peak_is_of_that_device(self, calls: Calls) -> None:
        assert machine.peak_bytes(lambda: calls.append(("fn", None)), "cuda:1") == 60
        assert [name for name, _ in calls] == [
            *("synchronize", "reset_peak_memory_stats", "memory_allocated"),
            *("fn", "synchronize", "max_memory_allocated"),
        ]
        assert {device for name, device in calls if name != "fn"} == {torch.device("cuda:1")}

    @pytest.mark.parametrize(
        ("free", "size", "copied"),
        [(140 << 30, 8192, 1 << 30), (2 << 30, 8192, 1 << 28), (1 << 30, 4096, 1 << 27)],
    )
    def test_rates_fit_into_the_memory_that_is_free(
        self, free: int, size: int, copied: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: dict[str, int] = {}

        def matmul(*_: Any, size: int, budget_s: float) -> float:
            asked["size"] = size
            return 1.0

        def copy(*_: Any, size_bytes: int) -> float:
            asked["copied"] = size_bytes
            return 1.0

        monkeypatch.setattr(machine, "matmul_rate", matmul)
        monkeypatch.setattr(machine, "copy_rate", copy)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
        machine.rates_of(torch.float32, "cuda", WallClock())
        assert asked == {"size": size, "copied": copied}

    def test_recurrences_of_cudnn_are_as_precise_as_products(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        machine.same_precision("cpu")
        assert torch.backends.cudnn.allow_tf32
        machine.same_precision("cuda:0")
        assert not torch.backends.cudnn.allow_tf32


class TestErrors:
    LOST = "CUDA error: an illegal memory access was encountered"

    @pytest.mark.parametrize(
        "text", ["CUDA error: out of memory", "Triton Error [CUDA]: out of memory"]
    )
    def test_too_little_memory_whoever_says_so(self, text: str) -> None:
        assert failure(RuntimeError(text)) == ("oom", "not enough GPU memory")
        assert not device_lost(RuntimeError(text))

    def test_a_lost_gpu_ends_a_run_and_names_who_lost_it(self) -> None:
        ran: list[str] = []

        def crash() -> None:
            raise RuntimeError(self.LOST)

        contenders = [
            Contender("fine", lambda: ran.append("fine"), lambda output: None),
            Contender("bad", crash, lambda output: None),
            Contender("never", lambda: ran.append("never"), lambda output: None),
        ]
        with pytest.raises(Failed, match=r"bad failed, and the GPU can't be used .* leave bad out"):
            measure(contenders, TimingPlan(budget_s=0.01), WallClock())
        assert set(ran) == {"fine"}
        assert not device_lost(RuntimeError("CUDA error: invalid configuration argument"))

    def test_nor_does_the_gate_go_on(self) -> None:
        class Entry(Timed):
            def contender(self, before: Callable[[], None] | None) -> Contender:
                return Contender(self.name, crash, lambda output: None)

        def crash() -> None:
            raise RuntimeError(self.LOST)

        with pytest.raises(Failed, match="gram failed"):
            Entry("gram").attempt(crash)


def test_the_driver_is_part_of_the_environment(tmp_path: Path) -> None:
    said = tmp_path / "version"
    said.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build\n"
    )
    assert gpu_driver(said) == "580.159.03"
    said.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun\n")
    assert gpu_driver(said) == "535.54.03"
    assert gpu_driver(tmp_path / "none") is None


class TestLowRank:
    def test_a_gpu_has_a_choice_of_its_own(self) -> None:
        # Jacobi's SVD is never the fastest there; an eigenproblem of few probes is.
        sizes = [(m, n, k) for m in (8, 64, 512, 2048) for n in (8, 128, 1024) for k in (1, 5, 64)]
        chosen = {s: choose_driver(*s, "cuda") for s in sizes if s[2] <= min(s[:2])}
        assert set(chosen.values()) == {"gram", "randomized"}
        assert chosen[2048, 1024, 5] == "randomized"
        assert chosen[8, 8, 5] == "gram"
        assert choose_driver(10, 15, 5) == "svd"

    def test_it_is_told_the_device_of_the_matrix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[Any, ...]] = []

        def choose(*arguments: Any) -> str:
            asked.append(arguments)
            return "gram"

        monkeypatch.setattr(truncated, "choose_driver", choose)
        truncated.truncated_svd(torch.randn(6, 5), 2)
        assert asked == [(6, 5, 2, "cpu")]

    def test_a_timing_tells_what_was_chosen_on_its_device(self) -> None:
        case = SVDProblem(10, 15, 5, "step", device="cuda:0")
        assert Auto().described(case) == choose_driver(10, 15, 5, "cuda") == "gram"

    def test_what_cusolver_says_of_nan(self) -> None:
        def fails(A: Tensor, k: int) -> SVD:
            raise RuntimeError("cusolver error: CUSOLVER_STATUS_INVALID_VALUE")

        A = torch.randn(4, 3)
        with pytest.raises(RuntimeError, match="CUSOLVER"):
            factorise(fails, A, 2)
        A[0, 0] = torch.nan
        with pytest.raises(ValueError, match="NaN or infinite"):
            factorise(fails, A, 2)


class TestProcesses:
    def test_the_gpu_is_chosen_before_the_others_are_met(self, calls: Calls) -> None:
        parallel.join_on_gpu(1)
        device = torch.device("cuda:1")
        assert calls == [
            ("set_device", device),
            ("init_process_group", {"device_id": device}),
        ]

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_each_takes_its_own_gpu(
        self, device: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LOCAL_RANK", "1")
        for library in ("GLOO", "NCCL"):
            monkeypatch.delenv(f"{library}_SOCKET_IFNAME", raising=False)
        monkeypatch.setattr(processes.sys, "platform", "linux")
        processes._meet(Train(trainer=Trainer(device=device)), "", parallel.Ranks())
        expected = ["set_device", "init_process_group"] if device == "cuda" else []
        assert [name for name, _ in calls if device == "cuda"] == expected
        # Of one node, whatever its network is like.
        names = [os.environ.pop(f"{library}_SOCKET_IFNAME") for library in ("GLOO", "NCCL")]
        assert names == ["lo", "lo"]
