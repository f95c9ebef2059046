"""How large a block, and in how many panels: measured where asked, by formula elsewhere.

More reflectors to a block make fewer steps but more work: 2ndk for the Gram
matrices and as much in the gradient, beside the 12ndm of a step. No formula
knows what a matrix product of some shape costs on some machine, so ``tune``
measures, and its answers are kept on disk per shape, dtype, device and number
of threads.
"""

import json
import math
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from . import triton_support as fused

# Changes with the algorithm, so that answers measured with an older one are not used.
ALGORITHM = "wy-2"
BLOCK_SIZES = (16, 24, 32, 64, 96, 128, 192, 256)
GPU_BLOCK_SIZES = (64, 128, 256, 512, 1024)


class Plan(NamedTuple):
    """What the compact-WY algorithm is free to choose.

    ``threads`` 0 leaves PyTorch's number alone. Small products are often faster
    on one thread, where handing out the work costs more than doing it. ``sweep``
    says who goes over the blocks: "torch", with a matrix product at a time (cuBLAS
    on a GPU), or "triton", with one kernel for all of them.
    """

    block_size: int
    panels: int = 1
    threads: int = 0
    sweep: str = "torch"


class Case(NamedTuple):
    """What the best plan depends on."""

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


# Plans this close cannot be told apart on a machine whose speed drifts: of those,
# one that leaves the other threads in peace.
TIE = 1.05


@dataclass(frozen=True)
class Tuned:
    """A measured answer: the best plan and the seconds of a step with every plan tried."""

    case: Case
    plan: Plan
    step_s: dict[Plan, float]


def cache_file() -> Path:
    """Where the answers are kept: ``$SVDBENCH_CACHE``, else the user's cache folder."""
    own = os.environ.get("SVDBENCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(own) if own else Path(base) / "svdbench") / "tuned.json"


def formula(case: Case) -> Plan:
    """A sensible plan where nothing was measured."""
    if case.on_gpu:
        if case.for_triton and case.d <= fused.RESIDENT_LENGTH:
            return triton_plan(case.d)
        return Plan(min(case.n, 512))  # a step of the sweep costs three launches, flops little
    return _plan(case, case.n if case.n <= 128 else 64)


def _plan(case: Case, block_size: int) -> Plan:
    """A block size with what usually went with it where we measured: float32, two cores."""
    k = min(block_size, case.n)
    if case.on_gpu:
        short = (
            case.for_triton and case.d <= fused.RESIDENT_LENGTH and block_size in fused.BLOCK_SIZES
        )
        return triton_plan(case.d, block_size) if short else Plan(k)
    if case.threads > 1 and case.n * case.d * case.m <= 2**19:
        return Plan(k, threads=1)
    in_panels = k < case.n and case.threads > 1 and case.d % case.threads == 0
    return Plan(k, case.threads if in_panels and case.d // case.threads >= 512 else 1)


def triton_plan(d: int, block_size: int | None = None) -> Plan:
    """The plan with the fused kernels, whose block sizes are few: the one nearest to that asked."""
    wanted = block_size or (fused.BLOCK_SIZES[0] if d <= fused.RESIDENT_LENGTH else 32)
    return Plan(min(fused.BLOCK_SIZES, key=lambda k: abs(k - wanted)), sweep="triton")


@lru_cache(maxsize=256)
def even_block(n: int, k: int) -> int:
    """The block size near k that leaves the least to pad, which costs a copy of V."""
    divisors = [j for j in range(max(1, 2 * k // 3), min(n, 4 * k // 3) + 1) if n % j == 0]
    if divisors:
        return min(divisors, key=lambda j: abs(j - k))
    return -(-n // -(-n // k))


def plan_for(case: Case, block_size: int | None = None) -> Plan:
    """The plan to run with: the caller's block size, else the measured one, else the formula's."""
    if block_size is not None:
        return _plan(case, block_size)
    found = answers().get(case)
    return found.plan if found else formula(case)


def choose_block_size(
    n: int,
    d: int,
    m: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> int:
    """The block size that ``apply_reflectors`` uses for V (n, d) and X (d, m)."""
    return plan_for(Case.of(n, d, m, dtype, torch.device(device))).block_size


def tuned() -> list[Tuned]:
    """Everything measured so far on this machine, sorted by case."""
    return sorted(answers().values(), key=lambda t: t.case)


def clear_tuned() -> None:
    """Forget every measured answer."""
    answers().clear()
    cache_file().unlink(missing_ok=True)


def candidates(case: Case) -> list[Plan]:
    """The plans worth measuring: every block size up to n, alone, in panels, on one thread."""
    if case.on_gpu:
        by_products = sorted({k for k in GPU_BLOCK_SIZES if k < case.n} | {min(case.n, 1024)})
        by_kernel = fused.BLOCK_SIZES if case.for_triton else ()
        return [*map(Plan, by_products), *(Plan(k, sweep="triton") for k in by_kernel)]
    # As they will run: near a divisor of n, different ones become the same.
    sizes = {even_block(case.n, k) for k in BLOCK_SIZES if k < case.n}
    found = []
    if case.n <= 256 or not sizes:
        sizes.add(case.n)
    for k in sorted(sizes):
        found.append(Plan(k))
        if case.threads > 1:
            found.append(Plan(k, threads=1))
            if k < case.n and case.d % case.threads == 0:
                found.append(Plan(k, case.threads))
    return found


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


def best(step_s: dict[Plan, float]) -> Plan:
    """The fastest plan, or one on a single thread that is as good as the fastest."""
    fastest = min(step_s, key=lambda plan: step_s[plan])
    single = [plan for plan, s in step_s.items() if plan.threads and s <= TIE * step_s[fastest]]
    return min(single, key=lambda plan: step_s[plan], default=fastest)


def remember(answer: Tuned) -> None:
    """Keep an answer, in memory and on disk; other processes' answers are kept too."""
    path = cache_file()
    known = answers()
    known |= {**_read(path), answer.case: answer}
    content = {
        "algorithm": ALGORITHM,
        "tuned": [
            {
                "case": a.case._asdict(),
                "plan": a.plan,
                "step_s": [{"plan": plan, "s": s} for plan, s in a.step_s.items()],
            }
            for a in known.values()
        ],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(content, file, indent=1)
        os.replace(file.name, path)
    except OSError as error:  # a read-only home: the answer still holds for this process
        warnings.warn(f"the tuned block size could not be kept in {path}: {error}", stacklevel=2)


_known: dict[Case, Tuned] | None = None


def answers() -> dict[Case, Tuned]:
    """Everything measured so far on this machine; the file is read once a process."""
    global _known
    if _known is None:
        _known = _read(cache_file())
    return _known


def _read(path: Path) -> dict[Case, Tuned]:
    try:
        if not path.is_file():  # not there, or a pipe, which never ends
            return {}
        content = json.loads(path.read_text())
        if content["algorithm"] != ALGORITHM:
            return {}
        found = [_tuned(each) for each in content["tuned"]]
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return {}  # none yet, or not ours: measure again
    return {a.case: a for a in found}


def _tuned(entry: dict[str, Any]) -> Tuned:
    """An answer as the file has it; raises ValueError and others for what is none."""
    case, plan = Case(**entry["case"]), _plan_of(entry["plan"])
    step_s = {_plan_of(each["plan"]): float(each["s"]) for each in entry["step_s"]}
    numbers = (case.n, case.d, case.m, case.threads)
    if not all(type(number) is int for number in numbers) or plan not in step_s:
        raise ValueError("not an answer")
    if not (isinstance(case.dtype, str) and isinstance(case.device, str)):
        raise ValueError("not an answer")
    if not all(0 < seconds < math.inf for seconds in step_s.values()):
        raise ValueError("not an answer")
    return Tuned(case, plan, step_s)


def _plan_of(values: list[Any]) -> Plan:
    plan = Plan(*values)
    *numbers, sweep = plan
    if not all(type(number) is int for number in numbers) or sweep not in ("torch", "triton"):
        raise ValueError("not a plan")
    if plan.block_size < 1 or plan.panels < 1 or plan.threads < 0:
        raise ValueError("not a plan")
    return plan
