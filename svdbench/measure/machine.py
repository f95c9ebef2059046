"""What this machine can do, and what else it is doing: rates, floors, caches, threads, neighbours.

The last cache of a GPU is emptied before a repetition where cold timings are wanted. A step
repeated on the same tensors finds in the cache what fits there: *warm*, as a layer may be that is
called again at once. *Cold*, it reads everything from memory, as in a network whose other layers
came in between. On a CPU all timings are warm.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.autograd.profiler import profile

from svdbench.measure.clock import Clock, clock_of, timed


def threads_of(device: torch.device | str) -> int:
    """The threads that compute on a device; 0 on a GPU."""
    return torch.get_num_threads() if torch.device(device).type == "cpu" else 0


def device_name(device: torch.device | str) -> str | None:
    """The name of a GPU; None of a CPU, which ``env.json`` names."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def same_precision(device: torch.device | str) -> None:
    """Have cuDNN's recurrences use TF32 on a GPU only where products of matrices may.

    PyTorch allows it to the first and not to the second: they would be timed against each other
    in precisions that differ by a factor of a thousand.
    """
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32


# Where the size of the cache is unknown: several times that of any so far.
UNKNOWN_BYTES = 128 << 20


def emptier(device: str | torch.device) -> Callable[[], None]:
    """A function that overwrites twice as much memory of a CUDA ``device`` as its L2 holds.

    It returns when that is queued. What is queued right after it waits for it, so that a
    few launches are made ahead: a cold timing of many small operations may for that
    reason be shorter than a warm one, by at most the time of the overwriting.
    """
    properties = torch.cuda.get_device_properties(device)
    size = 2 * (getattr(properties, "L2_cache_size", 0) or UNKNOWN_BYTES)
    buffer = torch.empty(size, dtype=torch.uint8, device=device)

    def empty() -> None:
        buffer.zero_()

    return empty


@dataclass(frozen=True)
class Rates:
    """What a machine can do: ``matmul`` operations and ``copy`` bytes a second."""

    matmul: float
    copy: float


def rates_of(dtype: torch.dtype, device: str | torch.device, clock: Clock) -> Rates:
    """Both rates of ``device``, measured within about half a second.

    On a GPU in at most a quarter of the memory that is free.
    """
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        size = 8192
        while size > 256 and 2 * size**2 * dtype.itemsize > free / 4:
            size //= 2
        matmul = matmul_rate(dtype, device, clock, size=size, budget_s=0.2)
        return Rates(matmul, copy_rate(device, clock, size_bytes=min(1 << 30, free // 8)))
    return Rates(matmul_rate(dtype, device, clock), copy_rate(device, clock))


def matmul_rate(
    dtype: torch.dtype,
    device: str | torch.device,
    clock: Clock,
    *,
    size: int = 2048,
    budget_s: float = 0.5,
) -> float:
    """Floating-point operations per second of a large square matrix product.

    The size doubles from 256 up to ``size`` for as long as three products of the
    next size fit into ``budget_s``, which also warms up; the median of the
    products within the rest of the budget, three at least, gives the rate.
    """

    def product_s() -> float:
        return timed(clock, lambda: torch.mm(A, A, out=C))

    n, used_s = min(256, size), 0.0
    while True:
        A = torch.randn(n, n, dtype=dtype, device=device)
        C = torch.empty_like(A)
        used_s += product_s()  # the first of a size may still be choosing its algorithm
        once_s = product_s()
        used_s += once_s
        if 2 * n > size or 3 * 8 * once_s > budget_s:
            break
        n *= 2
    return 2 * n**3 / _median_s(product_s, [once_s], budget_s - used_s)


def copy_rate(
    device: str | torch.device, clock: Clock, *, size_bytes: int = 64 << 20, budget_s: float = 0.03
) -> float:
    """Bytes per second of a copy within the device's memory, read and written ones counted.

    Meant is memory and not a cache: ``size_bytes`` should be several times the last one,
    which 64 MiB is for most CPUs.
    """
    source = torch.ones(size_bytes // 4, device=device)
    target = torch.empty_like(source)

    def copy_s() -> float:
        return timed(clock, lambda: target.copy_(source))

    copy_s()  # the first finds the memory
    return 2 * size_bytes / _median_s(copy_s, [], budget_s)


def _median_s(once: Callable[[], float], times_s: list[float], budget_s: float) -> float:
    """The median of ``times_s`` and of more seconds: three in all, and what the budget allows."""
    used_s = 0.0
    while len(times_s) < 3 or (used_s < budget_s and len(times_s) < 100):
        times_s.append(once())
        used_s += times_s[-1]
    return median(times_s)


def least_bytes(n: int, d: int, m: int, dtype: torch.dtype) -> dict[str, int]:
    """Bytes that each pass must move through memory at least: every tensor once.

    Forward (``fwd``) reads V (n, d) and X (d, m) and writes the product; backward
    (``bwd``) reads V, X and the gradient G at the product, and writes dV and dX. A step
    is both, as its two passes are separate calls. What a method keeps in between, and
    what it moves more than once, is its own affair.
    """
    V, X = n * d * dtype.itemsize, d * m * dtype.itemsize
    forward, backward = V + 2 * X, 2 * V + 3 * X
    return {"fwd": forward, "bwd": backward, "step": forward + backward}


def peak_bytes(fn: Callable[[], Any], device: str | torch.device = "cpu") -> int | None:
    """Bytes that ``fn()`` needs at its peak on top of what was there; None if unknown.

    On CUDA by the caching allocator's own account. On the CPU by the profiler's
    record of every allocation and release of torch's CPU allocator, those inside
    C++ operations included; a library's private workspace is not seen, nor that
    the call gives back a block from before.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        fn()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    # The profiler announces its start and stop on stderr unless told not to.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(profile_memory=True) as trace:
        result = fn()  # kept until the trace ends: giving it back is not part of the call
    del result
    try:
        events = [event for event in trace.kineto_results.events() if event.name() == "[memory]"]
        changes = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns())]
    except AttributeError:  # not a public interface: a later torch may change it
        return None
    held = peak = 0
    for change in changes:
        held += change
        peak = max(peak, held)
    return peak if changes else None


class Neighbours:
    """How many cores other processes kept busy since this was made.

    A neighbour on one of two cores makes whatever waits for a second thread many
    times slower, and leaves alone what runs on one: such a comparison means nothing,
    and no median shows it. Linux only, by the kernel's own account.
    """

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.stat = stat
        self.start = self._read()

    def _read(self) -> tuple[float, float, float] | None:
        """Wall time, busy time of all cores, busy time of this process; in seconds."""
        try:
            user, nice, system, _, _, irq, softirq = map(int, self.stat.read_text().split()[1:8])
        except (OSError, ValueError):
            return None
        own = os.times()
        busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        return own.elapsed, busy, own.user + own.system

    def cores(self) -> float | None:
        """The average number of cores; None where nothing is known or no time has passed."""
        now = self._read()
        if now is None or self.start is None:
            return None
        elapsed, busy, own = (late - early for late, early in zip(now, self.start, strict=True))
        return max(0.0, busy - own) / elapsed if elapsed > 0 else None


# A layer of a small network: rows, inputs and outputs.
ROWS, WIDTH = 256, 384
# How often it is computed with each number of threads, in turns.
ROUNDS = 12
# Part of the time with all threads that fewer must be below.
WORTH = 0.9


def seconds_by_threads(
    step: Callable[[], object], counts: list[int], clock: Clock, rounds: int = ROUNDS
) -> dict[int, float]:
    """The mean seconds of a step with each number of threads, in turns.

    The mean and not the median, as it is rare and long waits that make threads slow on a busy
    machine: all of them wait for one that has no core. The number of threads is as before in
    the end.
    """
    before = torch.get_num_threads()
    found = dict.fromkeys(counts, 0.0)
    try:
        for number in range(-1, rounds):
            for count in counts:
                torch.set_num_threads(count)
                took = timed(clock, step)
                if number >= 0:  # the first starts the threads
                    found[count] += took / rounds
    finally:
        torch.set_num_threads(before)
    return found


@contextmanager
def fastest_threads(
    asked: int | None, device: torch.device | str, clock: Clock | None = None
) -> Iterator[str]:
    """Run a block with as many of PyTorch's threads as a short product is fastest with.

    The number of threads is the process's own: other threads of Python compute with it, too,
    while the block runs.

    Args:
        asked: a number that the user asked for, which stays.
        device: where the block computes; on a GPU nothing is changed.
        clock: to tell the time by; real time by default.

    Yields:
        What was changed and why, a line; "" for nothing.
    """
    most = torch.get_num_threads()
    if asked is not None or torch.device(device).type != "cpu" or most == 1:
        yield ""
        return
    counts = [most]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    X, W = torch.randn(ROWS, WIDTH), torch.randn(WIDTH, WIDTH)
    found = seconds_by_threads(lambda: (X @ W).relu_(), counts, clock or clock_of("cpu"))
    best = min(counts, key=found.__getitem__)
    if found[best] > WORTH * found[most]:
        yield ""
        return
    torch.set_num_threads(best)
    try:
        yield (
            f"threads: {best} of {most}, as this machine is busy: a small layer takes "
            f"{1e3 * found[best]:.2g} ms with {best} and {1e3 * found[most]:.2g} ms with {most}; "
            "--threads N sets their number"
        )
    finally:
        torch.set_num_threads(most)
