"""``make bench-host``: what a gradient step by the Triton kernels costs the host, without a GPU.

The driver launches nothing (``idle_driver``), so the time is that of Python, PyTorch and Triton's
own Python; CUDA's launches, 2 to 4 µs each, are not in it. Median processor time of steps now
and of the core of ``BEFORE``, which take turns. Writes ``results/bench-host/<time>/figures.csv``.
"""

import os
import sys
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # read when Triton is imported

import torch
from torch import Tensor

from promises import idle_driver
from promises.core import Step, earlier_kernels, interleaved, problem, step, threads
from promises.figures import Promise, measure_parts
from svdbench import kernels
from svdbench.kernels import apply, plans

COLUMNS = 32
MICROSECONDS = {64: 100.0, 256: 100.0, 448: 100.0, 512: 100.0, 1024: 150.0}
LAUNCHES = {64: 6, 256: 6, 448: 16, 512: 16, 1024: 24}
FASTER = 1.9  # than before


def main() -> None:
    """Measure, and judge."""
    idle_driver.install()
    measure_parts("bench-host", {"steps": figures}, sys.argv[1:])


def figures(_: Path) -> list[Promise]:
    """Host time and launches of a step of V (d, d) and X (d, 32), now and before."""
    found: list[Promise] = []
    with threads(1), earlier_kernels() as earlier:
        for d, most in MICROSECONDS.items():
            steps = {"empty": empty_step(d), "now": step_now(d)}
            if earlier is not None:
                steps["before"] = step_before(earlier, d)
            launches = {name: launches_of(one) for name, one in steps.items()}
            times = {name: 1e6 * s for name, s in interleaved(steps, 2.0).items()}
            print(f"d = {d}: {plan_of(d)}")
            for name in steps:
                print(f"  {name}: {times[name]:.0f} µs, {launches[name]} launches")
            found.append(Promise("host µs of a step", d, times["now"], False, most))
            found.append(Promise("launches of a step", d, launches["now"], False, LAUNCHES[d]))
            if earlier is not None:
                ratio = times["before"] / times["now"]
                found.append(Promise("host time of a step, before / now", d, ratio, True, FASTER))
    return found


def plan_of(d: int) -> kernels.Plan:
    """The plan by kernels of Triton for V (d, d)."""
    return plans.formula(plans.Case(d, d, COLUMNS, "float32", "cuda NVIDIA H200", 0))


def step_now(d: int) -> Step:
    """A step on the CPU that goes the way of a GPU, with a plan that is looked up once."""
    V, X, G = problem(d, d, COLUMNS)
    chosen: Any = lru_cache(lambda n, d, m: plan_of(d))
    apply.plan_on_cpu = chosen
    return step(partial(apply.apply_reflectors, V, X), (V, X), G)


class _Nothing(torch.autograd.Function):
    """What no product can do without."""

    @staticmethod
    def forward(ctx: Any, V: Tensor, X: Tensor) -> Tensor:
        ctx.save_for_backward(V, X)
        return torch.empty_like(X)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        V, X = ctx.saved_tensors
        return torch.empty_like(V), torch.empty_like(X)


def empty_step(d: int) -> Step:
    """A step that computes nothing: the part of the time that is PyTorch's."""
    V, X, G = problem(d, d, COLUMNS)
    return step(partial(_Nothing.apply, V, X), (V, X), G)


def step_before(earlier: ModuleType, d: int) -> Step:
    """The same of the core before, whose choice is spared the look into its measured plans."""
    V, X, G = problem(d, d, COLUMNS)
    plan = earlier.Plan(16 if d <= 256 else 32, sweep="triton")
    choice: Any = sys.modules["earlier_kernels.choice"]
    choice.triton_runs_on = lambda device: True
    choice.plan_for = lambda case, block_size=None: plan
    return step(partial(earlier.apply_reflectors, V, X), (V, X), G)


def launches_of(step: Step) -> int:
    """How many kernels of Triton a step launches."""
    notes: list[idle_driver.IdleLaunch] = []
    step()
    idle_driver.note_in(notes)
    step()
    idle_driver.note_in(None)
    return len(notes)


if __name__ == "__main__":
    main()
