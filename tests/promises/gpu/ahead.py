"""Compiles the Triton kernels on all cores, for Triton's cache, so that a step finds them there.

    python -m promises.gpu.ahead 90

beside the first part of ``make gpu``: one after another they would take a minute. What is most
used comes first. Ended from outside when others measure.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor

os.environ.pop("TRITON_INTERPRET", None)  # read when Triton is imported

import triton
from triton.backends.compiler import GPUTarget

from svdbench.kernels import triton_ahead

REHEARSED = 2  # builds


def main() -> None:
    """Compile for the compute capability that is the argument; of a rehearsal, a few for 90."""
    rehearsal = not sys.argv[1].isdigit()
    capability = 90 if rehearsal else int(sys.argv[1])
    order = sorted(enumerate(triton_ahead.shipped()), key=lambda each: worth(each[1]))
    chosen = [i for i, _ in order][: REHEARSED if rehearsal else None]
    with ProcessPoolExecutor(1 if rehearsal else max(1, (os.cpu_count() or 1) - 2)) as pool:
        done = sum(pool.map(compile_one, chosen, [capability] * len(chosen)))
    print(f"{done} kernels compiled ahead")


def worth(build: triton_ahead.Build) -> tuple[bool, bool, bool]:
    """Sorts first what a step in float32 takes, at odd sizes, which come first."""
    precision = build.constants.get("PRECISION", "bf16x6")
    return build.dtype != "fp32", precision != "bf16x6", build.aligned


def compile_one(number: int, capability: int) -> int:
    """Compile one of the shipped kernels: 1, or 0 where that fails, which a part will say."""
    build = list(triton_ahead.shipped())[number]
    target = GPUTarget("cuda", capability, 32)
    try:
        triton.compile(triton_ahead.source(build, target), target, build.options)
    except Exception as error:
        print(f"{build.row}: {error}", flush=True)
        return 0
    return 1


if __name__ == "__main__":
    main()
