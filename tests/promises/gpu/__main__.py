"""``make gpu``: does it run, how fast, and how exact is it? On an NVIDIA GPU, in seven minutes.

Parts in the order of their worth, each in a process with its own time limit: a crash or a hang
costs a part. The first says of each kernel whether it compiles, runs and agrees with float64.
What they find is in ``results/gpu/<time>/``, and all of it in one archive beside that.

Neither Hydra nor an installation is needed: the checkout, and python3 with torch, Triton, NumPy,
pandas, typer, rich, matplotlib, PyYAML and pytest. ``--rehearse`` goes through all of it in
miniature on the CPU and judges no figures: with ``interpreter`` (the default) Triton's
interpreter runs the kernels, with ``host`` they are launched by a driver that does nothing.
"""

import argparse
import os
import signal
import sys
import tarfile
import time
import warnings
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

from promises.figures import show_figures, write_figures
from promises.gpu.parts import ROOT, Part, PartOutcome, end, outcomes_table, run_part, start
from promises.gpu.timings import FULL, figures, read_runs
from svdbench.errors import Interrupted, UserError
from svdbench.record.reader import RecordedRun
from svdbench.reporting.render import print_lines, show_block

TOTAL_S = 420.0
LEAST_S = 5.0  # with less time left no part begins
LEFT_S = 120.0  # the most for what comes last, which gets what is left
PLOTS_S = 15.0  # of a part's limit: for imports, the cell that has begun, and the plots
SLOWER = 10  # a rehearsal, by the interpreter or on a busy machine


def parts(folder: Path, rehearsal: str | None, short: bool = False) -> list[Part]:
    """All parts, the most wanted first.

    Args:
        short: every kernel once, and no more.
    """
    slower = SLOWER if rehearsal else 1
    mode = ("--rehearse", rehearsal) if rehearsal else ()
    pytest = ("-m", "pytest", "--tb=short", "-vv", "-p", "no:cacheprovider")
    # Kernels are compiled anew for sizes of 1 and others: on all cores where that can be had.
    cores = min(12, os.cpu_count() or 1)
    spread = ("-n", str(cores)) if find_spec("xdist") and not rehearsal else ()

    def ours(
        name: str, what: str, limit_s: float, module: str, *more: str, ending_s: float = 6.0
    ) -> Part:
        """A module of ours, which ends by itself before the limit."""
        arguments = ("-m", f"promises.gpu.{module}", str(folder), *mode, *more)
        return Part(name, what, arguments, slower * limit_s, ending_s)

    def tests(name: str, what: str, limit_s: float, *options: str) -> Part:
        junit = f"--junitxml={folder / name}.xml"
        return Part(name, what, (*pytest, junit, *options), slower * limit_s)

    once = ("--count", "9") if short else ()
    return [
        ours("kernels", "does each kernel run, and agree with float64?", 60, "kernels", *once),
        ours("steps", "host, device and graph replay; plans; kernels", 60, "steps"),
        ours("timings", "the promised figures", 100, "timings", ending_s=PLOTS_S),
        ours("micro", "what the GPU itself can do", 25, "micro"),
        tests("smoke", "everything else that touches CUDA", 60, "tests/test_gpu_smoke.py"),
        tests("tests", "the core on hostile inputs", 75, *spread, "tests/test_gpu.py"),
        ours("memcheck", "accesses out of bounds", 35, "memcheck"),
        ours("more", "cold caches, more columns", LEFT_S, "timings", "--more", ending_s=PLOTS_S),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 0, also where a figure is missed; 1 if a part failed; 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--rehearse", choices=("interpreter", "host"), nargs="?", const="interpreter",
        help="in miniature, on the CPU",
    )  # fmt: skip
    parser.add_argument("--short", action="store_true", help="each kernel once, and no more")
    parser.add_argument("--only", default="", help="parts, as kernels,steps")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to write")
    options = parser.parse_args(arguments)
    # As ^C: the part that runs is ended, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not options.rehearse:
            require_gpu()
        folder = options.results.resolve() / "gpu" / datetime.now().strftime("%Y%m%d-%H%M%S")
        chosen = choose(parts(folder, options.rehearse, options.short), options.only)
        code = run(chosen, folder, options.rehearse, TOTAL_S * (SLOWER if options.rehearse else 1))
    except UserError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        code = Interrupted.exit_code
    sys.exit(code)


def choose(every: list[Part], names: str) -> list[Part]:
    """The parts named, or all; raises UserError for a name that is none."""
    wanted = [name for name in names.split(",") if name]
    known = [part.name for part in every]
    for name in wanted:
        if name not in known:
            raise UserError(f"no part is called {name!r}: choose from {', '.join(known)}")
    return [part for part in every if not wanted or part.name in wanted]


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


def environment_for(rehearsal: str | None) -> dict[str, str]:
    """The environment of a part: in a rehearsal no GPU, and Triton's interpreter if wanted."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    found["PYTHONUNBUFFERED"] = "1"
    found.pop("TRITON_INTERPRET", None)
    if not sys.stdout.isatty():
        found.setdefault("COLUMNS", "130")  # tables of eight sizes, not cut to 80
    if rehearsal:
        found["CUDA_VISIBLE_DEVICES"] = ""
        if rehearsal == "interpreter":
            found["TRITON_INTERPRET"] = "1"
    return found


def run(chosen: Sequence[Part], folder: Path, rehearsal: str | None, total_s: float) -> int:
    """Run the parts and judge; returns the exit code."""
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    environment = environment_for(rehearsal)
    os.environ.setdefault("COLUMNS", environment.get("COLUMNS", "130"))
    console = Console()
    outcomes: list[PartOutcome] = []
    ahead = start(("-m", "promises.gpu.ahead", rehearsal or device_chip()), environment)
    try:
        for part in chosen:
            left = total_s - (time.monotonic() - begin)
            if left < LEAST_S:
                outcomes.append(PartOutcome(part, "skipped", words="no time was left"))
                continue
            console.rule(f"{part.name}: {part.what}")
            outcomes.append(run_part(part, folder, min(part.limit_s, left), environment))
            end(ahead)  # compiles beside the first part alone: the others measure
    finally:
        end(ahead)
    found = figures(read_runs(timed(folder)), FULL.d)
    if not rehearsal:
        write_figures(found, folder)
    archive = folder.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    show_block(outcomes_table(outcomes), console)
    print_lines(console, [f"all results: {archive}"])
    if rehearsal:
        console.print(f"a rehearsal on the CPU judges no figures; its rows are in {folder}")
    else:
        show_figures(found, console)
    return 1 if any(outcome.status in ("failed", "stopped") for outcome in outcomes) else 0


def device_chip() -> str:
    """The compute capability of the current device, such as 90."""
    major, minor = torch.cuda.get_device_capability()
    return str(10 * major + minor)


def timed(folder: Path) -> list[RecordedRun]:
    """The runs of the timing parts that have a summary."""
    places = sorted((folder / "time-fasth").glob("*"))
    return [RecordedRun(place) for place in places if (place / "summary.csv").exists()]


if __name__ == "__main__":
    main()
