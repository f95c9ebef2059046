"""Registers, shared memory and instructions of every shipped kernel, from the compiler.

    python -m svdbench.kernels.triton_ahead FOLDER

compiles them all, which takes minutes and no GPU, and writes registers, spills, shared
memory and instructions per chip to ``kernels.csv`` and, for reading, ``kernels.md``. With
``--quick``, only sizes that are multiples of 16, on sm_90. Triton's interpreter must be off.
"""

import argparse
import csv
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import triton_factors, triton_gradient, triton_sweep
from .triton_support import BLOCK_SIZES, RESIDENT_BLOCK, RESIDENT_LENGTH


class Chip(NamedTuple):
    """A target of the compiler."""

    name: str
    capability: int
    shared_bytes: int  # the most that one program may use


CHIPS = (
    Chip("sm_80", 80, 99 * 1024),  # itself it has 163 KiB, but sm_86 and sm_89 run this code too
    Chip("sm_90", 90, 227 * 1024),
    Chip("sm_100", 100, 227 * 1024),
    Chip("sm_120", 120, 99 * 1024),
)
# Dtype of V and how products are made: as triton_wy chooses them.
KINDS = (("fp32", "ieee"), ("fp32", "tf32"), ("bf16", "tf32"), ("fp16", "tf32"))
INSTRUCTIONS = {
    "fma": ("FFMA",),
    "mma": ("HMMA",),
    "wgmma": ("HGMMA",),
    "tcgen05": ("UTCHMMA", "UTCMMA", "UTCQMMA"),
}


class Build(NamedTuple):
    """One thing to compile."""

    kernel: Any
    dtype: str
    constants: dict[str, Any]
    options: dict[str, int | None]  # of the compiler
    aligned: bool  # whether n, d and m are multiples of 16, which Triton compiles apart

    @property
    def row(self) -> dict[str, Any]:
        words = " ".join(f"{name}={value}" for name, value in self.constants.items())
        name = self.kernel.__name__.removesuffix("_kernel")
        return {
            **{"kernel": name, "dtype": self.dtype, "constants": words, **self.options},
            "sizes": "multiples of 16" if self.aligned else "any",
        }


def shipped() -> Iterator[Build]:
    """Every kernel with every dtype, precision and constants that it is ever launched with."""
    for aligned in (True, False):
        for dtype, k in product(("fp32", "bf16", "fp16"), (16, 32, 64, 1024)):
            yield _build(
                triton_factors.factors_kernel, dtype, triton_factors.factors_config(k), aligned
            )
            half = triton_factors.BASE
            while half <= triton_factors.LARGEST_HALF and 2 * half <= k:
                config = triton_factors.join_config(half, k)
                yield _build(triton_factors.join_kernel, dtype, config, aligned)
                half *= 2
        for (dtype, precision), keep in product(KINDS, (True, False)):
            flags: dict[str, Any] = {"KEEP": keep, "PRECISION": precision}
            for d in (64, 128, RESIDENT_LENGTH):
                config = flags | triton_sweep.resident_config(RESIDENT_BLOCK, d)
                yield _build(triton_sweep.sweep_resident_kernel, dtype, config, aligned)
            for k in BLOCK_SIZES:
                config = flags | triton_sweep.streamed_config(k)
                yield _build(triton_sweep.sweep_streamed_kernel, dtype, config, aligned)
        for (dtype, precision), k in product(KINDS, BLOCK_SIZES):
            config = {"PRECISION": precision} | triton_gradient.gradient_config(k)
            yield _build(triton_gradient.gradient_kernel, dtype, config, aligned)


def _build(kernel: Any, dtype: str, config: dict[str, Any], aligned: bool) -> Build:
    options = {name: config[name] for name in ("num_warps", "maxnreg")}
    constants = {name: value for name, value in config.items() if name not in options}
    return Build(kernel, dtype, constants, options, aligned)


def compile_for(build: Build, chip: Chip) -> dict[str, Any]:
    """A row of the table: the resources that ``build`` needs on ``chip``."""
    names = build.kernel.arg_names
    given = {"p_V": f"*{build.dtype}", "p_X": f"*{build.dtype}"}
    if build.kernel is triton_sweep.sweep_resident_kernel:
        given["p_out"] = f"*{build.dtype}"
    if build.dtype == "bf16":
        given["p_dV"] = "*bf16"
    signature: dict[str, str] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for i, name in enumerate(names):
        if name in build.constants:
            signature[name] = "constexpr"
            continue
        signature[name] = given.get(name, "*fp32") if name.startswith("p_") else "i32"
        if name.startswith("p_") or (build.aligned and name in ("n", "d", "m")):
            attributes[(i,)] = [["tt.divisibility", 16]]
    constants = {(names.index(name),): value for name, value in build.constants.items()}
    source = ASTSource(build.kernel, signature, constants, attributes)
    compiled = triton.compile(source, GPUTarget("cuda", chip.capability, 32), build.options)
    usage, assembly = _disassembled(compiled.asm["cubin"])
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    operations = Counter(re.findall(r"^\s+/\*\w{4,}\*/\s+(?:@!?U?P\w+\s+)?(\w+)", assembly, re.M))
    return {
        **build.row,
        "chip": chip.name,
        "registers": int(found[1]),
        "spilled_bytes": int(found[2]),
        "shared_bytes": compiled.metadata.shared,
        "shared_limit_bytes": chip.shared_bytes,
        "instructions": operations.total(),
        **{name: sum(operations[op] for op in ops) for name, ops in INSTRUCTIONS.items()},
    }


def _disassembled(cubin: bytes) -> tuple[str, str]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, assembly = (
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True)
            for option in ("-res-usage", "-sass")
        )
    return usage.stdout, assembly.stdout


def table(quick: bool) -> list[dict[str, Any]]:
    """A row for every configuration and chip, compiled on all cores."""
    builds = [i for i, build in enumerate(shipped()) if build.aligned or not quick]
    chips = [chip for chip in CHIPS if chip.name == "sm_90" or not quick]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_row, *zip(*product(builds, chips), strict=True)))


def _row(number: int, chip: Chip) -> dict[str, Any]:
    return compile_for(list(shipped())[number], chip)  # a kernel can't be sent to a process


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each configuration, a column for each chip."""
    chips = list(dict.fromkeys(row["chip"] for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        what = (row["kernel"], row["dtype"], row["constants"], str(row["num_warps"]), row["sizes"])
        units = ", ".join(f"{row[unit]} {unit}" for unit in INSTRUCTIONS if row[unit])
        spilled = f", {row['spilled_bytes']} B spilled" if row["spilled_bytes"] else ""
        lines.setdefault(what, {})[row["chip"]] = (
            f"{row['registers']} registers{spilled}, {row['shared_bytes'] / 1024:.0f} KiB, "
            f"{row['instructions']} instructions: {units}"
        )
    head = ["kernel", "V", "constants", "warps", "sizes", *chips]
    table = [head, ["---"] * len(head)]
    table += [[*what, *(cells.get(chip, "") for chip in chips)] for what, cells in lines.items()]
    return (
        "# What the Triton kernels need of a chip\n\n"
        f"Compiled ahead of time by Triton {triton.__version__}; per thread, and per program.\n\n"
        + "\n".join("| " + " | ".join(line) + " |" for line in table)
        + "\n"
    )


def main() -> None:
    """Write the table; exit code 1 where something spills or asks for more than a chip has."""
    parser = argparse.ArgumentParser(prog="python -m svdbench.kernels.triton_ahead")
    parser.add_argument("folder", type=Path, help="where to write kernels.csv and kernels.md")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and chips")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = table(options.quick)
    with open(options.folder / "kernels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (options.folder / "kernels.md").write_text(as_markdown(rows), encoding="utf-8")
    wrong = [row for row in rows if is_wrong(row)]
    print(f"{len(rows)} compiled, {len(wrong)} of them spill or don't fit: {options.folder}")
    for row in wrong:
        print(row)
    raise SystemExit(1 if wrong else 0)


def is_wrong(row: dict[str, Any]) -> bool:
    """Whether a configuration spills registers or asks for more shared memory than there is."""
    return bool(row["spilled_bytes"]) or row["shared_bytes"] > row["shared_limit_bytes"]


if __name__ == "__main__":
    main()
