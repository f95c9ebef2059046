"""Registers, shared memory and instructions of every shipped kernel, from the compiler.

    python -m svdbench.kernels.triton_ahead FOLDER

compiles them all, which takes minutes and no GPU, and writes registers, spills, shared
memory and instructions per chip to ``kernels.csv`` and, for reading, ``kernels.md``. With
``--largest``, only the largest of each kernel; with ``--quick``, those on sm_90 alone. Triton's
interpreter must be off.

A row is written as soon as it is known: the same command continues where it was stopped, and
after a change compiles only what has changed.
"""

import argparse
import csv
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import MockTensor, create_function_from_signature

from . import (
    triton_delta,
    triton_factors,
    triton_gradient,
    triton_recurrence,
    triton_scan,
    triton_sweep,
    triton_tile_factors,
    triton_tile_gradient,
    triton_tile_sweep,
)
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
# Dtype of V and how products are made: as triton_precision chooses them.
KINDS = (
    *(("fp32", "ieee"), ("fp32", "bf16x6"), ("fp32", "tf32")),
    *(("bf16", "tf32"), ("fp16", "tf32")),
)
USUAL = KINDS[0], KINDS[1], KINDS[3]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Arguments that are multiples of 16 whatever n, d and m, and those that are if these three are.
ALWAYS_ALIGNED = ("k", "half", "part", "spread", "stride_Z", "stride_W")
ALIGNED = (*ALWAYS_ALIGNED, "n", "d", "m", "stride_A", "stride_states", "stride_out", "stride_G")
# Kernels that read the state before the first block, which has the dtype of V.
READ_STATES = ("rows_kernel", "update_kernel")
INSTRUCTIONS = {
    "fma": ("FFMA", "FFMA2"),
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
    least_shared: int = 0  # bytes of shared memory of a chip that it is for

    @property
    def row(self) -> dict[str, Any]:
        words = " ".join(f"{name}={value}" for name, value in self.constants.items())
        name = self.kernel.__name__.removesuffix("_kernel")
        return {
            **{"kernel": name, "dtype": self.dtype, "constants": words, **self.options},
            "sizes": "multiples of 16" if self.aligned and _takes_sizes(self.kernel) else "any",
        }


def _takes_sizes(kernel: Any) -> bool:
    """Whether it is given n, d or m, for whose multiples of 16 Triton compiles it apart."""
    return any(name in kernel.arg_names for name in ("n", "d", "m"))


def shipped() -> Iterator[Build]:
    """Every kernel with each dtype, precision, tile and way that it is launched with."""
    for aligned in (True, False):
        for dtype in DTYPES:
            for k in BLOCK_SIZES:
                config = triton_factors.factors_config(k)
                yield _build(triton_factors.factors_kernel, dtype, config, aligned)
            yield _build(triton_factors.join_kernel, dtype, triton_factors.join_config(), aligned)
        yield from _recurrent(aligned)
        yield from _scans(aligned)
        if aligned:  # what these kernels are given is compiled once for all sizes
            yield from _deltas()
        for (dtype, precision), keep in product(KINDS, (True, False)):
            flags: dict[str, Any] = {"KEEP": keep, "PRECISION": precision}
            for width in (4, 8) if precision == "ieee" else (8,):
                for d in (64, 128, RESIDENT_LENGTH):
                    size = RESIDENT_BLOCK, d, width, precision, aligned
                    config = flags | triton_sweep.resident_config(*size)
                    yield _build(triton_sweep.sweep_resident_kernel, dtype, config, aligned)
                for k in BLOCK_SIZES:
                    config = flags | triton_sweep.streamed_config(k, width)
                    yield _build(triton_sweep.sweep_streamed_kernel, dtype, config, aligned)
        for dtype, precision in KINDS:
            for k in BLOCK_SIZES:
                config = triton_gradient.gradient_config(k, precision, aligned)
                config = {"PRECISION": precision} | config
                yield _build(triton_gradient.gradient_kernel, dtype, config, aligned)
            for kernel, config in _tiled(precision, aligned):
                once = aligned or _takes_sizes(kernel)
                if once and (dtype == "fp32" or "p_V" in kernel.arg_names):
                    yield _build(kernel, dtype, config, aligned)


def _recurrent(aligned: bool) -> Iterator[Build]:
    """A loop over time with every size of W, in both directions."""
    kernel, large = triton_recurrence.recurrence_kernel, triton_recurrence.LARGE_SHARED
    sizes = (16, 32, 64, 128, 256)[: None if aligned else -1]
    for precision, n in product(("ieee", "bf16x6", "tf32"), sizes):
        for backward, phi in ((False, "tanh"), (False, "modrelu"), (True, "tanh")):
            flags = {"FIRST": phi == "modrelu", "BACKWARD": backward, "PHI": phi}
            configs = [
                triton_recurrence.recurrence_config(n if aligned else n - 1, precision, is_large)
                for is_large in (False, True)
            ]
            yield _build(kernel, "fp32", flags | configs[0], aligned)
            if configs[1] != configs[0]:
                build = _build(kernel, "fp32", flags | configs[1], aligned)
                yield build._replace(least_shared=large)


def _scans(aligned: bool) -> Iterator[Build]:
    """Linear recurrences: as minGRU and LRU have them, and with factors of each step."""
    flags = ("FIRST", "BACKWARD", "CONSTANT")
    ways = [(False, False, False), (False, True, False), (False, False, True), (False, True, True)]
    for is_complex, way in product((False, True), [(True, False, True), *ways]):
        config = dict(zip(flags, way, strict=True)) | triton_scan.scan_config(is_complex)
        yield _build(triton_scan.scan_kernel, "fp32", config, aligned)
    for first in (True, False):
        config = {"FIRST": first} | triton_scan.gated_config()
        yield _build(triton_scan.gated_scan_kernel, "fp32", config, aligned)
        yield _build(triton_scan.gated_gradient_kernel, "fp32", config, aligned)


def _deltas() -> Iterator[Build]:
    """The delta rule with keys of every length, and all that may be given."""
    for precision, d_k, more in product(("ieee", "bf16x6", "tf32"), (16, 32), (0, 1)):
        config = triton_delta.delta_config(d_k, precision)
        for kernel, flag in (
            (triton_delta.delta_states_kernel, "WRITES"),
            (triton_delta.delta_gradient_kernel, "STATES"),
        ):
            yield _build(kernel, "fp32", {flag: bool(more)} | config, True)


def _tiled(precision: str, aligned: bool) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The kernels for large blocks, whose sizes are arguments."""
    factors, sweep, gradient = triton_tile_factors, triton_tile_sweep, triton_tile_gradient
    if precision in ("bf16x6", "tf32"):  # once a dtype
        yield factors.scale_kernel, factors.scale_config()
    yield factors.invert_kernel, factors.invert_config(precision)
    yield factors.gram_kernel, factors.gram_config(precision)
    for pairs in (4, 8, 16):  # as many as 512, 1024 and 2048 reflectors make
        yield factors.join_strip_kernel, factors.strip_config(pairs, precision)
    for second, pairs in product((False, True), (2, 4)):
        config = factors.join_tile_config(pairs, 2 * factors.TILE, precision)
        yield factors.join_tile_kernel, {"SECOND": second} | config
    for columns in (sweep.WIDE, sweep.WIDE + 1):
        yield sweep.rows_kernel, sweep.rows_config(columns, precision, aligned)
        for transpose in (False, True):
            config = {"TRANSPOSE": transpose} | sweep.triangle_config(columns, precision)
            yield sweep.triangle_kernel, config
        for keep in (True, False):
            yield sweep.update_kernel, sweep.update_config(columns, precision, aligned, keep)
    for transpose in (False, True):
        config = {"TRANSPOSE": transpose} | gradient.half_product_config(precision)
        yield gradient.half_product_kernel, config
    for d in (RESIDENT_LENGTH, 1024):
        yield gradient.tile_gradient_kernel, gradient.tile_gradient_config(d, precision)


def _build(kernel: Any, dtype: str, config: dict[str, Any], aligned: bool) -> Build:
    options = {name: config[name] for name in ("num_warps", "maxnreg")}
    constants = {name: value for name, value in config.items() if name not in options}
    return Build(kernel, dtype, constants, options, aligned)


def compile_for(build: Build, chip: Chip) -> dict[str, Any]:
    """A row of the table: the resources that ``build`` needs on ``chip``."""
    target = target_of(chip)
    compiled = triton.compile(source(build, target), target, build.options)
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
        "guarded": _is_guarded(build, compiled.asm["ptx"]),
        "key": key_of(build, chip),
    }


def target_of(chip: Chip) -> GPUTarget:
    return GPUTarget("cuda", chip.capability, 32)


def key_of(build: Build, chip: Chip) -> str:
    """What the row of ``build`` depends on: the compiler, the kernel's source, and the chip."""
    what = triton.__version__, source(build, target_of(chip)).hash(), build.row, chip
    return sha256(repr(what).encode()).hexdigest()[:12]


def source(build: Build, target: GPUTarget) -> ASTSource:
    """What Triton compiles, made as it makes it when the kernel is about to be launched.

    So that it then finds the result in its cache: what it notes of an argument differs from one
    version to the next.
    """
    typed = {"p_V", "p_X"}
    if build.kernel.__name__ in READ_STATES:
        typed.add("p_A")
    if build.kernel.__name__ in ("sweep_resident_kernel", "update_kernel"):
        typed.add("p_out")
    if build.dtype == "bf16":
        typed.add("p_dV")
    arguments: dict[str, Any] = dict(build.constants)
    for name in build.kernel.arg_names:
        if name.startswith("p_"):
            arguments[name] = MockTensor(DTYPES[build.dtype if name in typed else "fp32"])
        elif name not in build.constants:
            aligned = name in (ALIGNED if build.aligned else ALWAYS_ALIGNED)
            arguments[name] = 64 if aligned else 63
    backend = make_backend(target)
    kernel, given = build.kernel, arguments | build.options
    bound = create_function_from_signature(kernel.signature, kernel.params, backend)(**given)
    _, *parts = kernel._pack_args(backend, given, *bound)
    return ASTSource(kernel, *parts)


def _is_guarded(build: Build, ptx: str) -> bool:
    if build.kernel is triton_sweep.sweep_streamed_kernel:
        return is_guarded(ptx)
    if build.kernel is triton_recurrence.recurrence_kernel and not build.constants["RESIDENT"]:
        return re.match(r"B.*L.*S", _accesses(ptx)) is not None
    return True


def is_guarded(ptx: str) -> bool:
    """Whether barriers of the streamed sweep stand where its threads read what others stored.

    Its longest loop begins with a barrier, before any load, and has another one between the two
    times that it reads a state.
    """
    return re.match(r"B.*L.*B.*L.*S", _accesses(ptx)) is not None


def _accesses(ptx: str) -> str:
    """Loads (L), stores (S) and barriers (B) of the loop that spans the most."""
    labels = {found[1]: found.end() for found in re.finditer(r"^(\$L__\w+):", ptx, re.M)}
    jumps = (
        (found.start(), labels[found[1]]) for found in re.finditer(r"bra\S*\s+(\$L__\w+)", ptx)
    )
    _, begin, end = max((end - begin, begin, end) for end, begin in jumps)
    events = re.findall(
        r"\b(ld\.global|cp\.async\.c[ag]|st\.global|bar(?:rier)?\.sync)", ptx[begin:end]
    )
    return "".join({"l": "L", "c": "L", "s": "S", "b": "B"}[event[0]] for event in events)


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


def table(
    folder: Path, processes: int, *, largest: bool = False, chips: Sequence[Chip] = CHIPS
) -> list[dict[str, Any]]:
    """A row for every configuration, or the largest, and chip; from ``kernels.csv`` if it has it.

    Those that it lacks are compiled, ``processes`` at once, and appended as they come; in the end
    the file has the rows asked for, in the order of :func:`shipped`.
    """
    builds = _largest() if largest else list(enumerate(shipped()))
    path = folder / "kernels.csv"
    known = read_table(path)
    keys = {
        (i, chip): key_of(build, chip)
        for (i, build), chip in product(builds, chips)
        if chip.shared_bytes >= build.least_shared
    }
    missing = [place for place, key in keys.items() if key not in known]
    if known and missing:
        print(f"{len(keys) - len(missing)} of {len(keys)} were compiled before", flush=True)
    with ProcessPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(_row, i, chip) for i, chip in missing]):
            row = done.result()
            new = not path.exists() or not known
            with open(path, "w" if new else "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, row)
                if new:
                    writer.writeheader()
                writer.writerow(row)
            known[row["key"]] = row
    rows = [known[key] for key in keys.values()]
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
    return rows


NUMBERS = ("registers", "spilled_bytes", "shared_bytes", "shared_limit_bytes", "instructions")


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """The whole rows of a ``kernels.csv``, by their key; none of a file without that column."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("key") and None not in row.values()]
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        numbers = {name: int(row[name]) for name in (*NUMBERS, *INSTRUCTIONS)}
        found[row["key"]] = row | numbers | {"guarded": row["guarded"] == "True"}
    return found


def _largest() -> list[tuple[int, Build]]:
    """The largest build of each kernel and of three kinds, with its place among all.

    That is one of sizes in sixteens, and for training.
    """
    found: dict[tuple[str, str, str | None], tuple[int, Build]] = {}
    for i, build in enumerate(shipped()):
        precision = build.constants.get("PRECISION")
        kinds = {(dtype, None) for dtype, _ in USUAL} | set(USUAL)
        constants: dict[str, Any] = {"KEEP": True, "PHI": "tanh", "N": 64} | build.constants
        trained: bool = constants["KEEP"] and constants["PHI"] == "tanh" and constants["N"] >= 64
        if build.aligned and trained and (build.dtype, precision) in kinds:
            found[build.kernel.__name__, build.dtype, precision] = i, build
    return sorted(found.values(), key=lambda place: place[0])


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
    """Write the table; exit code 1 where a kernel is not as it is meant: see :func:`is_wrong`."""
    parser = argparse.ArgumentParser(prog="python -m svdbench.kernels.triton_ahead")
    parser.add_argument("folder", type=Path, help="where to write kernels.csv and kernels.md")
    parser.add_argument(
        "--largest", action="store_true", help="only the largest of each kernel, on every chip"
    )
    parser.add_argument("--quick", action="store_true", help="the same on sm_90 alone")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="compilers at once"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chips = [chip for chip in CHIPS if chip.name == "sm_90" or not options.quick]
    largest = options.quick or options.largest
    rows = table(options.folder, options.processes, largest=largest, chips=chips)
    (options.folder / "kernels.md").write_text(as_markdown(rows), encoding="utf-8")
    wrong = [row for row in rows if is_wrong(row)]
    print(
        f"{len(rows)} compiled by Triton {triton.__version__}; {len(wrong)} of them spill, don't "
        f"fit, lack a barrier, or miss the tensor cores: {options.folder}"
    )
    for row in wrong:
        print(row)
    raise SystemExit(1 if wrong else 0)


def is_wrong(row: Mapping[str, Any]) -> bool:
    """Whether a kernel spills, asks for too much shared memory, lacks a barrier, or multiplies
    elsewhere than on tensor cores where its precision means these, and nowhere else."""
    too_large = row["shared_bytes"] > row["shared_limit_bytes"]
    on_tensor_cores = any(row[unit] for unit in ("mma", "wgmma", "tcgen05"))
    meant = "PRECISION=" in row["constants"] and "PRECISION=ieee" not in row["constants"]
    return bool(row["spilled_bytes"]) or too_large or not row["guarded"] or on_tensor_cores != meant


if __name__ == "__main__":
    main()
