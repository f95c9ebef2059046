"""Constants that are made once: what a CUDA graph reads is not freed."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from svdbench.kernels import ut


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether a CUDA graph is being captured, without CUDA."""
    state = {"now": False}
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state["now"])
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return state


def test_constants_of_a_gpu_are_kept_for_good(capturing: dict[str, bool]) -> None:
    @ut._made_once
    def numbers(k: int, device: torch.device) -> Tensor:
        return torch.arange(k)

    gpu = torch.device("cuda", 0)
    first = numbers(0, gpu)
    assert all(numbers(k, gpu) is not first for k in range(1, 200))
    assert numbers(0, gpu) is first
    capturing["now"] = True
    assert numbers(0, gpu) is first
    # Made within a graph, they have no values before its first replay.
    assert numbers(777, gpu) is not numbers(777, gpu)
    capturing["now"] = False
    assert numbers(777, gpu) is numbers(777, gpu)


def test_constants_of_a_cpu_are_made_once() -> None:
    assert ut.identity(3, torch.float32, torch.device("cpu")) is ut.identity(
        3, torch.float32, torch.device("cpu")
    )
