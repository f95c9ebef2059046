"""A part of ``make gpu``: the kernels at odd sizes under NVIDIA's compute-sanitizer.

It finds accesses out of bounds that happen to hit memory of ours. Not on every machine: where the
tool is not installed, or can't attach, there is a line that says so.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CASES = 9  # of ``promises.gpu.kernels``: every kernel once
PLACES = (Path("/usr/local/cuda/bin"), Path("/opt/cuda/bin"))
CANNOT = ("not supported", "Unable to find", "Failed to", "Internal Sanitizer Error", "Timed out")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 1 if it found an error."""
    parser = argparse.ArgumentParser(prog="python -m promises.gpu.memcheck")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rehearse", choices=("interpreter", "host"))
    parser.add_argument("--seconds", type=float, default=30.0, help="of the tool")
    options = parser.parse_args(arguments)
    tool = find_tool()
    if tool is None or options.rehearse:
        why = "there is no GPU" if options.rehearse else "compute-sanitizer is not installed"
        print(f"not checked: {why}")
        return
    # Memory of its own for each tensor: in PyTorch's cache one has others around it.
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    kernels = ["-m", "promises.gpu.kernels", str(options.folder / "memcheck"), "--count"]
    command = [tool, "--tool", "memcheck", sys.executable, *kernels, str(CASES)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=options.seconds,
        )
    except subprocess.TimeoutExpired:
        print(f"not checked: compute-sanitizer did not finish in {options.seconds:.0f} s")
        return
    print(done.stdout)
    sys.exit(verdict(done.stdout))


def find_tool() -> str | None:
    """The path of compute-sanitizer, which is often in no folder that commands are looked for."""
    for folder in (None, *PLACES):
        path = None if folder is None else str(folder)
        if found := shutil.which("compute-sanitizer", path=path):
            return found
    return None


def verdict(said: str) -> int:
    """The exit code for what the tool said: 1 for an error that it found."""
    if "ERROR SUMMARY: 0 errors" in said:
        return 0
    if "ERROR SUMMARY:" in said and not any(words in said for words in CANNOT):
        return 1
    print("not checked: compute-sanitizer could not run here")
    return 0


if __name__ == "__main__":
    main()
