"""The model of a step on an H200 for any plan: tiles, small blocks, or products by cuBLAS.

    python -m promises.gpu_plans

prints the plan of the formula beside the best plan of the model, for a grid of sizes. What a step
takes is the longer of GPU and host, as in ``gpu_model``, whose assumptions hold here too.
"""

from itertools import product
from math import ceil

from promises.gpu_model import (
    CLOCK,
    EFFICIENCY,
    FIRST_LOAD,
    FULL,
    HOST_LAUNCH,
    HOST_STEP,
    L2_BYTES,
    LANES,
    LAST_STORE,
    LAUNCH,
    NEXT_LOAD,
    PROCESSORS,
    Kernel,
    on_host,
    step,
)
from promises.gpu_model import on_gpu as of_tiles
from svdbench.kernels.plans import Case, Plan, candidates, formula

HOST_OPERATION = 5.0  # µs of an operation of PyTorch on matrices that are there
SPLIT = 8  # parts of the inner dimension that cuBLAS makes at most, where programs are few

SIZES = (64, 128, 256, 320, 448, 512, 768, 1024, 1536, 2048, 3072)
COLUMNS = (8, 32, 64, 128, 256, 512, 1024, 2048)


def step_time(n: int, d: int, m: int, plan: Plan, precision: str = "bf16x6") -> float:
    """µs of a step of V (n, d) and X (d, m) by a plan."""
    k = plan.block_size
    if plan.sweep == "tiles":
        return max(of_tiles(n, d, m, k, precision), on_host(n, d, m, k, "kept"))
    if plan.sweep == "triton":
        launches = small_blocks(n, d, m, k, precision)
        host = HOST_STEP + HOST_LAUNCH["kept"] * len(launches)
        return max(sum(one.time(mode) for one, mode in launches), host)
    return by_cublas(n, d, m, k)


def small_blocks(n: int, d: int, m: int, k: int, precision: str) -> list[tuple[Kernel, str]]:
    """The launches of a step by ``triton_blocks``, and the precision of their products."""
    from svdbench.kernels import triton_factors as factors
    from svdbench.kernels import triton_gradient as gradient
    from svdbench.kernels import triton_sweep as sweep

    blocks, base = ceil(n / k), min(k, factors.BASE)
    made = factors.factors_config(k)
    levels = 2 * made["LEVELS"]
    found = [
        # Its rows are read twice: for the largest entry, and for the product.
        (
            Kernel(
                "factors",
                blocks * k // base,
                2 * d / made["BD"] + levels,
                *(base, made["BD"], base, made["num_warps"]),
            ),
            "ieee",
        )
    ]
    if k > base:
        join = factors.join_config()
        programs = blocks * (base // join["BC"])
        size = base, join["BD"], join["BC"], join["num_warps"]
        found.append((Kernel("join", programs, 2 * d / join["BD"] + 1, *size), "ieee"))
    width = sweep.tile_width(m, precision)
    programs = ceil(m / width)
    if sweep.is_resident(k, d):
        # A block is three products, of which each waits for the one before.
        config = sweep.resident_config(k, d, width, precision, aligned=True)
        warps = config["num_warps"]
        swept = Kernel("resident", programs, 3 * blocks, k, d, width, warps)
    else:
        config = sweep.streamed_config(k, width)
        turns = blocks * (2 * ceil(d / config["BD"]) + 2)
        size = k, config["BD"], width, config["num_warps"]
        swept = Kernel("streamed", programs, turns, *size, more_bytes=4 * config["BD"] * width)
    config = gradient.gradient_config(k, precision, aligned=True)
    through = 2 * ceil(m / config["BM"])
    last = Kernel(
        "gradient",
        ceil(d / config["BD"]) * blocks,
        through + (k // config["BC"]) * (through + 1),
        *(k, config["BM"], config["BD"], config["num_warps"]),
    )
    return [*found, (swept, precision), (swept, precision), (last, precision)]


def by_cublas(n: int, d: int, m: int, k: int) -> float:
    """µs of a step by matrix products in float32, which cuBLAS makes without tensor cores."""
    blocks, size = ceil(n / k), max(128, 1 << (k - 1).bit_length())
    first = next(i for i, one in enumerate(step(n, d, m, size)) if one.name == "rows")
    factors = step(n, d, m, size)[:first]
    exact = "scale", "invert"
    gpu = sum(one.time("ieee" if one.name in exact else "bf16x6") for one in factors)
    gpu += 3 * elementwise(n * d) + elementwise(blocks * size * size) + 2 * elementwise(d * m)
    gpu += 2 * blocks * (cublas(k, m, d) + cublas(k, m, k) + cublas(d, m, k))
    segments = ceil(blocks / 16)
    for _ in range(segments):
        each = min(blocks, 16)
        gpu += cublas(k, k, m, each) + 2 * elementwise(each * k * k) + cublas(k, d, k, each)
        gpu += 2 * cublas(k, d, m, each)
    operations = 6 + 2 + 6 * blocks + 6 * segments
    host = HOST_STEP + HOST_OPERATION * operations + HOST_LAUNCH["kept"] * len(factors)
    return max(gpu, host)


def cublas(rows: int, columns: int, inner: int, batch: int = 1) -> float:
    """µs of a product, or of a batch: tiles of 128 × 64, and 32 of the inner dimension a turn."""
    tiles = batch * ceil(rows / 128) * ceil(columns / 64)
    split = max(1, min(SPLIT, PROCESSORS // tiles, inner // 128))
    turn = max(128 * 64 * 32 / LANES / CLOCK / EFFICIENCY, NEXT_LOAD)
    alone = ceil(tiles * split / (2 * PROCESSORS)) * inner / 32 / split * turn
    together = tiles * 128 * 64 * inner / (PROCESSORS * LANES * CLOCK * FULL)
    loads = 4 * tiles * (128 + 64) * inner / L2_BYTES
    more = LAUNCH if split > 1 else 0  # partial sums are added up by a kernel of its own
    return LAUNCH + FIRST_LOAD + LAST_STORE + more + max(alone, together, loads)


def elementwise(numbers: int) -> float:
    """µs to read numbers and to write as many."""
    return LAUNCH + FIRST_LOAD + LAST_STORE + 8 * numbers / L2_BYTES


def case_of(n: int, d: int, m: int) -> Case:
    return Case(n, d, m, "float32", "cuda NVIDIA H200", 0)


def regret(n: int, d: int, m: int, precision: str = "bf16x6") -> tuple[float, Plan, Plan]:
    """How many times the best plan's time the formula's plan takes; both plans."""
    case = case_of(n, d, m)
    times = {plan: step_time(n, d, m, plan, precision) for plan in candidates(case)}
    best = min(times, key=lambda plan: times[plan])
    chosen = formula(case)
    return step_time(n, d, m, chosen, precision) / times[best], chosen, best


def main() -> None:
    """Print the grid."""
    for d, m in product(SIZES, COLUMNS):
        for n in (d, d // 4):
            times, chosen, best = regret(n, d, m)
            took = step_time(n, d, m, chosen)
            print(f"{n} × {d} × {m}: {took:.0f} µs by {chosen}, {times:.2f} × {best}")


if __name__ == "__main__":
    main()
