"""A model of a step on an H200, kernel by kernel: what is expected before anything is measured.

    python -m promises.gpu_model

A kernel takes a launch and the longest of three: the loops of its programs, one after another
where not all find room at once, whose turns take the longest of what they load, multiply and
wait for; all that is loaded; and all that is multiplied. The host takes its time beside that:
a step takes the larger of both. No figure here was measured by us on a GPU: the hardware's are
of its datasheet, the latencies of published micro-benchmarks, and the host's of
``promises.host_cost``. Good to ± 40 %.
"""

import sys
from dataclasses import dataclass
from math import ceil

PROCESSORS = 132
CLOCK = 1.98e3  # cycles in a µs
LAUNCH = 2.0  # µs from the end of a kernel to the start of the next, which waits for it
FIRST_LOAD = 1.2  # µs from the start of a program to its first product
NEXT_LOAD = 0.35  # µs that a turn of a loop takes at least: loads are two turns ahead
LAST_STORE = 0.5  # µs
L2_BYTES = 5.5e6  # in a µs, by all processors
ONE_PROCESSORS_BYTES = 64 * CLOCK
LANES = 128  # float32 multiply-adds of a processor in a cycle
# Of a processor with one program of 4 warps, with one of 8, and with two programs. No more are
# counted on: 8 warps may have all registers.
EFFICIENCY, OF_EIGHT, FULL = 0.6, 0.7, 0.9
# Multiply-adds on the tensor cores of a processor in a cycle, and products that one is made of.
TENSOR, SPLITS = 2048, 6
SPLITTING = 12  # instructions to split an operand in three

STORED = 0.3  # µs that a program takes to add up its slices and to store a state on the way

HOST_STEP = 60.0  # µs of autograd and Python around the launches
HOST_LAUNCH = {"kept": 1.6, "looked up": 8.0}  # µs


@dataclass(frozen=True)
class Kernel:
    """Programs that each multiply ``turns`` times a (rows, inner) by an (inner, columns) tile."""

    name: str
    programs: int
    turns: float
    rows: int
    inner: int
    columns: int
    warps: int = 4
    more_bytes: float = 0  # to a turn, beside those of the two tiles
    more_us: float = 0  # to a program, beside its turns

    def time(self, precision: str) -> float:
        """µs from launch to end."""
        elements = (self.rows + self.columns) * self.inner
        products = self.rows * self.inner * self.columns
        if precision == "ieee":
            cycles = products / LANES
        else:
            cycles = SPLITS * products / TENSOR + SPLITTING * elements / LANES
        loads = 4 * elements + self.more_bytes
        speed = min(L2_BYTES / min(self.programs, PROCESSORS), ONE_PROCESSORS_BYTES)
        at_once, alone, full = (1, OF_EIGHT, OF_EIGHT) if self.warps > 4 else (2, EFFICIENCY, FULL)
        turn = max(loads / speed, cycles / CLOCK / alone, NEXT_LOAD)
        rounds = ceil(self.programs / (at_once * PROCESSORS))
        alone = rounds * (self.turns * turn + self.more_us)
        all_turns = self.programs * self.turns
        together = max(
            loads * all_turns / L2_BYTES, cycles * all_turns / (PROCESSORS * CLOCK * full)
        )
        return LAUNCH + FIRST_LOAD + LAST_STORE + max(alone, together)


def step(n: int, d: int, m: int, k: int, precision: str = "bf16x6") -> list[Kernel]:
    """The launches of a step by tiles, forward and backward."""
    from svdbench.kernels import triton_tile_factors as factors
    from svdbench.kernels import triton_tile_gradient as gradient
    from svdbench.kernels import triton_tile_sweep as sweep
    from svdbench.kernels import triton_tiles as tiles
    from svdbench.kernels.triton_launch import ProductSizes

    sizes = ProductSizes(1, n, d, m, k)
    blocks, tile, part = sizes.blocks, factors.TILE, tiles.part_of(k, m)
    shared, gram = factors.gram_parts(sizes), factors.gram_config(precision)
    pairs = blocks * k // (2 * tile)
    strip = factors.strip_config(pairs, precision)
    summed = 4 * (shared - 1)  # bytes to read more of each number of S
    kernels = [
        Kernel("scale", blocks * k // 8, d / 256, 8, 256, 1),
        # Two halves at once: 5 levels of two products, then two products for both as one.
        Kernel("invert", blocks * k // tile, 2 * 5 + 2 + 1, 32, 32, 32),
        Kernel(
            "gram",
            blocks * factors.tiles_above(k) * shared,
            128 * factors.chunk_of(d, shared) / gram["BD"],
            *(tile, gram["BD"], tile, gram["num_warps"]),
        ),
        Kernel(
            "join_strip",
            pairs * (tile // strip["BR"]) * (tile // strip["BC"]),
            *(4, tile, 32, strip["BC"], strip["num_warps"]),
            more_bytes=summed * tile * 32,
        ),
    ]
    half = 2 * tile
    while half < k:
        pairs //= 2
        join = factors.join_tile_config(pairs, half, precision)
        programs = pairs * (half // join["TILE"]) ** 2
        size = join["TILE"], join["BK"], join["TILE"], join["num_warps"]
        more = summed * join["TILE"] * join["BK"]
        kernels += [
            Kernel("join_tile", programs, half / join["BK"], *size, more_bytes=more),
            Kernel("join_tile", programs, half / join["BK"], *size),
        ]
        half *= 2
    parts = sweep.parts_of(1, k, d, m)
    rows = sweep.rows_config(m, precision, sizes.aligned)
    triangle = sweep.triangle_config(m, precision)
    update = sweep.update_config(m, precision, sizes.aligned, keep=True)
    inner, depth = rows["SLICES"] * rows["BC"], triangle["SLICES"] * triangle["BC"]
    several = n > part
    each = [
        Kernel(
            "rows",
            sweep.rows_programs(1, k, m, parts),
            ceil(min(128 * factors.chunk_of(d, parts), d) / inner),
            *(rows["BK"], inner, rows["BM"], rows["num_warps"]),
        ),
        Kernel(
            "triangle",
            sweep.triangle_programs(1, k, m),
            # Half of the triangle on the average, and the longest row counts where all run at once.
            k / depth,
            *(triangle["BK"], depth, triangle["BM"], triangle["num_warps"]),
            more_bytes=4 * (parts - 1) * depth * triangle["BM"],
        ),
        Kernel(
            "update",
            sweep.update_programs(1, d, m),
            min(k, n) / (update["SLICES"] * update["BC"]),
            update["BD"],
            update["SLICES"] * update["BC"],
            *(update["BM"], update["num_warps"]),
            more_us=STORED * (k // part if several else 0),
        ),
    ]
    kernels += 2 * blocks * each
    at_once = min(blocks, tiles.SEGMENT)
    half_config = gradient.half_product_config(precision)
    config = gradient.tile_gradient_config(d, precision)
    for _ in range(ceil(blocks / tiles.SEGMENT)):
        number = at_once * (k // part)
        kernels += [
            Kernel(
                "half_product",
                gradient.half_programs(number, part),
                2 * m / half_config["BM"],
                *(half_config["TILE"], half_config["BM"], half_config["TILE"]),
                half_config["num_warps"],
            ),
            Kernel(
                "tile_gradient",
                gradient.gradient_programs(number, part, d),
                part / config["BK"] + 2 * ceil(m / config["BM"]),
                *(tile, config["BK"], config["BD"], config["num_warps"]),
            ),
        ]
    return kernels


def on_gpu(n: int, d: int, m: int, k: int, precision: str) -> float:
    """µs of a step on the GPU."""
    exact = ("scale", "invert")  # in IEEE float32 always, but for one product
    return sum(
        kernel.time("ieee" if kernel.name in exact else precision)
        for kernel in step(n, d, m, k, precision)
    )


def on_host(n: int, d: int, m: int, k: int, way: str) -> float:
    """µs of a step on the host."""
    return HOST_STEP + HOST_LAUNCH[way] * len(step(n, d, m, k))


CASES = {(448, 448, 32): 150, (1024, 1024, 32): 180, (2048, 2048, 128): 350}
"""µs of a step that are asked for, by n, d and m."""


def main() -> None:
    """Print the modelled step of each case and block size, and with ``-v`` each kernel's."""
    for (n, d, m), asked in CASES.items():
        for k in (256, 512, 1024):
            if k >= 2 * n:
                continue
            ieee, tensor = (on_gpu(n, d, m, k, mode) for mode in ("ieee", "bf16x6"))
            hosts = (f"{on_host(n, d, m, k, way):.0f} ({way})" for way in HOST_LAUNCH)
            print(
                f"n = d = {d}, m = {m}, k = {k}: {ieee:.0f} µs in ieee, {tensor:.0f} in bf16x6; "
                f"host {', '.join(hosts)}; asked {asked}"
            )
            if "-v" in sys.argv:
                for mode in ("ieee", "bf16x6"):
                    print(f"   {mode}")
                    launches = step(n, d, m, k, mode)
                    for kernel in dict.fromkeys(launches):
                        print(
                            f"   {launches.count(kernel)} × {kernel.name}: {kernel.programs} "
                            f"programs, {kernel.time(mode):.1f} µs"
                        )


if __name__ == "__main__":
    main()
