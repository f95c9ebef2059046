"""A part of ``make gpu``: where the time of a gradient step goes.

For some sizes and methods, and for every plan of ours: microseconds of the host, of the device
called step by step (eager), and of the same step replayed as a CUDA graph. Then the time of each
kernel, beside what ``promises.gpu_model`` expects; and linear recurrences by kernels and by
operations. Writes ``steps.csv``, ``kernel_times.csv`` and ``scans.csv``.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from promises import gpu_model
from promises.gpu import scans
from promises.gpu.timings import FIRST, options_of_all
from svdbench import kernels
from svdbench.errors import one_line
from svdbench.kernels.apply import Apply
from svdbench.kernels.choice import case_of, plan_for
from svdbench.kernels.plans import Plan, candidates
from svdbench.kernels.triton_support import triton_runs_on
from svdbench.measure.clock import clock_of, timed
from svdbench.members import METHODS

Step = Callable[[], Any]

# (n, d, m), the most telling first, and from which size on a method is too slow for this.
SIZES = ((448, 448, 32), (1024, 1024, 32), (64, 64, 32), (2048, 2048, 128), (256, 256, 32))
TOO_LARGE = {"sequential": 512, "torch_householder_map": 1025}
# They wait for the device, which ends a capture and leaves PyTorch's allocator in its state.
NO_GRAPH = {"cayley": "torch.linalg.solve waits for its error code, so there is no graph"}
REHEARSED = ((24, 24, 4),)
COLUMNS = ("d", "m", "method", "chosen", "host_us", "eager_us", "replay_us", "why")
KERNEL_COLUMNS = ("d", "m", "plan", "kernel", "launches", "us", "model_us")
SCAN_COLUMNS = ("recurrence", "way", "host_us", "eager_us", "replay_us", "why")
REPETITIONS = {"cuda": 20, "cpu": 3}


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 if anything but a graph's capture failed."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu.steps")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rehearse", choices=("interpreter", "host"))
    parser.add_argument("--seconds", type=float, default=54.0, help="after which nothing begins")
    options = parser.parse_args(arguments)
    if options.rehearse == "host":
        from promises import idle_driver

        idle_driver.install()
    end = time.monotonic() + options.seconds
    device = "cpu" if options.rehearse else "cuda"
    options.folder.mkdir(parents=True, exist_ok=True)
    whole = True
    with (
        open(options.folder / "steps.csv", "w", newline="", encoding="utf-8") as steps_file,
        open(options.folder / "kernel_times.csv", "w", newline="", encoding="utf-8") as times_file,
    ):
        rows, times = csv.writer(steps_file), csv.writer(times_file)
        rows.writerow(COLUMNS)
        times.writerow(KERNEL_COLUMNS)
        for n, d, m in REHEARSED if options.rehearse else SIZES:
            V, X, G = problem(n, d, m, device)
            chosen = plan_for(case_of(V, X))
            ours = {name_of(plan): plan for plan in plans_of(V, X, options.rehearse)}
            steps = {
                name: step_of(name, V, X, G) for name in FIRST if d < TOO_LARGE.get(name, d + 1)
            }
            steps |= {name: planned(plan, V, X, G) for name, plan in ours.items()}
            for name, make in steps.items():
                if time.monotonic() > end:
                    print(f"not reached: {name} at d = {d}", flush=True)
                    continue
                row, words = measured(make, device, NO_GRAPH.get(name, ""))
                whole &= row[0] is not None
                is_chosen = ours.get(name) == chosen
                rows.writerow([d, m, name, is_chosen, *row, words])
                steps_file.flush()
                print(line(d, m, name, is_chosen, row, words), flush=True)
            if device == "cuda" and chosen.sweep != "torch":
                with_model = modelled(n, d, m, chosen)
                found = kernel_times(planned(chosen, V, X, G)())
                for kernel, (count, us) in found.items():
                    model = with_model.get(kernel, "")
                    times.writerow([d, m, name_of(chosen), kernel, count, f"{us:.2f}", model])
                    print(f"    {count} × {kernel}: {us:.1f} µs, model {model}", flush=True)
    whole &= time_scans(options.folder, device, bool(options.rehearse), end)
    sys.exit(0 if whole else 1)


def time_scans(folder: Path, device: str, rehearsal: bool, end: float) -> bool:
    """Write the times of linear recurrences; whether none failed."""
    whole = True
    with open(folder / "scans.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(SCAN_COLUMNS)
        for case, way, make in scans.timed_steps(device, rehearsal):
            if time.monotonic() > end:
                print(f"not reached: {case} by {way}", flush=True)
                continue
            row, words = measured(make, device)
            whole &= row[0] is not None
            rows.writerow([case, way, *row, words])
            print(f"{case} by {way}: {times_of(row)}{f'; {words}' if words else ''}", flush=True)
    return whole


def problem(n: int, d: int, m: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    V, X, G = (torch.randn(*size).to(device) for size in ((n, d), (d, m), (d, m)))
    return V.requires_grad_(), X.requires_grad_(), G


def plans_of(V: Tensor, X: Tensor, rehearsal: str | None) -> list[Plan]:
    """Every plan that could be chosen; in a rehearsal two of the kernels as well."""
    if not rehearsal:
        return candidates(case_of(V, X))
    return [*candidates(case_of(V, X)), Plan(16, "triton"), Plan(128, "tiles")]


def name_of(plan: Plan) -> str:
    return f"{plan.sweep} {plan.block_size}"


def planned(plan: Plan, V: Tensor, X: Tensor, G: Tensor) -> Callable[[], Step]:
    """Makes the step of a plan of ours."""

    def make() -> Step:
        if plan.sweep != "torch" and V.is_cuda and not triton_runs_on(V.device):
            raise RuntimeError("the kernels do not run here")
        return lambda: torch.autograd.grad(Apply.apply(V, X, None, plan, False), (V, X), G)

    return make


def step_of(name: str, V: Tensor, X: Tensor, G: Tensor) -> Callable[[], Step]:
    """Makes the step of a method of ``time-fasth``."""

    def make() -> Step:
        method = METHODS.load(name, **options_of_all()[name])
        made = method.parameter(V.detach())
        made = made if isinstance(made, tuple) else (made,)
        own = tuple(tensor.detach().clone().requires_grad_() for tensor in made)
        x = X.detach().clone().requires_grad_()
        if name == "fasth" and V.is_cuda:
            kernels.tune(V, X, again=False, keep=False)
        method.prepare(*own, x)
        return lambda: torch.autograd.grad(method.apply(*own, x), (*own, x), G)

    return make


def measured(
    make: Callable[[], Step], device: str, no_graph: str = ""
) -> tuple[list[float | None], str]:
    """Microseconds of host, eager and replay, None where unknown, and why."""
    found: list[float | None] = [None, None, None]
    try:
        step = make()
        clock = clock_of(device)
        for _ in range(3 if device == "cuda" else 1):
            step()
        clock.sync()
        count = REPETITIONS[device]
        found[0] = 1e6 * host_time(step, clock.sync, min(count, 8))
        found[1] = 1e6 * median(timed(clock, step) for _ in range(count))
        if device != "cuda":
            return found, "no graphs on a CPU"
        if no_graph:
            return found, no_graph
        replay = captured(step)
        found[2] = 1e6 * median(timed(clock, replay) for _ in range(count))
    except Exception as error:
        return found, one_line(error)
    return found, ""


def host_time(step: Step, sync: Callable[[], None], count: int) -> float:
    """Seconds until a step's launches are queued: few, so that the queue has room for all."""
    times = []
    for _ in range(count):
        sync()
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    sync()
    return median(times)


def captured(step: Step) -> Step:
    """The step as a CUDA graph; raises where it waits for the device."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = step()

    def replay() -> Any:
        graph.replay()
        return kept  # whose memory the graph writes to

    return replay


def kernel_times(step: Step, steps: int = 10) -> dict[str, tuple[int, float]]:
    """Of each kernel: its launches in a step, and the mean microseconds of one."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    found = {}
    for event in trace.key_averages():
        us = float(getattr(event, "self_device_time_total", 0.0))
        if us and event.count:
            found[event.key.removesuffix("_kernel")] = (event.count // steps, us / event.count)
    return found


def modelled(n: int, d: int, m: int, plan: Plan) -> dict[str, str]:
    """Microseconds that the model expects of each kernel, where it knows the plan."""
    if plan.sweep != "tiles":
        return {}
    mode = "bf16x6"
    found: dict[str, list[float]] = {}
    for kernel in gpu_model.step(n, d, m, plan.block_size):
        found.setdefault(kernel.name, []).append(kernel.time(mode))
    return {name: f"{sum(times) / len(times):.1f}" for name, times in found.items()}


def line(d: int, m: int, name: str, chosen: bool, row: Sequence[float | None], words: str) -> str:
    mark = " (chosen)" if chosen else ""
    return f"d {d}, m {m}, {name}{mark}: {times_of(row)}{f'; {words}' if words else ''}"


def times_of(row: Sequence[float | None]) -> str:
    """Those that are known, in words."""
    named = zip(("host", "eager", "replay"), row, strict=True)
    return ", ".join(f"{what} {us:.0f} µs" for what, us in named if us is not None) or "none"


if __name__ == "__main__":
    main()
