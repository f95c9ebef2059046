"""Which plans a sweep over block sizes measures, and which rule would choose which."""

import math
from collections.abc import Iterator

from svdbench.kernels import Plan
from svdbench.kernels.plans import Case, candidates, even_block, formula

SMALLEST = 8
# A step with blocks this large is mostly Gram matrices, 4ndk operations beside 12ndm.
LARGEST = 2048


def rules(n: int, d: int, m: int) -> dict[str, int]:
    """The block sizes that people choose without measuring, by name; k = n is CWY."""
    wanted = {"k=m": m, "k=32": 32, "k=sqrt_d": round(math.sqrt(d)), "k=n": n}
    return {name: min(k, n) for name, k in wanted.items()}


def runs_with(n: int, k: int) -> int:
    """The block size that really runs where k is asked for, such that little is padded."""
    return n if k >= n else even_block(n, k)


def plans_of(case: Case) -> list[Plan]:
    """Plans to measure: each block size once, and on a GPU all that the tuner tries.

    Powers of two and 1.5 times them from 8 up to ``LARGEST``, what the rules say and
    n itself, all of them brought near to a divisor of n.
    """
    n = case.n
    doubled = [SMALLEST * 2**i for i in range(n.bit_length())]
    grid = [k for p in doubled for k in (p, 3 * p // 2) if k < n and k <= LARGEST]
    asked = {*grid, *rules(n, case.d, case.m).values(), min(formula(case).block_size, n), n}
    by_products = [Plan(k) for k in sorted({runs_with(n, k) for k in asked})]
    return by_products + [plan for plan in candidates(case) if plan.sweep != "torch"]


def choosers(case: Case, plan: Plan) -> Iterator[str]:
    """The rules that choose this plan's block size, and "formula" if it chooses the plan."""
    for name, size in rules(case.n, case.d, case.m).items():
        if plan.block_size == (runs_with(case.n, size) if plan.sweep == "torch" else size):
            yield name
    if plan == formula(case):
        yield "formula"
