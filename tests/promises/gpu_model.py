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
EFFICIENCY = 0.6  # of a processor with one program
TOGETHER, FULL = 2, 0.9  # programs of a processor at once, and its efficiency then
# Multiply-adds on the tensor cores of a processor in a cycle, and products that one is made of.
TENSOR, SPLITS = 2048, 6
SPLITTING = 12  # instructions to split an operand in three

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
    more_bytes: float = 0  # to a turn, beside those of the two tiles

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
        turn = max(loads / speed, cycles / CLOCK / EFFICIENCY, NEXT_LOAD)
        alone = ceil(self.programs / (TOGETHER * PROCESSORS)) * self.turns * turn
        all_turns = self.programs * self.turns
        together = max(
            loads * all_turns / L2_BYTES, cycles * all_turns / (PROCESSORS * CLOCK * FULL)
        )
        return LAUNCH + FIRST_LOAD + LAST_STORE + max(alone, together)


def step(n: int, d: int, m: int, k: int) -> list[Kernel]:
    """The launches of a step by tiles, forward and backward."""
    from svdbench.kernels import triton_tile_factors as factors
    from svdbench.kernels import triton_tile_gradient as gradient
    from svdbench.kernels import triton_tile_sweep as sweep

    blocks, tile = ceil(n / k), factors.TILE
    kernels = [
        Kernel("scale", blocks * k // 8, d / 256, 8, 256, 1),
        Kernel("invert", blocks * k // tile, 2 * 5 * 2 + 2, 32, 32, 32),
        Kernel("gram", blocks * factors.tiles_above(k), d / 32, tile, 32, tile),
        Kernel("join_strip", blocks * k // (2 * tile) * 4, 4, tile, 32, 16),
    ]
    half = 2 * tile
    while half < k:
        tiles = blocks * k // (2 * half) * (half // tile) ** 2
        kernels += 2 * [Kernel("join_tile", tiles, half / 32, tile, 32, tile)]
        half *= 2
    parts = sweep.parts_of(1, k, d, m)
    rows, triangle = sweep.rows_config(m, "ieee"), sweep.triangle_config(m, "ieee")
    update = sweep.update_config(m, "ieee")
    each = [
        Kernel(
            "rows",
            sweep.rows_programs(1, k, m, parts),
            ceil(sweep.chunk_of(d, parts) / (rows["SLICES"] * rows["BC"])),
            rows["BK"],
            rows["SLICES"] * rows["BC"],
            rows["BM"],
        ),
        Kernel(
            "triangle",
            sweep.triangle_programs(1, k, m),
            # Half of the triangle on the average, and the longest row counts where all run at once.
            k / (triangle["SLICES"] * triangle["BC"]),
            triangle["BK"],
            triangle["SLICES"] * triangle["BC"],
            triangle["BM"],
            more_bytes=4 * (parts - 1) * triangle["SLICES"] * triangle["BC"] * triangle["BM"],
        ),
        Kernel(
            "update",
            sweep.update_programs(1, d, m),
            min(k, n) / (update["SLICES"] * update["BC"]),
            update["BD"],
            update["SLICES"] * update["BC"],
            update["BM"],
        ),
    ]
    kernels += 2 * blocks * each
    at_once = min(blocks, 4)
    for _ in range(ceil(blocks / 4)):
        kernels += [
            Kernel("half_product", gradient.half_programs(at_once, k), 2 * m / 32, tile, 32, tile),
            Kernel(
                "tile_gradient",
                gradient.gradient_programs(at_once, k, d),
                (k + 2 * m) / 32,
                *(tile, 32, gradient.tile_gradient_config(d, "ieee")["BD"]),
            ),
        ]
    return kernels


def on_gpu(n: int, d: int, m: int, k: int, precision: str) -> float:
    """µs of a step on the GPU."""
    exact = ("scale", "invert")  # in IEEE float32 always, but for one product
    return sum(
        kernel.time("ieee" if kernel.name in exact else precision) for kernel in step(n, d, m, k)
    )


def on_host(n: int, d: int, m: int, k: int, way: str) -> float:
    """µs of a step on the host; copies of states count as launches."""
    copies = 0 if n <= k else 1 + ceil(ceil(n / k) / 4)
    return HOST_STEP + HOST_LAUNCH[way] * (len(step(n, d, m, k)) + copies)


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
                for kernel in dict.fromkeys(step(n, d, m, k)):
                    times = step(n, d, m, k).count(kernel)
                    print(
                        f"   {times} × {kernel.name}: {kernel.programs} programs, "
                        f"{kernel.time('ieee'):.1f} | {kernel.time('bf16x6'):.1f} µs"
                    )


if __name__ == "__main__":
    main()
