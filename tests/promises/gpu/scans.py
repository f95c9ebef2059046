"""Linear recurrences in ``make gpu``: cases for its first part, steps to time for its second."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from svdbench.kernels import triton_delta, triton_scan
from svdbench.nn import delta_rule, scans

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


class DeltaCase(NamedTuple):
    """Both passes of the delta rule over T steps of Z sequences, with r reflectors a step."""

    T: int
    Z: int
    r: int
    d_k: int
    d_v: int
    writes: bool = True

    def __str__(self) -> str:
        size = f"T {self.T} Z {self.Z} r {self.r} keys {self.d_k} values {self.d_v}"
        return f"delta, {size}{'' if self.writes else ' without writes'}"

    def allowance(self, precision: str, kernel: str) -> float:
        """As of scans; of a product in TF32, a thousandth for each of its chunks' square root."""
        eps = 1e-3 if precision == "tf32" else torch.finfo(torch.float32).eps
        return 32 * math.sqrt(self.T * self.r) * eps

    def run(self, device: str, watch: Callable[[Any], Any]) -> None:
        """Both passes on random numbers, with every kernel watched, in memory full of NaN."""
        given, G = self.tensors(device)
        with _watched(watch), _poisoned(), _by_kernels(True):
            outputs, states = delta_rule.delta_rule(*given)
            at_states = torch.ones_like(states)
            torch.autograd.grad((outputs, states), given[0], (G, at_states))

    def tensors(self, device: str) -> tuple[list[Any], Tensor]:
        """What the rule is given, in order; and the gradients at the outputs."""
        torch.manual_seed(0)
        T, Z, r, d_k, d_v = self.T, self.Z, self.r, self.d_k, self.d_v
        shapes = (T, Z, r, d_k), (T, Z, r, d_v), (T, Z, r), (T, Z, d_k), (Z, d_k, d_v), (T, Z, d_v)
        k, v, beta, q, first, G = (torch.randn(*shape).to(device) for shape in shapes)
        k = torch.nn.functional.normalize(k, dim=-1)
        given = [k, v, 2 * torch.sigmoid(beta), q, first]
        leaves: list[Any] = [t.requires_grad_() for t in given]
        if not self.writes:
            leaves[1] = None
        return leaves, G

    def step(self, device: str, by_kernels: bool = True) -> Step:
        """A forward and backward pass as a user has it, or by operations of PyTorch."""
        given, G = self.tensors(device)
        inputs = [t for t in given if t is not None]

        def run() -> Any:
            with nullcontext() if by_kernels else _by_kernels(False):
                return torch.autograd.grad(delta_rule.delta_rule(*given)[0], inputs, G)

        return run


def cases() -> list[ScanCase | DeltaCase]:
    """Every kernel at odd sizes, then other factors, and sizes of 1."""
    return [
        ScanCase("scan", 7, 3, 11),
        ScanCase("complex", 7, 3, 11, constant=True),
        ScanCase("gated", 7, 3, 11),
        DeltaCase(19, 2, 2, 5, 17),
        ScanCase("scan", 7, 3, 11, constant=True),
        ScanCase("complex", 7, 3, 11),
        *(ScanCase(kind, 1, 1, 1) for kind in ("scan", "complex", "gated")),
        DeltaCase(1, 1, 1, 1, 1),
        DeltaCase(40, 3, 1, 32, 16, writes=False),
    ]


def timed_steps(
    device: str, rehearsal: bool
) -> Iterator[tuple[ScanCase | DeltaCase, str, Callable[[], Step]]]:
    """What the second part times: recurrences by kernels and by operations.

    Those of minGRU, LRU and DeltaProduct.
    """
    for T, Z in ((3, 2),) if rehearsal else ((200, 200), (1000, 256)):
        delta = DeltaCase(T, Z, 2, 16, 16)
        yield delta, "kernels", partial(delta.step, device)
        yield delta, "operations", partial(delta.step, device, by_kernels=False)
    for T, B, n in ((3, 2, 4),) if rehearsal else ((200, 50, 128), (1000, 64, 256)):
        for case in (ScanCase("gated", T, B, n), ScanCase("complex", T, B, n, constant=True)):
            yield case, "kernels", partial(case.step, device)
            yield case, "operations", partial(case.plain_step, device)


@contextmanager
def _watched(watch: Callable[[Any], Any]) -> Iterator[None]:
    """Every kernel is what ``watch`` makes of it."""
    before = [
        (vars(module), name, kernel)
        for module in (triton_scan, triton_delta)
        for name, kernel in vars(module).items()
        if name.endswith("_kernel")
    ]
    for names, name, kernel in before:
        names[name] = watch(kernel)
    try:
        yield
    finally:
        for names, name, kernel in before:
            names[name] = kernel


@contextmanager
def _by_kernels(wanted: bool) -> Iterator[None]:
    """Whether the delta rule runs by kernels, wherever it is."""
    before = delta_rule.runs_in_kernels
    delta_rule.runs_in_kernels = lambda keys, reflectors: wanted
    try:
        yield
    finally:
        delta_rule.runs_in_kernels = before


@contextmanager
def _poisoned() -> Iterator[None]:
    """Fills fresh memory with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
