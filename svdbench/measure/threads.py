"""How many threads are fastest here and now: fewer than the cores on a machine that others use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from svdbench.measure.clock import Clock, clock_of, timed

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
