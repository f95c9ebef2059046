"""Linear recurrences in ``make gpu``: cases for its first part, steps to time for its second."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from svdbench.kernels import triton_scan
from svdbench.nn import scans

Step = Callable[[], Any]


class ScanCase(NamedTuple):
    """Both passes of "scan", "complex" or "gated" over T steps of B times n numbers."""

    kind: str
    T: int
    B: int
    n: int
    constant: bool = False  # the same factors at all steps

    def __str__(self) -> str:
        return f"{self.kind}, T {self.T} B {self.B} n {self.n}{' constant' * self.constant}"

    def allowance(self, precision: str, kernel: str) -> float:
        """32·√T·eps, as of the other kernels."""
        return 32 * math.sqrt(self.T) * torch.finfo(torch.float32).eps

    def run(self, device: str, watch: Callable[[Any], Any]) -> None:
        """Both passes on random numbers, with every kernel watched, in memory full of NaN."""
        (a, b, h0), G = self.tensors(device)
        with _watched(watch), _poisoned():
            if self.kind == "gated":
                triton_scan.gated_gradient(a, b, h0, triton_scan.gated_scan(a, b, h0), G)
            else:
                triton_scan.scan(a, b, h0)
                triton_scan.scan(a, G, None, backward=True)

    def tensors(self, device: str) -> tuple[list[Tensor], Tensor]:
        """Factors or gates, inputs and the first state; and the gradients at the states."""
        torch.manual_seed(0)
        T, B, n = self.T, self.B, self.n
        dtype = torch.complex64 if self.kind == "complex" else torch.float32
        shapes = (n,) if self.constant else (T, B, n), (T, B, n), (B, n), (T, B, n)
        a, b, h0, G = (torch.randn(*shape, dtype=dtype).to(device) for shape in shapes)
        if self.kind != "gated":
            a = a / (1 + a.abs())
        return [a, b, h0], G

    def step(self, device: str) -> Step:
        """A forward and backward pass as a user has it."""
        given, G = self.tensors(device)
        given = [t.requires_grad_() for t in given]
        f = scans.gated_scan if self.kind == "gated" else scans.scan
        return lambda: torch.autograd.grad(f(*given), given, G)

    def plain_step(self, device: str) -> Step:
        """The same by operations of PyTorch."""
        step = self.step(device)

        def run() -> Any:
            before = scans.runs_in_one_kernel
            scans.runs_in_one_kernel = lambda inputs: False
            try:
                return step()
            finally:
                scans.runs_in_one_kernel = before

        return run


def cases() -> list[ScanCase]:
    """Every kernel at odd sizes, then other factors, and sizes of 1."""
    return [
        ScanCase("scan", 7, 3, 11),
        ScanCase("complex", 7, 3, 11, constant=True),
        ScanCase("gated", 7, 3, 11),
        ScanCase("scan", 7, 3, 11, constant=True),
        ScanCase("complex", 7, 3, 11),
        *(ScanCase(kind, 1, 1, 1) for kind in ("scan", "complex", "gated")),
    ]


def timed_steps(device: str, rehearsal: bool) -> Iterator[tuple[ScanCase, str, Callable[[], Step]]]:
    """What the second part times: minGRU's and LRU's recurrence by kernels and by operations."""
    for T, B, n in ((3, 2, 4),) if rehearsal else ((200, 50, 128), (1000, 64, 256)):
        for case in (ScanCase("gated", T, B, n), ScanCase("complex", T, B, n, constant=True)):
            yield case, "kernels", partial(case.step, device)
            yield case, "operations", partial(case.plain_step, device)


@contextmanager
def _watched(watch: Callable[[Any], Any]) -> Iterator[None]:
    """Every kernel is what ``watch`` makes of it."""
    before = {name: of for name, of in vars(triton_scan).items() if name.endswith("_kernel")}
    vars(triton_scan).update({name: watch(kernel) for name, kernel in before.items()})
    try:
        yield
    finally:
        vars(triton_scan).update(before)


@contextmanager
def _poisoned() -> Iterator[None]:
    """Fills fresh memory with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
