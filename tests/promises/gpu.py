"""``make gpu``: everything that needs an NVIDIA GPU, in one command of at most eight minutes.

Runs ``tests/test_gpu.py`` on the device; then ``time-fasth`` in float32 and bfloat16, for
32 and 128 columns, with a warm and with a cold L2 cache, the most wanted first; and writes
``figures.csv`` beside those runs: what was promised, what was measured with a warm cache.

Neither Hydra nor an installation is needed: the checkout, and python3 with torch, Triton,
pandas, matplotlib, rich, PyYAML and pytest. ``python -m promises.gpu --dry-run`` goes
through all of it in miniature on the CPU, and judges nothing.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml  # type: ignore[import-untyped]
from rich.console import Console

from promises.figures import BASELINE, Promise, at_least, finish, ratios, value
from svdbench.config.base import Dtype
from svdbench.errors import Interrupted, UserError
from svdbench.jobs.time_fasth import run as time_fasth
from svdbench.jobs.time_fasth.config import TimeFastH
from svdbench.measure.quiet import voids_floor
from svdbench.members import METHODS
from svdbench.record.reader import RecordedRun
from svdbench.timings.config import L2, Measure, Sizes
from svdbench.timings.report import read_summary
from svdbench.timings.session import TooSlow

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
DTYPES = (Dtype.float32, Dtype.bfloat16)
# Measured before all others, so that little time is enough for the promised figures.
FIRST = ("fasth", "cayley", "fasthpp", "sequential", "torch_householder_map")
# What computes the same in plain PyTorch: its own map, and where that has no kernels,
# reflector by reflector in the dtype itself.
PYTORCHS_OWN = {"float32": "torch_householder_map", "bfloat16": "sequential"}


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        total_s: for tests and runs together; what hasn't begun by then is skipped.
        tests_s: after which the tests are stopped.
        measuring: the fraction of the time left that repetitions may take; the rest goes
            to tuning, gates and plots.
    """

    device: str
    d: tuple[int, ...]
    m: tuple[int, ...]
    l2: tuple[L2, ...]
    total_s: float
    tests_s: float
    measuring: float


# Of eight minutes the last three quarters of one are left to imports, to what has begun
# when the time is up, and to the last plots.
FULL = Scale(
    device="cuda",
    d=(64, 128, 256, 448, 512, 1024, 2048, 3072),
    m=(32, 128),
    l2=(L2.warm, L2.cold),
    total_s=435,
    tests_s=150,
    measuring=0.4,
)
DRY = Scale(device="cpu", d=(8,), m=(2,), l2=(L2.warm,), total_s=60, tests_s=45, measuring=0.02)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 0, also where a figure is missed; 1 if a test or a run failed; 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dry-run", action="store_true", help="in miniature, on the CPU")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to write")
    options = parser.parse_args(arguments)
    try:
        if not options.dry_run:
            require_gpu()
        code = run(DRY if options.dry_run else FULL, options.results)
    except UserError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the sizes that were finished are kept", file=sys.stderr)
        code = Interrupted.exit_code
    sys.exit(code)


def require_gpu() -> None:
    """Raise UserError where torch sees no GPU, with the cause and the remedy."""
    with warnings.catch_warnings():  # which would say the same in many lines
        warnings.simplefilter("ignore")
        if torch.cuda.is_available():
            return
    cause = (
        f"torch {torch.__version__} is a build without CUDA: install one with it"
        if torch.version.cuda is None
        else f"torch, built for CUDA {torch.version.cuda}, finds none: "
        "see whether `nvidia-smi` lists one and its driver is as new"
    )
    raise UserError(f"make gpu needs an NVIDIA GPU that torch can see, and {cause}")


def run(scale: Scale, results: Path) -> int:
    """Test, time and judge; returns the exit code."""
    start = time.monotonic()

    def left() -> float:
        return scale.total_s - (time.monotonic() - start)

    if not sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", "130")  # tables of eight sizes, not cut to 80
    console = Console()
    folder = results / "gpu" / datetime.now().strftime("%Y%m%d-%H%M%S")
    healthy = tests_pass(scale)
    summaries = []
    for config, too_slow in runs(scale, folder, left):
        console.rule(f"{config.dtype.value}, m = {config.sizes.m}, L2 {config.measure.l2.value}")
        try:
            time_fasth.run(config, as_yaml(config), too_slow=too_slow, left=left)
        except UserError:
            raise
        except Exception:  # the figures of the other runs are worth having
            traceback.print_exc()
            healthy = False
        place = folder / "time-fasth" / str(config.name)
        if (place / "summary.csv").exists():
            summaries.append(read_summary(RecordedRun(place)))
    if scale.device == "cpu":
        console.print(f"a dry run on the CPU judges no figures; its rows are in {folder}")
    elif summaries:
        import pandas as pd

        finish(figures(pd.concat(summaries), scale.d), folder)
    if not healthy:
        console.print("[red]failed:[/] the tests on the device or a run; see above")
    return 0 if healthy else 1


def tests_pass(scale: Scale) -> bool:
    """Run the tests that need a GPU in a process of their own, so that they can't harm ours."""
    command = [sys.executable, "-m", "pytest", "--tb=short", "-rs", "tests/test_gpu.py"]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if scale.device == "cpu" else {}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **hidden}, timeout=scale.tests_s
        )
    except subprocess.TimeoutExpired:
        print(f"the tests were stopped: not done within {scale.tests_s:.0f} s", file=sys.stderr)
        return False
    return done.returncode == 0


def runs(
    scale: Scale, folder: Path, left: Callable[[], float]
) -> Iterator[tuple[TimeFastH, TooSlow]]:
    """The configurations of all runs, the most wanted first, with a share of the time left.

    With each comes what is too slow for its dtype and m, known from the runs before.
    """
    everyone = options_of_all()
    methods = [*FIRST, *(name for name in everyone if name not in FIRST)]
    too_slow: dict[tuple[Dtype, int], TooSlow] = defaultdict(dict)
    wanted = list(itertools.product(scale.l2, DTYPES, scale.m))
    parts = [3, *(1 for _ in wanted[1:])]
    for i, (l2, dtype, m) in enumerate(wanted):
        budget_s = scale.measuring * max(left(), 1.0) * parts[i] / sum(parts[i:])
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


def as_yaml(config: TimeFastH) -> str:
    """The text of the run's ``config.yaml``."""
    plain = json.loads(json.dumps(asdict(config), default=lambda choice: choice.value))
    return str(yaml.safe_dump(plain, sort_keys=False))


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
