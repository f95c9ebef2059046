"""Measuring plans on the device they will run on."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .apply import Apply
from .choice import case_of
from .plans import Plan, candidates, formula
from .triton_support import triton_runs_on
from .tuned_plans import Tuned, answers, remember


def tune(
    V: Tensor, X: Tensor, *, budget_s: float = 1.0, again: bool = True, keep: bool = True
) -> Tuned:
    """Measure which plan gives the fastest step on these shapes.

    A step is the product and its gradients in V and X, on random data of the
    shapes, dtype and device of ``V`` (n, d) and ``X`` (d, m). On a GPU the result is used by every
    later ``apply_reflectors`` of that shape, and kept on disk; on a CPU it is for information only,
    and ``apply_reflectors`` follows its formula.

    Args:
        budget_s: seconds of measuring, after one warm-up of every plan.
        again: measure even if a result is stored, or the formula decides.
        keep: store the result on disk; otherwise it applies to this process only.

    Example:
        >>> answer = tune(torch.randn(64, 64), torch.randn(64, 8), budget_s=0.01)
        >>> answer.plan.block_size in (16, 24, 32, 64)
        True
    """
    case = case_of(V, X)
    if not again and not case.on_gpu:
        return Tuned(case, formula(case), {})
    if not again and (known := answers().get(case)):
        return known
    step_s = time_plans(V, X, candidates(case), budget_s=budget_s)
    answer = Tuned(case, min(step_s, key=lambda plan: step_s[plan]), step_s)
    remember(answer, keep)
    return answer


def time_plans(
    V: Tensor, X: Tensor, plans: Sequence[Plan], *, budget_s: float = 1.0
) -> dict[Plan, float]:
    """The median seconds of a step with each of these plans, measured in turn.

    A step is as in ``tune``. Plans that are clearly slower after three rounds are dropped, and
    plans that the device cannot run are left out.

    Example:
        >>> V, X = torch.randn(64, 64), torch.randn(64, 8)
        >>> seconds = time_plans(V, X, [Plan(16), Plan(32)], budget_s=0.01)
        >>> sorted(plan.block_size for plan in seconds)
        [16, 32]
    """
    dtype = getattr(torch, case_of(V, X).dtype)  # what is remembered is measured
    V = torch.randn_like(V, dtype=dtype).requires_grad_()
    X = torch.randn_like(X, dtype=dtype).requires_grad_()
    G = torch.randn_like(X)
    if not triton_runs_on(V.device):
        plans = [plan for plan in plans if plan.sweep == "torch"]

    def step(plan: Plan) -> Callable[[], None]:
        def run() -> None:
            with torch.enable_grad():
                torch.autograd.grad(Apply.apply(V, X, None, plan, False), (V, X), G)
            if V.is_cuda:
                torch.cuda.synchronize(V.device)

        return run

    return measure_plans({plan: step(plan) for plan in plans}, budget_s)


def measure_plans(
    steps: dict[Plan, Callable[[], Any]],
    budget_s: float,
    now: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> dict[Plan, float]:
    """The median seconds of a step per plan, measured in interleaved rounds.

    After every round the plans that are clearly behind (1.5 times the best) are
    left out, so that the budget goes to the close race.
    """
    shuffle = random.Random(seed).shuffle
    seconds: dict[Plan, list[float]] = {plan: [] for plan in steps}
    running = list(steps)
    for step in steps.values():
        step()
    start = now()
    while len(seconds[running[0]]) < 3 or now() - start < budget_s:
        shuffle(running)
        for plan in running:
            before = now()
            steps[plan]()
            seconds[plan].append(now() - before)
        medians = {plan: statistics.median(seconds[plan]) for plan in running}
        limit = 1.5 * min(medians.values())
        if len(seconds[running[0]]) >= 3:
            running = [plan for plan in running if medians[plan] <= limit]
    return {plan: statistics.median(s) for plan, s in seconds.items()}
