"""The model of a recurrence on an H200: all states and all δ, by one kernel or by a CUDA graph.

    python -m promises.gpu_recurrence

A step of the kernel waits for its loads, for the product, and for two passes through shared memory;
a captured loop makes two launches a step, a product and φ, and the host takes longer than the GPU
where it is not captured. The assumptions of ``gpu_model`` hold; the product for dW is in neither.
"""

from itertools import product
from math import ceil

from promises.gpu_model import HOST_STEP, LAUNCH, NEXT_LOAD, Kernel
from promises.gpu_plans import HOST_OPERATION, cublas, elementwise
from svdbench.kernels.triton_recurrence import SEQUENCES, recurrence_config

THROUGH_SHARED = 0.15  # µs from one thread's registers to another's, with a barrier
GRAPH_LAUNCH = 1.3  # µs from the end of a captured kernel to the start of the next


def by_kernel(T: int, B: int, n: int, precision: str = "bf16x6") -> float:
    """µs of both passes in one launch each."""
    config = recurrence_config(n, precision, large_shared=True)
    N, inner = config["N"], config["N"] if config["RESIDENT"] else config["BN"]
    programs = ceil(B / SEQUENCES)
    size = config["BB"], inner, N, config["num_warps"]
    one = Kernel("step", programs, N / inner, *size)
    none = Kernel("step", programs, 0, *size)
    # W on chip is neither loaded nor split again, which the model of a turn counts.
    turn = one.time(precision) - none.time(precision)
    if config["RESIDENT"]:
        cheap = Kernel("step", programs, 1, *(config["BB"], N, 1), config["num_warps"])
        most = 6 * config["BB"] * N * N / 2048 / 1.98e3 / 0.6
        turn = max(cheap.time(precision) - none.time(precision), most)
    return 2 * (T * (max(turn, NEXT_LOAD) + 2 * THROUGH_SHARED) + none.time(precision))


def by_operations(T: int, B: int, n: int) -> tuple[float, float]:
    """µs of both passes by two operations a step: captured, and one by one."""
    once = cublas(B, n, n) + elementwise(B * n)
    captured = 2 * T * (once - 2 * (LAUNCH - GRAPH_LAUNCH))
    return captured, max(2 * T * once, HOST_STEP + 4 * T * HOST_OPERATION)


def main() -> None:
    """Print the model for some sizes."""
    for T, B, n in product((200, 784), (32, 128, 1024), (64, 128, 256)):
        captured, eager = by_operations(T, B, n)
        print(
            f"T = {T}, B = {B}, n = {n}: one kernel {by_kernel(T, B, n) / 1e3:.2f} ms, "
            f"CUDA graph {captured / 1e3:.2f} ms, operations {eager / 1e3:.2f} ms"
        )


if __name__ == "__main__":
    main()
