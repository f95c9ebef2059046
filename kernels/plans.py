"""The block size: the plan of a product, and the formulas that choose it.

More reflectors per block mean fewer steps but more work: 2ndk for the Gram matrices and as much in
the gradient, besides the 12ndm of a step. On a CPU a formula is as good as measuring, and
measurements on a shared machine are noisy. On a GPU ``tune`` measures (``tuned_plans``).
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from . import triton_support as fused

BLOCK_SIZES = (16, 24, 32, 64, 96, 128, 192, 256)
GPU_BLOCK_SIZES = (64, 128, 256, 512, 1024)
MOST_COLUMNS = 1024
"""For more columns than this the formula leaves a GPU's products to cuBLAS, and with reflectors
too long for the resident sweep for more than twice as many."""

WIDE = 512
"""From so many columns on blocks of 256 are as fast as larger ones, and need less to fill them."""


class Plan(NamedTuple):
    """How many reflectors a block has, and what computes the blocks.

    ``sweep`` is "torch", one matrix product at a time (cuBLAS on a GPU); "triton", one kernel for
    all blocks, which are small; or "tiles", kernels whose programs share a large block.

    Example:
        >>> Plan(block_size=64)
        Plan(block_size=64, sweep='torch')
    """

    block_size: int
    sweep: str = "torch"


class Case(NamedTuple):
    """Shape, dtype, device and threads, on which the best plan depends."""

    n: int
    d: int
    m: int
    dtype: str
    device: str
    threads: int

    @classmethod
    def of(cls, n: int, d: int, m: int, dtype: torch.dtype, device: torch.device) -> "Case":
        name = _gpu_name(device) if device.type == "cuda" else device.type
        threads = torch.get_num_threads() if device.type == "cpu" else 0
        # int: torch.compile may hand over sizes that stand for a number.
        return cls(int(n), int(d), int(m), str(dtype).removeprefix("torch."), name, threads)

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def for_triton(self) -> bool:
        """Whether the Triton kernels can do it."""
        return self.on_gpu and fused.has_triton() and self.dtype != "float64"


@lru_cache
def _gpu_name(device: torch.device) -> str:
    return f"cuda {torch.cuda.get_device_name(device)}"


@lru_cache(maxsize=1024)
def plan_on_cpu(n: int, d: int, m: int) -> Plan:
    """The plan for V (n, d) and X (d, m) on a CPU: within 5 % of the best (``make bench-core``).

    The more columns, the less the Gram matrices weigh beside the products with X. Where one block
    stops paying depends on the CPU: from 112 to 128 reflectors on an AMD EPYC, which is what the
    numbers below follow, and about 160 on an Intel Xeon.
    """
    if n <= (112 if m <= 16 else 128 if m <= 128 else 160):
        return Plan(n)
    long = n >= 2048
    if m <= (32 if long else 64):
        wanted = 16 if m <= 8 and n >= 1024 else 32
    elif m <= (128 if long else 256):
        wanted = 64
    else:
        wanted = (64 if n < 512 else 128) * (1 if m <= 512 else 2)
    return Plan(even_block(n, wanted))


def formula(case: Case) -> Plan:
    """A sensible plan where nothing was measured; see ``tests/promises/gpu_model.py``.

    With many columns products by cuBLAS have the most to do at once, and the states of small
    blocks the most to keep.
    """
    if not case.on_gpu:
        return plan_on_cpu(case.n, case.d, case.m)
    most = MOST_COLUMNS if case.d <= fused.RESIDENT_LENGTH else 2 * MOST_COLUMNS
    if not case.for_triton or case.m > most:
        return products_on_gpu(case)
    return triton_plan(case.n, case.d, case.m)


def products_on_gpu(case: Case) -> Plan:
    """The plan by cuBLAS: a block costs three launches, operations little."""
    return by_products(case, 512)


def by_products(case: Case, block_size: int) -> Plan:
    return Plan(case.n if block_size >= case.n else even_block(case.n, block_size))


def triton_plan(n: int, d: int, m: int, block_size: int | None = None) -> Plan:
    """The plan with our kernels, whose block sizes are few: the one nearest to that asked.

    Where none is asked, the resident sweep for d up to 256, unless it would go over many columns
    in many blocks, and for longer reflectors tiles of as few blocks as the triangles of 512
    reflectors allow, or of 256 with many columns and where those of 512 would hold many zeros.
    """
    if block_size is None and d > fused.RESIDENT_LENGTH:
        empty = -n % 512 > n // 4  # much of the last block
        largest = 256 if m >= WIDE or (n > 512 and empty) else 512
        block_size = min(largest, 1 << (n - 1).bit_length())
    elif block_size is None and m > WIDE and n > 32:
        block_size = 128 if n <= 128 else 256
    wanted = block_size or fused.RESIDENT_BLOCK
    k = min(fused.BLOCK_SIZES + fused.TILED_BLOCK_SIZES, key=lambda k: abs(k - wanted))
    return Plan(k, sweep="triton" if k in fused.BLOCK_SIZES else "tiles")


@lru_cache(maxsize=256)
def even_block(n: int, k: int) -> int:
    """The block size near k that leaves the least to pad, which costs a copy of V."""
    divisors = [j for j in range(max(1, 2 * k // 3), min(n, 4 * k // 3) + 1) if n % j == 0]
    if divisors:
        return min(divisors, key=lambda j: abs(j - k))
    return -(-n // -(-n // k))


def candidates(case: Case) -> list[Plan]:
    """The plans worth measuring: every block size up to n, and every sweep."""
    if case.on_gpu:
        plans = [
            Plan(k)
            for k in sorted({k for k in GPU_BLOCK_SIZES if k < case.n} | {min(case.n, 1024)})
        ]
        if case.for_triton:
            plans += [Plan(k, sweep="triton") for k in fused.BLOCK_SIZES]
            least = fused.TILED_BLOCK_SIZES[0]
            tiled = (k for k in fused.TILED_BLOCK_SIZES if k < 2 * max(case.n, least // 2 + 1))
            plans += [Plan(k, sweep="tiles") for k in tiled]
        return plans
    sizes = {even_block(case.n, k) for k in BLOCK_SIZES if k < case.n}
    if case.n <= 256 or not sizes:
        sizes.add(case.n)
    return [Plan(k) for k in sorted(sizes)]
