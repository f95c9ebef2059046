"""Looks at the machine, and prints what was found."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from svdbench.errors import Interrupted
from svdbench.files import flat
from svdbench.jobs.doctor.facts import facts, read, throttled
from svdbench.jobs.doctor.report import report
from svdbench.jobs.doctor.verdicts import verdicts
from svdbench.measure.clock import Clock, WallClock, timed
from svdbench.measure.machine import Neighbours
from svdbench.reporting.formats import to_csv
from svdbench.running.output import TableOutput
from svdbench.statistics.summaries import summarise


def run(output: TableOutput) -> None:
    """Look at the machine for about two seconds, and show what was found.

    Raises:
        Interrupted: ^C.
    """
    try:
        found = facts()
        found["load"] = load()
    except KeyboardInterrupt:
        raise Interrupted("interrupted before all checks were done") from None
    judged = verdicts(found)
    content = found | {"verdicts": [asdict(verdict) for verdict in judged]}
    output.show(
        report(found, judged),
        json=lambda: json.dumps(content, indent=2, ensure_ascii=False) + "\n",
        csv=lambda: to_csv({"fact": name, "value": value} for name, value in flat(content)),
    )


# Small enough for many in a second, large enough for every thread to have a part.
SIZE = 384


def load(
    clock: Clock | None = None,
    budget_s: float = 1.5,
    root: Path = Path("/"),
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Repeat a product of float32 matrices (384, 384) for ``budget_s`` seconds.

    Returns:
        Median and quartiles of its time; ``spread``, the quartiles' distance over the median;
        ``drift``, the slower half over the faster, by medians; ``steal``, the part of the
        cores' time that a hypervisor gave to others; ``foreign_cores``, how many cores other
        processes kept busy; the load average; how often heat throttled the cores meanwhile.
    """
    clock = clock or WallClock()
    A = torch.randn(SIZE, SIZE)
    C = torch.empty_like(A)
    for _ in range(10):
        torch.mm(A, A, out=C)
    throttled_before, ticks_before = throttled(root), _ticks(root)
    neighbours = Neighbours(root / "proc/stat")
    times: list[float] = []
    end = now() + budget_s
    while len(times) < 10 or now() < end:
        times.append(timed(clock, lambda: torch.mm(A, A, out=C)))
    foreign_cores, ticks = neighbours.cores(), _ticks(root)
    heat = throttled(root)
    found = summarise(times)
    halves = [median(half) for half in (times[: len(times) // 2], times[len(times) // 2 :])]
    return {
        "product": f"{SIZE} × {SIZE} matrices, float32",
        "repetitions": found.reps,
        "median_s": found.median,
        "q25_s": found.q25,
        "q75_s": found.q75,
        "worst_s": max(times),
        "gflops": 2 * SIZE**3 / found.median / 1e9,
        "spread": (found.q75 - found.q25) / found.median,
        "drift": max(halves) / min(halves) - 1,
        "steal": _steal(ticks_before, ticks),
        "foreign_cores": foreign_cores,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "throttled": None if heat is None else heat - (throttled_before or 0),
    }


def _ticks(root: Path) -> list[int]:
    """Of all cores together: user, nice, system, idle, iowait, irq, softirq, steal."""
    try:
        return [int(n) for n in (read(root / "proc/stat") or "").splitlines()[0].split()[1:9]]
    except (IndexError, ValueError):
        return []


def _steal(before: list[int], after: list[int]) -> float | None:
    if len(before) < 8 or len(after) < 8:
        return None
    passed = [late - early for early, late in zip(before, after, strict=True)]
    return passed[7] / sum(passed) if sum(passed) > 0 else None
