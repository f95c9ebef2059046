"""Results of ``tune`` on this machine's GPUs, kept on disk by shape, dtype and device."""

import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from . import triton_support as fused
from .plans import Case, Plan, formula, products_on_gpu

# Changes with the algorithm, so that answers measured with an older one are not used.
ALGORITHM = "wy-4"
DTYPES = ("float64", "float32", "bfloat16", "float16")
LARGEST = 16 << 20  # bytes of the file


@dataclass(frozen=True)
class Tuned:
    """A result of ``tune``: the best plan, and the seconds of a step with every plan tried.

    Example:
        >>> answer = tune(torch.randn(64, 64), torch.randn(64, 8), budget_s=0.01)
        >>> answer.plan in answer.step_s
        True
    """

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


def tuned() -> list[Tuned]:
    """All results measured so far on this machine's GPUs, sorted by case.

    Example:
        >>> for answer in tuned():
        ...     print(answer.case.d, answer.plan.block_size)
    """
    return sorted(answers().values(), key=lambda t: t.case)


def best_known(case: Case) -> Plan:
    """The plan that was measured to be the best, else the formula's."""
    known = answers().get(case) if case.on_gpu else None
    return known.plan if known else formula(case)


@lru_cache(maxsize=4096)
def plan_on_gpu(n: int, d: int, m: int, dtype: torch.dtype, device: torch.device) -> Plan:
    """The plan for V (n, d) and X (d, m) on a GPU, kept until another answer is known."""
    case = Case.of(n, d, m, dtype, device)
    plan = best_known(case)
    fits = plan.sweep == "torch" or fused.triton_runs_on(device)
    return plan if fits else products_on_gpu(case)


def clear_tuned() -> None:
    """Delete all measured results.

    Example:
        >>> clear_tuned()
        >>> tuned()
        []
    """
    answers().clear()
    plan_on_gpu.cache_clear()
    cache_file().unlink(missing_ok=True)


def remember(answer: Tuned, keep: bool = True) -> None:
    """Use an answer of a GPU from now on in this process; other processes' are used too.

    Args:
        keep: have it on disk, for all later processes.
    """
    if not answer.case.on_gpu:
        return
    known = answers()
    known[answer.case] = answer
    plan_on_gpu.cache_clear()
    if not keep:
        return
    try:
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            stored = {**_read(path), answer.case: answer}
            _write(path, stored.values())
        known |= stored
        plan_on_gpu.cache_clear()  # other processes may have measured other cases
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
    sizes = {"triton": fused.BLOCK_SIZES, "tiles": fused.TILED_BLOCK_SIZES}.get(plan.sweep)
    if sizes is not None:
        return plan.block_size in sizes and case.dtype != "float64"
    return plan.sweep == "torch" and 1 <= plan.block_size <= case.n
