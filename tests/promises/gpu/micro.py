"""A part of ``make gpu``: what the GPU itself can do, in twenty seconds.

What the model of a step assumes (``promises.gpu_model``): an empty launch, factorisations and
solves as Cayley's rival takes, products as small as ours, rates, and products of Triton in each
precision with their errors. Also whether operands in TF32 are rounded or cut off, which the
interpreter can't show. Writes ``micro.csv``.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from promises.gpu.exact import relative
from promises.gpu.steps import captured
from svdbench.errors import one_line
from svdbench.kernels.triton_precision import product
from svdbench.measure.clock import clock_of, timed
from svdbench.measure.machine import copy_rate, matmul_rate

PRECISIONS = ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
Measured = tuple[float, str]


@triton.jit
def empty_kernel(p_x):  # type: ignore[no-untyped-def]
    """Does nothing."""


@triton.jit
def dot_kernel(  # type: ignore[no-untyped-def]
    p_x, p_y, p_out, turns, PRECISION: tl.constexpr, ROUNDED: tl.constexpr, SIDE: tl.constexpr,
    BM: tl.constexpr,
):  # fmt: skip
    """A program adds up as many products x y of (SIDE, SIDE) and (SIDE, BM) as there are turns."""
    o_s, o_m = tl.arange(0, SIDE), tl.arange(0, BM)
    b_x = tl.load(p_x + o_s[:, None] * SIDE + o_s[None, :])
    b_y = tl.load(p_y + o_s[:, None] * BM + o_m[None, :])
    b_sum = tl.zeros((SIDE, BM), tl.float32)
    for _ in range(turns):
        if ROUNDED:
            b_sum += product(b_x, b_y, PRECISION)
        else:
            b_sum += tl.dot(b_x, b_y, input_precision=PRECISION)
    tl.store(p_out + tl.program_id(0) * SIDE * BM + o_s[:, None] * BM + o_m[None, :], b_sum)


class Bench:
    """Measurements on one device, with sizes for it."""

    def __init__(self, device: str) -> None:
        self.device, self.clock, self.gpu = device, clock_of(device), device == "cuda"
        self.kernels = self.gpu or os.environ.get("TRITON_INTERPRET") == "1"

    def us(self, work: Callable[[], Any], count: int = 15) -> float:
        """The median microseconds of a call."""
        work()
        return 1e6 * median(timed(self.clock, work) for _ in range(count if self.gpu else 3))

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device)

    def all(self) -> Iterator[tuple[str, Callable[[], Measured]]]:
        """What is measured, by name."""
        yield "launch of an operation", self.launch
        if self.kernels:
            yield "empty kernel of Triton", self.empty
        for d in (64, 256, 1024, 2048) if self.gpu else (16,):
            yield f"lu_factor, d = {d}", partial(self.factor, d)
            yield f"lu_solve, d = {d}, m = 32", partial(self.solve, d)
        for k, d, m in ((512, 1024, 32), (512, 2048, 128)) if self.gpu else ((16, 16, 4),):
            yield f"product ({k} × {d}) ({d} × {m})", partial(self.product, k, d, m)
        for dtype in (torch.float32, torch.bfloat16):
            yield f"rate of products in {dtype}", partial(self.rate, dtype)
        yield "copy", self.copy
        if self.kernels:
            for precision in PRECISIONS:
                yield f"tl.dot 64 × 64 × 64, {precision}", partial(self.dot, precision, 64)
            for width in (16, 8, 4):
                yield f"tl.dot 64 × 64 × {width}, ieee", partial(self.dot, "ieee", width)
            yield "operands of tl.dot in TF32", partial(self.tf32, False)
            yield "operands of our products in TF32", partial(self.tf32, True)

    def launch(self) -> Measured:
        x = self.random(8)
        each = self.us(lambda: [x.add_(0) for _ in range(100)]) / 100
        return each, "µs, 100 in a row"

    def empty(self) -> Measured:
        x = self.random(8)

        def hundred() -> None:
            for _ in range(100 if self.gpu else 2):
                empty_kernel[(1,)](x)

        each = self.us(hundred) / 100
        if not self.gpu:
            return each, "µs by the interpreter"
        return each, f"µs; replayed {self.us(captured(hundred)) / 100:.2f}"

    def factor(self, d: int) -> Measured:
        A = self.random(d, d)
        return self.us(lambda: torch.linalg.lu_factor(A)), "µs"

    def solve(self, d: int) -> Measured:
        LU, pivots = torch.linalg.lu_factor(self.random(d, d))
        B = self.random(d, 32)
        return self.us(lambda: torch.linalg.lu_solve(LU, pivots, B)), "µs"

    def product(self, k: int, d: int, m: int) -> Measured:
        A, B = self.random(k, d), self.random(d, m)
        return self.us(lambda: A @ B), "µs"

    def rate(self, dtype: torch.dtype) -> Measured:
        size = 8192 if self.gpu else 256
        found = matmul_rate(dtype, self.device, self.clock, size=size, budget_s=0.2)
        return found / 1e12, "Tflop/s"

    def copy(self) -> Measured:
        found = copy_rate(self.device, self.clock, size_bytes=1 << (29 if self.gpu else 22))
        return found / 1e12, "TB/s, read and written"

    def dot(self, precision: str, width: int) -> Measured:
        """In each of 132 programs; the error of one product."""
        x, y, programs = self.random(64, 64), self.random(64, width), 132 if self.gpu else 1
        out = torch.full((programs, 64, width), torch.nan, device=self.device)

        def run(turns: int) -> None:
            dot_kernel[(programs,)](
                x, y, out, turns, PRECISION=precision, ROUNDED=False, SIDE=64, BM=width
            )

        run(1)
        right = x.double() @ y.double()
        error = relative(out[0].double(), right)
        turns = 200 if self.gpu else 1
        each = self.us(partial(run, turns)) / turns
        return each, f"µs a product; error {error:.1e}"

    def tf32(self, ours: bool) -> Measured:
        """The product of 1 + 3·2⁻¹² and 1: 1 if cut off after 10 bits, 1 + 2⁻¹⁰ if rounded."""
        x, y = torch.eye(64, device=self.device) * (1 + 3 * 2.0**-12), torch.eye(64).to(self.device)
        out = torch.full((1, 64, 64), torch.nan, device=self.device)
        dot_kernel[(1,)](x, y, out, 1, PRECISION="tf32", ROUNDED=ours, SIDE=64, BM=64)
        found = float(out[0, 0, 0])
        words = {1.0: "cut off", 1 + 2.0**-10: "rounded", 1 + 3 * 2.0**-12: "kept as they are"}
        return found, words.get(found, "neither rounded nor cut off")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 if something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu.micro")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rehearse", choices=("interpreter", "host"))
    parser.add_argument("--seconds", type=float, default=20.0, help="after which nothing begins")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    end, whole = time.monotonic() + options.seconds, True
    torch.manual_seed(0)
    with open(options.folder / "micro.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("what", "value", "unit"))
        for name, measure in Bench("cpu" if options.rehearse else "cuda").all():
            if time.monotonic() > end:
                print(f"not reached: {name}", flush=True)
                continue
            try:
                value, words = measure()
            except Exception as error:
                known = name.startswith("tl.dot") and "ieee" not in name  # in some Tritons only
                whole &= known
                value, words = float("nan"), f"not to be had: {one_line(error)}"
            rows.writerow((name, f"{value:.5g}", words))
            print(f"{name}: {value:.5g} {words}", flush=True)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
