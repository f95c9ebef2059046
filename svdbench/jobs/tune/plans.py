"""Which plans a sweep over block sizes measures, and which rule would choose which."""

import math
from collections.abc import Iterator

from svdbench.kernels import Plan
from svdbench.kernels.tuning import Case, candidates, even_block, formula

SMALLEST = 8
# A step with blocks this large is mostly Gram matrices, 4ndk operations beside 12ndm.
LARGEST = 2048


def rules(n: int, d: int, m: int) -> dict[str, int]:
    """The block sizes that people choose without measuring, by name; k = n is CWY."""
    wanted = {"k=m": m, "k=32": 32, "k=sqrt_d": round(math.sqrt(d)), "k=n": n}
    return {name: min(k, n) for name, k in wanted.items()}


def runs_with(n: int, plan: Plan) -> int:
    """The block size that really runs: near the plan's, and such that little is padded."""
    if plan.sweep != "torch" or plan.block_size >= n:
        return min(plan.block_size, n)
    return even_block(n, plan.block_size)


def plans_of(case: Case) -> dict[Plan, int]:
    """Plans to measure, and the block size that each runs with.

    Powers of two and 1.5 times them from 8 up to ``LARGEST``, what the rules say and
    n itself, those that would run alike once; and each with all that the tuner tries.
    """
    n = case.n
    doubled = [SMALLEST * 2**i for i in range(n.bit_length())]
    grid = [k for p in doubled for k in (p, 3 * p // 2) if k < n and k <= LARGEST]
    asked = {*grid, *rules(n, case.d, case.m).values(), min(formula(case).block_size, n), n}
    nearest: dict[int, int] = {}
    for k in sorted(asked):
        runs = runs_with(n, Plan(k))
        if runs not in nearest or abs(k - runs) < abs(nearest[runs] - runs):
            nearest[runs] = k
    known = candidates(case)
    others = dict.fromkeys(plan._replace(block_size=0) for plan in known if plan.sweep == "torch")
    found = {
        plan._replace(block_size=k): runs
        for runs, k in sorted(nearest.items())
        for plan in others
        if runs < n or plan.panels == 1
    }
    return found | {plan: runs_with(n, plan) for plan in known if plan.sweep != "torch"}


def choosers(case: Case, plan: Plan) -> Iterator[str]:
    """The rules that choose this plan's block size, and "formula" if it chooses the plan."""
    k = runs_with(case.n, plan)
    for name, size in rules(case.n, case.d, case.m).items():
        if runs_with(case.n, plan._replace(block_size=size)) == k:
            yield name
    guess = formula(case)
    if runs_with(case.n, guess) == k and guess[1:] == plan[1:]:
        yield "formula"
