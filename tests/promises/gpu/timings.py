"""A part of ``make gpu``: ``time-fasth``, and the promised figures from its rows.

In float32 and bfloat16, for 32 and 128 columns, with a warm and with a cold L2 cache, the most
wanted first. Every run reads what the machine can do once for its dtype.
"""

import argparse
import itertools
import json
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml  # type: ignore[import-untyped]
from rich.console import Console

from promises.figures import BASELINE, Promise, at_least, ratios, value
from svdbench.config.base import Dtype, RunConfig
from svdbench.jobs.time_fasth import TimeFastH
from svdbench.jobs.time_fasth import run as time_fasth
from svdbench.measure import voids_floor
from svdbench.measure.clock import clock_of
from svdbench.measure.machine import Rates, rates_of
from svdbench.members import METHODS
from svdbench.record.reader import RecordedRun
from svdbench.timings.config import L2, Measure, Sizes
from svdbench.timings.report import read_summary
from svdbench.timings.session import TooSlow

DTYPES = (Dtype.float32, Dtype.bfloat16)
# Measured before all others, so that little time is enough for the promised figures.
FIRST = ("fasth", "cayley", "fasthpp", "sequential", "torch_householder_map")
# What computes the same in plain PyTorch: its own map, and where that has no kernels,
# reflector by reflector in the dtype itself.
PYTORCHS_OWN = {"float32": "torch_householder_map", "bfloat16": "sequential"}


# What a run is of, with its weight in the time there is: first what is promised.
FIRST_RUNS = (
    (L2.warm, Dtype.float32, 32, 3),
    (L2.warm, Dtype.float32, 128, 1),
    (L2.warm, Dtype.bfloat16, 32, 1),
)


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        measuring: the fraction of the time left that repetitions may take; the rest goes
            to tuning, gates and plots.
    """

    device: str
    d: tuple[int, ...]
    m: tuple[int, ...]
    l2: tuple[L2, ...]
    measuring: float


FULL = Scale(
    device="cuda",
    d=(64, 128, 256, 448, 512, 1024, 2048, 3072),
    m=(32, 128),
    l2=(L2.warm, L2.cold),
    measuring=0.4,
)
REHEARSAL = Scale(device="cpu", d=(8,), m=(32,), l2=(L2.warm,), measuring=0.02)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu.timings")
    parser.add_argument("folder", type=Path, help="where the runs go")
    parser.add_argument("--rehearse", choices=("interpreter", "host"))
    parser.add_argument("--seconds", type=float, default=300.0, help="for all runs")
    parser.add_argument("--more", action="store_true", help="what is not promised")
    options = parser.parse_args(arguments)
    scale = REHEARSAL if options.rehearse else FULL
    end = time.monotonic() + (30.0 if options.rehearse else options.seconds)
    whole = measure(scale, options.folder, options.more, lambda: end - time.monotonic())
    sys.exit(0 if whole else 1)


def measure(scale: Scale, folder: Path, more: bool, left: Callable[[], float]) -> bool:
    """Make the runs; whether none of them failed."""
    whole = True
    known: dict[Dtype, Rates] = {}
    console = Console()
    for config, too_slow in runs(scale, folder, more, left):
        console.rule(str(config.name))
        try:
            if config.dtype not in known:
                dtype = getattr(torch, config.dtype.value)
                known[config.dtype] = rates_of(dtype, scale.device, clock_of(scale.device))
            rates = known[config.dtype]
            text = as_yaml(config)
            time_fasth.run(config, text, too_slow=too_slow, left=left, rates=rates)
        except Exception:  # the figures of the other runs are worth having
            traceback.print_exc()
            whole = False
    return whole


def wanted(scale: Scale, more: bool) -> list[tuple[L2, Dtype, int, int]]:
    """What the runs are of, with their weights: what is promised, or all the rest."""
    known = [run for run in FIRST_RUNS if run[2] in scale.m]
    if not more:
        return known
    first = {run[:3] for run in known}
    every = itertools.product(scale.l2, DTYPES, scale.m)
    return [(*run, 1) for run in every if run not in first]


def runs(
    scale: Scale, folder: Path, more: bool, left: Callable[[], float]
) -> Iterator[tuple[TimeFastH, TooSlow]]:
    """The configurations of all runs, the most wanted first, with a share of the time left.

    With each comes what is too slow for its dtype and m, known from the runs before.
    """
    everyone = options_of_all()
    methods = [*FIRST, *(name for name in everyone if name not in FIRST)]
    too_slow: dict[tuple[Dtype, int], TooSlow] = defaultdict(dict)
    every = wanted(scale, more)
    weights = [weight for *_, weight in every]
    for i, (l2, dtype, m, weight) in enumerate(every):
        budget_s = scale.measuring * max(left(), 1.0) * weight / sum(weights[i:])
        config = TimeFastH(
            sizes=Sizes(d=list(scale.d), m=m),
            measure=Measure(
                budget_s, min_reps=3, max_reps=200, warmup_reps=2, timeout_s=1.0, l2=l2
            ),
            dtype=dtype,
            device=scale.device,
            name=f"{dtype.value}-m{m}-{l2.value}",
            results=str(folder),
            orthogonal=everyone,
            methods=methods,
        )
        yield config, too_slow[dtype, m]


def options_of_all() -> dict[str, Any]:
    """What ``conf/orthogonal/*.yaml`` say, by method: what Hydra would compose."""
    return {name: METHODS.options_of(name) for name in METHODS.names()}


def as_yaml(config: RunConfig) -> str:
    """The text of the run's ``config.yaml``."""
    plain = json.loads(json.dumps(asdict(config), default=lambda choice: choice.value))
    return str(yaml.safe_dump(plain, sort_keys=False))


COLUMNS = ("pass", "status", "l2", "dtype", "m", "d", "method", "median_s", "of_larger_floor")


def read_runs(runs: Sequence[RecordedRun]) -> pd.DataFrame:
    """The summaries of all runs in one; empty, with the columns, where there are none."""
    found = [read_summary(run) for run in runs]
    return pd.concat(found) if found else pd.DataFrame(columns=[*COLUMNS, "error"])


def figures(summary: "pd.DataFrame", sizes: Sequence[int]) -> list[Promise]:
    """What was promised for n = d, float32 and m = 32 where nothing else is said, warm."""
    step = summary[
        (summary["pass"] == "step") & (summary["status"] == "ok") & (summary["l2"] == L2.warm.value)
    ]
    narrow, wide = (step[(step["dtype"] == "float32") & (step["m"] == m)] for m in (32, 128))
    ratio = ratios(narrow)
    ratio["others"] = ratio.drop(columns=BASELINE, errors="ignore").min(axis=1)
    to_floor = value(wide[wide["method"] == BASELINE].set_index("d"), 2048, "of_larger_floor")
    return [
        *at_least("sequential / fasth", ratio, "sequential", {448: 60}),
        *at_least("cayley / fasth", ratio, "cayley", {1024: 6}),
        *at_least("fastest other method / fasth", ratio, "others", dict.fromkeys(sizes, 1)),
        *at_least("fasthpp / fasth", ratio, "fasthpp", {d: 3 for d in sizes if d >= 256}),
        *at_least("torch_householder_map / fasth", ratio, "torch_householder_map", {512: 50}),
        Promise("fasth / larger floor, m = 128", 2048, _over_floor(to_floor), False, 4),
        *(_error(step[step["m"] == 32], *names) for names in PYTORCHS_OWN.items()),
    ]


def _over_floor(share: float | None) -> float | None:
    """A time over its floor; None where the floor is void, as its rate was disturbed."""
    return None if not share or voids_floor([share]) else 1 / share


def _error(step: "pd.DataFrame", dtype: str, own: str) -> Promise:
    """The error of FastH's product over that of PyTorch's own way, at its worst size."""
    rows = step[step["dtype"] == dtype]
    errors = rows.pivot_table(index="d", columns="method", values="error")
    what = f"error of fasth / of {own}, {dtype}"
    if {BASELINE, own} <= set(errors):
        found = (errors[BASELINE] / errors[own]).dropna()
        if len(found):
            return Promise(what, int(found.idxmax()), float(found.max()), False, 2)
    return Promise(what, None, None, False, 2)


if __name__ == "__main__":
    main()
