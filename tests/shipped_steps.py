"""Which kernels a step asks for that are not compiled ahead, run by test_triton_ahead.py.

In a process of its own, as Triton's interpreter is on in that of the tests. Prints their names.
"""

import os

os.environ.pop("TRITON_INTERPRET", None)

import torch
from promises import idle_driver
from triton.backends.compiler import GPUTarget

from svdbench.kernels import triton_ahead, triton_delta, triton_recurrence, triton_scan
from svdbench.kernels.apply import Apply
from svdbench.kernels.plans import Plan

idle_driver.install()


def step(n: int, d: int, m: int, plan: Plan, dtype: torch.dtype) -> None:
    V = torch.randn(n, d).to(dtype).requires_grad_()
    X = torch.randn(d, m).to(dtype).requires_grad_()
    out = Apply.apply(V, X, None, plan, False)
    torch.autograd.grad(out, (V, X), torch.ones_like(out))


def key(src: object, options: dict[str, int | None]) -> tuple[object, ...]:
    return src.hash(), options["num_warps"], options["maxnreg"]  # type: ignore[attr-defined]


if __name__ == "__main__":
    for d, m in ((256, 32), (250, 33)):
        step(d, d, m, Plan(16, "triton"), torch.float32)
    step(64, 512, 32, Plan(64, "triton"), torch.float32)
    for d, m in ((512, 32), (450, 33), (512, 128)):
        step(d, d, m, Plan(512, "tiles"), torch.float32)
    step(512, 512, 32, Plan(512, "tiles"), torch.bfloat16)
    for n in (64, 128, 256):
        states = triton_recurrence.forward(torch.randn(3, 5, n), torch.eye(n), None, None, "tanh")
        triton_recurrence.backward(states, torch.eye(n), states, "tanh")
    for n in (16, 15):
        a, b, none = torch.randn(3, 5, n), torch.randn(3, 5, n), None
        for factors, added in ((a, b), (a[0, 0], b), (a[0, 0] + 0j, b + 0j)):
            triton_scan.scan(factors, added, none)
            triton_scan.scan(factors, added, none, backward=True)
        triton_scan.gated_gradient(a, b, none, triton_scan.gated_scan(a, b, none), b)
    for d_k, values in ((16, True), (20, False)):
        v, square = torch.randn(40, 3, 2, 16), torch.randn(5, 3, 16, 16)
        K, Q = torch.randn(5, 3, 16, d_k), torch.randn(5, 3, 8, d_k)
        MD, b, first = square[..., :8, :], square[..., 0], torch.randn(3, d_k, 16)
        triton_delta.states(K, Q, square, MD, b, v if values else None, first, 40, 2)
        at_states = torch.randn(5, 3, d_k, 16) if values else None
        triton_delta.gradients(K, Q, square, MD, b, v[:, :, 0], at_states, 2)
    target = GPUTarget("cuda", 90, 32)
    ahead = {key(triton_ahead.source(b, target), b.options) for b in triton_ahead.shipped()}
    for kernel in idle_driver.compiled:
        if key(kernel.src, kernel.options) not in ahead:
            print(kernel.src.name, kernel.src.signature, kernel.src.constants, kernel.src.attrs)
