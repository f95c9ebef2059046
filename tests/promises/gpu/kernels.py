"""The first part of ``make gpu``: does each kernel compile, run, and agree with float64?

Passes at odd sizes, launch by launch, each waited for and judged by its own inputs
(``promises.gpu.exact``), in buffers of NaN. So a kernel that can't be compiled, reads where
nothing is or computes something else is named. After an error from which the device's context
does not recover, the rest goes on in a new process. Writes ``kernels.csv``.
"""

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from promises.gpu import scans
from promises.gpu.exact import ERRORS
from svdbench.errors import one_line
from svdbench.kernels import triton_blocks, triton_tiles
from svdbench.kernels.plans import Plan
from svdbench.kernels.triton_launch import Launch, PassRecipe, ProductSizes
from svdbench.kernels.triton_precision import most_precise
from svdbench.kernels.triton_support import is_interpreted

COLUMNS = ("kernel", "case", "status", "error", "allowed", "registers", "spilled", "shared", "why")
WAYS = {"triton": triton_blocks, "tiles": triton_tiles}
# Of operands in TF32: half a unit of the last of 10 bits.
COARSE = 2.0**-11


class KernelCase(NamedTuple):
    """A forward and a backward pass."""

    plan: Plan
    n: int
    d: int
    m: int
    p: int = 1
    dtype: torch.dtype = torch.float32
    transpose: bool = False
    precision: str = ""  # the most precise there is

    def __str__(self) -> str:
        sweep, dtype = self.plan.sweep, str(self.dtype).removeprefix("torch.")
        batch = f"{self.p} × " if self.p > 1 else ""
        transposed = " transposed" if self.transpose else ""
        return (
            f"{sweep} {self.plan.block_size}, {batch}n {self.n} d {self.d} m {self.m}, "
            f"{dtype} {self.precision or most_precise()}{transposed}"
        )

    def allowance(self, precision: str, kernel: str) -> float:
        """32·√(the longest sum)·eps, which TF32 in place of float32 exceeds; or the rounding of
        what is stored in half precision."""
        longest = max(self.n, self.d, self.m, self.plan.block_size)
        eps = torch.finfo(torch.float32).eps
        allowed = 8 * COARSE if precision == "tf32" else 32 * math.sqrt(longest) * eps
        stored = 0.0 if kernel in ("factors", "scale", "join") else torch.finfo(self.dtype).eps
        return max(allowed, stored)


AnyCase = KernelCase | scans.ScanCase | scans.DeltaCase


def cases() -> list[AnyCase]:
    """First every kernel once; then sizes of 1, batches, dtypes and precisions."""
    resident, small, joined = (Plan(k, "triton") for k in (16, 32, 64))
    tiles, large = (Plan(k, "tiles") for k in (128, 256))
    half, coarse = torch.bfloat16, "tf32"
    every_kind, more_scans = scans.cases()[:4], scans.cases()[4:]
    found: list[AnyCase] = [
        KernelCase(resident, 33, 65, 17),
        KernelCase(small, 33, 65, 17),
        KernelCase(joined, 70, 301, 5),
        KernelCase(tiles, 129, 131, 9),
        KernelCase(large, 140, 17, 65),
        *every_kind,
        KernelCase(resident, 33, 65, 17, transpose=True),
        KernelCase(joined, 70, 301, 5, transpose=True),
        KernelCase(tiles, 129, 131, 9, transpose=True),
        *(KernelCase(resident, *shape) for shape in ((9, 9, 1), (1, 9, 4), (9, 1, 4))),
        *(KernelCase(tiles, *shape) for shape in ((9, 9, 1), (1, 9, 4), (9, 1, 4))),
        KernelCase(resident, 20, 33, 3, p=3),
        KernelCase(tiles, 130, 18, 3, p=2),
        KernelCase(resident, 33, 65, 17, dtype=half, precision=coarse),
        KernelCase(tiles, 129, 131, 9, dtype=half, precision=coarse),
        KernelCase(resident, 33, 65, 17, precision=coarse),
        KernelCase(tiles, 129, 131, 9, precision=coarse),
        KernelCase(resident, 33, 65, 17, dtype=torch.float16, precision=coarse),
        *more_scans,
    ]
    if not is_interpreted():
        found += [
            *(KernelCase(resident, *shape) for shape in ((256, 256, 32), (250, 250, 33))),
            KernelCase(Plan(512, "tiles"), 512, 512, 128),
            KernelCase(tiles, 448, 448, 32),
            *(KernelCase(plan, 33, 65, 17, precision="ieee") for plan in (resident, small, tiles)),
            KernelCase(resident, 256, 256, 128),
        ]
    return found


class Watch:
    """In place of a kernel: launches it, waits for it, and judges what it wrote."""

    def __init__(self, kernel: Any, case: AnyCase, judge: bool, write: Callable[..., None]):
        self.kernel, self.case, self.judge, self.write = kernel, case, judge, write
        self.name = kernel.__name__.removesuffix("_kernel")

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        return partial(self._launch, grid)

    def _launch(self, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> Any:
        named = dict(zip(self.kernel.arg_names, arguments, strict=False))  # constants follow
        before = copied(named) | constants
        try:
            compiled = self.kernel[grid](*arguments, **constants)
            if arguments[0].is_cuda:
                torch.cuda.synchronize(arguments[0].device)
        except Exception as error:
            self.write(self.name, self.case, "failed", why=one_line(error))
            raise
        if not self.judge:
            self.write(self.name, self.case, "launched")
            return compiled
        after = copied(named) | constants
        found = max_or_nan(ERRORS[self.name](before, after))
        allowed = self.case.allowance(constants.get("PRECISION", "ieee"), self.name)
        status = "ok" if found <= allowed else "wrong"
        self.write(self.name, self.case, status, found, allowed, compiled)
        return compiled


def copied(named: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().cpu().double().flatten() if isinstance(value, Tensor) else value
        for name, value in named.items()
    }


def max_or_nan(errors: Iterator[float]) -> float:
    """The largest, or NaN if one is."""
    found = list(errors)
    return max(found) if all(error == error for error in found) else float("nan")


def run_case(case: AnyCase, device: str, judge: bool, write: Callable[..., None]) -> None:
    """Both passes on random numbers, some rows zero, in buffers of NaN; then all of it at once."""
    if not isinstance(case, KernelCase):
        case.run(device, lambda kernel: Watch(kernel, case, judge, write))
        return
    torch.manual_seed(0)
    batch = (case.p,) if case.p > 1 else ()
    V, X, G = (
        torch.randn(*batch, *size).to(device, case.dtype)
        for size in ((case.n, case.d), (case.d, case.m), (case.d, case.m))
    )
    if case.n > 2:
        V[..., 1, :] = 0
    sizes = ProductSizes(case.p, case.n, case.d, case.m, case.plan.block_size)
    way, mode = WAYS[case.plan.sweep], case.precision or most_precise()
    forward = way.forward_pass(sizes, case.dtype, case.transpose, True, mode)
    backward = way.backward_pass(sizes, case.dtype, case.transpose, True, mode)
    for found in (forward, backward):
        watch(found, case, judge, write)
    out = poisoned(X.shape, forward.out, device)
    kept = poisoned((forward.kept,), torch.float32, device)
    room = poisoned((max(forward.scratch, 1),), torch.float32, device)
    forward.recipe.run(V, X, out, kept, room if forward.scratch else kept)
    dX, dV = poisoned(X.shape, backward.out, device), poisoned(V.shape, backward.dV, device)
    room = poisoned((max(backward.scratch, 1),), torch.float32, device)
    backward.recipe.run(
        V, X if backward.reads_X else G, G, dX, kept, room if backward.scratch else kept, dV
    )


def watch(found: PassRecipe, case: KernelCase, judge: bool, write: Callable[..., None]) -> None:
    """Have every launch of a pass watched; it is then never kept for a direct call."""
    watched: list[Launch] = [
        launch._replace(kernel=Watch(launch.kernel, case, judge, write))
        for launch in found.recipe.launches
    ]
    found.recipe.launches = tuple(watched)


def poisoned(shape: Sequence[int], dtype: torch.dtype, device: str) -> Tensor:
    return torch.full(tuple(shape), torch.nan, dtype=dtype, device=device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 if a kernel failed or was wrong."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu.kernels")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rehearse", choices=("interpreter", "host"))
    parser.add_argument("--seconds", type=float, default=54.0, help="after which no case begins")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, default=0, help="how many cases; 0: all")
    parser.add_argument("--end", type=float, default=0.0, help="of the time, as of time.time()")
    options = parser.parse_args(arguments)
    end = options.end or time.time() + options.seconds
    if options.rehearse == "host":
        from promises import idle_driver

        idle_driver.install()
    device, judge = ("cpu" if options.rehearse else "cuda"), options.rehearse != "host"
    every = cases()
    chosen = every[: options.count] if options.count else every
    path = options.folder / "kernels.csv"
    options.folder.mkdir(parents=True, exist_ok=True)
    for i, case in enumerate(chosen[options.first :], options.first):
        if time.time() > end:
            print(f"not reached: {'; '.join(map(str, chosen[i:]))}")
            break
        try:
            run_case(case, device, judge, partial(write_row, path))
        except Exception as error:
            print(f"FAILED {case}: {one_line(error)}", flush=True)
            if not usable(device):
                again = [str(options.folder), "--first", str(i + 1), "--end", str(end)]
                again += ["--count", str(options.count)]
                os.execv(sys.executable, [sys.executable, "-m", "promises.gpu.kernels", *again])
    sys.exit(0 if show(path) else 1)


def usable(device: str) -> bool:
    """Whether the device still answers."""
    try:
        torch.zeros(1, device=device).sum().item()
    except RuntimeError:
        return False
    return True


def write_row(
    path: Path,
    kernel: str,
    case: AnyCase,
    status: str,
    error: float | None = None,
    allowed: float | None = None,
    compiled: Any = None,
    why: str = "",
) -> None:
    """Append what came of a launch, with the kernel's resources as the driver loaded it."""
    resources = [getattr(compiled, name, None) for name in ("n_regs", "n_spills")]
    resources.append(getattr(getattr(compiled, "metadata", None), "shared", None))
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow([kernel, case, status, error, allowed, *resources, why])


def show(path: Path) -> bool:
    """A line for each kernel; whether all are right."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole = True
    for kernel in ERRORS:
        own = [row for row in rows if row["kernel"] == kernel]
        bad = [row for row in own if row["status"] not in ("ok", "launched")]
        whole &= bool(own) and not bad
        if not own:
            print(f"{kernel:<16} NOT RUN")
            continue
        shares = [float(row["error"]) / float(row["allowed"]) for row in own if row["error"]]
        worst = f"at most {max(shares):.2f} of the error allowed" if shares else "not judged"
        words = f"{len(own)} launches, {worst}" if not bad else f"{len(bad)} of {len(own)} launches"
        print(f"{kernel:<16} {'ok' if not bad else 'WRONG'}: {words}")
        for row in bad[:3]:
            found = row["why"] or f"error {row['error']}, allowed {row['allowed']}"
            print(f"    {row['case']}: {found}")
    return whole


if __name__ == "__main__":
    main()
