"""How large a block: by a formula, or on a GPU as measured.

More reflectors to a block make fewer steps but more work: 2ndk for the Gram
matrices and as much in the gradient, beside the 12ndm of a step. On a CPU a formula
is as good as measuring (docs/findings.md), and what is measured on a machine that
others use is noise. On a GPU ``tune`` measures, and its answers are kept on disk per
shape, dtype and device.
"""

import json
import math
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from . import triton_support as fused

# Changes with the algorithm, so that answers measured with an older one are not used.
ALGORITHM = "wy-3"
BLOCK_SIZES = (16, 24, 32, 64, 96, 128, 192, 256)
GPU_BLOCK_SIZES = (64, 128, 256, 512, 1024)


class Plan(NamedTuple):
    """How many reflectors to a block, and who goes over the blocks.

    ``sweep`` is "torch", with a matrix product at a time (cuBLAS on a GPU), or "triton",
    with one kernel for all of them.
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


DTYPES = ("float64", "float32", "bfloat16", "float16")
LARGEST = 16 << 20  # bytes of the file


@dataclass(frozen=True)
class Tuned:
    """A measured answer: the best plan and the seconds of a step with every plan tried."""

    case: Case
    plan: Plan
    step_s: dict[Plan, float]


def cache_file() -> Path:
    """The file of tuned plans: in ``$SVDBENCH_CACHE``, else in the user's cache folder.

    Raises:
        ValueError: there is no such user, or no home folder.
    """
    own, base = os.environ.get("SVDBENCH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (
            Path(own).expanduser() if own else Path(base or Path.home() / ".cache") / "svdbench"
        )
    except RuntimeError as error:
        what = "the home folder is unknown" if own is None else f"SVDBENCH_CACHE is {own!r}"
        raise ValueError(f"{what}: set SVDBENCH_CACHE to a folder you can write to") from error
    return folder / "tuned.json"


@lru_cache(maxsize=1024)
def plan_on_cpu(n: int, d: int, m: int) -> Plan:
    """The plan for V (n, d) and X (d, m) on a CPU; measured in results/reference/block-size."""
    if n <= 128:
        return Plan(n)
    return Plan(even_block(n, 32 if m <= 32 else 64))


def formula(case: Case) -> Plan:
    """A sensible plan where nothing was measured."""
    if not case.on_gpu:
        return plan_on_cpu(case.n, case.d, case.m)
    if case.for_triton and case.d <= fused.RESIDENT_LENGTH:
        return triton_plan(case.d)
    return _by_products(case, 512)  # a step of the sweep costs three launches, flops little


def _by_products(case: Case, block_size: int) -> Plan:
    return Plan(case.n if block_size >= case.n else even_block(case.n, block_size))


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
        short = case.for_triton and case.d <= fused.RESIDENT_LENGTH
        if short and block_size in fused.BLOCK_SIZES:
            return triton_plan(case.d, block_size)
        return _by_products(case, block_size)
    known = answers().get(case) if case.on_gpu else None
    return known.plan if known else formula(case)


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
    """The plans worth measuring: every block size up to n, and every sweep."""
    if case.on_gpu:
        by_products = sorted({k for k in GPU_BLOCK_SIZES if k < case.n} | {min(case.n, 1024)})
        by_kernel = fused.BLOCK_SIZES if case.for_triton else ()
        return [*map(Plan, by_products), *(Plan(k, sweep="triton") for k in by_kernel)]
    sizes = {even_block(case.n, k) for k in BLOCK_SIZES if k < case.n}
    if case.n <= 256 or not sizes:
        sizes.add(case.n)
    return [Plan(k) for k in sorted(sizes)]


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


def remember(answer: Tuned, keep: bool = True) -> None:
    """Use an answer of a GPU from now on in this process; other processes' are used too.

    Args:
        keep: have it on disk, for all later processes.
    """
    if not answer.case.on_gpu:
        return
    known = answers()
    known[answer.case] = answer
    if not keep:
        return
    try:
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            stored = {**_read(path), answer.case: answer}
            _write(path, stored.values())
        known |= stored
    except (OSError, ValueError) as error:  # a read-only home: it still holds for this process
        warnings.warn(f"the tuned block size could not be kept: {error}", stacklevel=2)


def stored() -> dict[Case, Tuned]:
    """Every answer that is on disk now."""
    try:
        return _read(cache_file())
    except ValueError as error:
        warnings.warn(f"tuned block sizes are ignored: {error}", stacklevel=2)
        return {}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes, where the system and the file system can."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _write(path: Path, found: Iterable[Tuned]) -> None:
    content = {
        "algorithm": ALGORITHM,
        "tuned": [
            {
                "case": a.case._asdict(),
                "plan": a.plan,
                "step_s": [{"plan": plan, "s": s} for plan, s in a.step_s.items()],
            }
            for a in found
        ],
    }
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".tuned-")
    try:
        with open(number, "w") as file:
            json.dump(content, file, indent=1)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


_known: dict[Case, Tuned] | None = None


def answers() -> dict[Case, Tuned]:
    """Everything measured so far on this machine; the file is read once a process."""
    global _known
    if _known is None:
        _known = stored()
    return _known


def _read(path: Path) -> dict[Case, Tuned]:
    """The answers of a file, but for those that don't fit their shape, with one warning."""
    try:
        # Not there; or a pipe, which never ends, or anything else that isn't ours.
        if not path.is_file() or path.stat().st_size > LARGEST:
            return {}
        content = json.loads(path.read_text())
        if content["algorithm"] != ALGORITHM:
            return {}
        entries = list(content["tuned"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}  # none yet, or not ours: measure again
    found, wrong = {}, 0
    for entry in entries:
        try:
            answer = _tuned(entry)
            found[answer.case] = answer
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            wrong += 1
    if wrong:
        warnings.warn(
            f"{path} has {wrong} of {len(entries)} entries that are invalid: they are "
            "ignored; `svdbench tune` measures them again",
            stacklevel=2,
        )
    return found


def _tuned(entry: dict[str, Any]) -> Tuned:
    """An answer from the file; raises ValueError and others where an entry is not one."""
    case, plan = Case(**entry["case"]), Plan(*entry["plan"])
    if not case.on_gpu:
        raise ValueError("not a GPU")
    step_s = {Plan(*each["plan"]): float(each["s"]) for each in entry["step_s"]}
    numbers = (case.n, case.d, case.m, case.threads)
    if not all(type(number) is int for number in numbers) or min(case.n, case.d, case.m) < 1:
        raise ValueError("no sizes")
    if case.dtype not in DTYPES or not case.device.isprintable() or case.threads < 0:
        raise ValueError("no place")
    if not all(_is_for(case, tried) for tried in step_s):
        raise ValueError("not a plan for this case")
    if not all(0 < seconds < math.inf for seconds in step_s.values()):
        raise ValueError("not a time")
    if step_s[plan] > min(step_s.values()):
        raise ValueError("not the best plan")
    return Tuned(case, plan, step_s)


def _is_for(case: Case, plan: Plan) -> bool:
    """Whether a plan can be one of a case."""
    if type(plan.block_size) is not int:
        return False
    if plan.sweep == "triton":
        return plan.block_size in fused.BLOCK_SIZES and case.dtype != "float64"
    return plan.sweep == "torch" and 1 <= plan.block_size <= case.n
