"""``make bench-core``: the Householder core and ``orthogonal`` on a CPU, against the best rivals.

Every ratio is of medians of steps (a product and its gradients) that take turns in random
order in one process. On one thread the clock is the thread's own processor time, which other
work on the machine hardly changes; on two threads it is the wall's, and the machine must be
quiet. Writes ``results/bench-core/<time>/figures.csv``.
"""

import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from promises.figures import Promise, measure_parts
from svdbench.kernels import Plan, apply_reflectors
from svdbench.kernels.apply import Apply
from svdbench.kernels.plans import even_block, plan_on_cpu
from svdbench.nn import orthogonal

BEFORE = "9c5ba45"  # the last commit with panels, threads and kept plans on CPUs
SECONDS = 3.0  # for each comparison

Step = Callable[[], Any]


def main() -> None:
    """Measure the parts named on the command line, or all."""
    measure_parts(
        "bench-core",
        {"one": on_one_thread, "two": on_two_threads, "blocks": block_sizes},
        sys.argv[1:],
    )


def on_one_thread(_: Path) -> list[Promise]:
    with threads(1):
        return [
            *rivals("Cayley / ours, m = 32, 1 thread", 32, CAYLEY_1),
            *rivals("Cayley / ours, m = 1, 1 thread", 1, CAYLEY_FEW),
            *rivals("Cayley / ours, m = 8, 1 thread", 8, CAYLEY_FEW),
            *before_and_now(),
            *rows_of_data(),
        ]


def on_two_threads(_: Path) -> list[Promise]:
    with threads(2):
        return [
            *rivals("Cayley / ours, m = 32, 2 threads", 32, CAYLEY_2),
            *floors(),
            *layers(),
        ]


def block_sizes(_: Path) -> list[Promise]:
    """The formula's block size over the best one, on one thread: the worst of m = 1 … 256."""
    found = []
    with threads(1):
        for d in (32, 64, 128, 160, 256, 512, 1024, 2048):
            worst = 0.0
            for m in (1, 8, 32, 64, 128, 256):
                V, X, G = problem(d, d, m)
                sizes = {even_block(d, k) for k in (16, 32, 64, 128, 256) if k < d}
                plans = [Plan(k) for k in sorted(sizes | ({d} if d <= 256 else set()))]
                steps = {
                    str(plan.block_size): step(
                        partial(Apply.apply, V, X, None, plan, False), (V, X), G
                    )
                    for plan in plans
                }
                times = interleaved(steps, SECONDS / 2)
                chosen = str(plan_on_cpu(d, d, m).block_size)
                worst = max(worst, times[chosen] / min(times.values()))
            found.append(
                Promise("formula's block size / the best, m = 1 … 256", d, worst, False, 1.05)
            )
    return found


CAYLEY_1 = {32: 1.15, 64: 1.3, 128: 1.15, 256: 1.4, 512: 1.9, 1024: 3.0}
CAYLEY_2 = {32: 1.1, 64: 1.1, 128: 1.1, 256: 1.1, 512: 1.5, 1024: 3.0}
CAYLEY_FEW = {64: 1.0, 128: 1.0, 256: 1.4, 1024: 4.0}


def cayley(V: Tensor, X: Tensor) -> Tensor:
    """(I − A)(I + A)⁻¹ X = 2(I + A)⁻¹X − X with A = V − Vᵀ."""
    return 2 * torch.linalg.solve(torch.eye(len(V)) + (V - V.t()), X) - X


def rivals(name: str, m: int, asked: dict[int, float]) -> Iterator[Promise]:
    for d, least in asked.items():
        V, X, G = problem(d, d, m)
        times = interleaved(
            {
                "cayley": step(partial(cayley, V, X), (V, X), G),
                "ours": step(partial(apply_reflectors, V, X), (V, X), G),
            }
        )
        yield Promise(name, d, times["cayley"] / times["ours"], True, least)


def before_and_now() -> Iterator[Promise]:
    """The core of ``BEFORE`` over this one, neither of them tuned."""
    with earlier_kernels() as before:
        if before is None:
            return
        for d, least in {64: 1.25, 256: 1.25, 1024: 1.08}.items():
            V, X, G = problem(d, d, 32)
            times = interleaved(
                {
                    "before": step(partial(before.apply_reflectors, V, X), (V, X), G),
                    "now": step(partial(apply_reflectors, V, X), (V, X), G),
                }
            )
            ratio = times["before"] / times["now"]
            yield Promise("the core before / now, m = 32, 1 thread", d, ratio, True, least)


def rows_of_data() -> Iterator[Promise]:
    """y = xH for 1,024 rows of length 2048, plain compact WY left to autograd over ours."""
    for n, least in {8: 1.5, 32: 1.1, 128: 1.05}.items():
        V, x, G = torch.randn(n, 2048), torch.randn(1024, 2048), torch.randn(1024, 2048)
        given = V.requires_grad_(), x.requires_grad_()

        times = interleaved(
            {
                "plain": step(partial(on_rows, V, x, n, "plain"), given, G),
                "ours": step(partial(on_rows, V, x, None, "auto"), given, G),
            }
        )
        yield Promise(
            "plain compact WY / ours on rows, d = 2048",
            n,
            times["plain"] / times["ours"],
            True,
            least,
        )


def on_rows(V: Tensor, x: Tensor, block_size: int | None, backend: str) -> Tensor:
    return apply_reflectors(V, x.t(), block_size=block_size, backend=backend).t()


def floors() -> Iterator[Promise]:
    """A step over the time of 12ndm operations at the rate of a large product."""
    A = torch.randn(1024, 1024)
    for d, most in {512: 2.6, 1024: 2.5, 2048: 2.5}.items():
        V, X, G = problem(d, d, 32)
        times = interleaved(
            {
                "product": lambda: A @ A,
                "ours": step(partial(apply_reflectors, V, X), (V, X), G),
            }
        )
        floor = 12 * d * d * 32 * times["product"] / (2 * 1024**3)
        yield Promise(
            "a step / floor of 12ndm, m = 32, 2 threads", d, times["ours"] / floor, False, most
        )


def layers() -> Iterator[Promise]:
    """A training step of a parametrised square layer on 128 rows, torch's fastest map over ours."""
    for d, least in {64: 1.3, 256: 2.5, 1024: 8.0}.items():
        x, G = torch.randn(128, d), torch.randn(128, d)

        def training(layer: nn.Module, x: Tensor = x, G: Tensor = G) -> Step:
            return step(partial(layer, x), list(layer.parameters()), G)

        theirs = torch.nn.utils.parametrizations.orthogonal
        steps = {
            name: training(theirs(nn.Linear(d, d), orthogonal_map=name))
            for name in ("matrix_exp", "cayley", "householder")
        }
        times = interleaved(steps | {"ours": training(orthogonal(nn.Linear(d, d)))})
        ours = times.pop("ours")
        name = "orthogonal(nn.Linear): torch's fastest map / ours, 2 threads"
        yield Promise(name, d, min(times.values()) / ours, True, least)


def problem(n: int, d: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    V, X = torch.randn(n, d, requires_grad=True), torch.randn(d, m, requires_grad=True)
    return V, X, torch.randn(d, m)


def step(f: Callable[[], Tensor], given: Any, G: Tensor) -> Step:
    return lambda: torch.autograd.grad(f(), given, G)


def interleaved(
    steps: dict[str, Step], seconds: float = SECONDS, twice: bool = False
) -> dict[str, float]:
    """The median seconds of each step; they take turns in random order.

    ``twice``: each takes its turn twice, and the second time counts. The first also gives back
    to the system what the step before it has released, where that is hundreds of megabytes.
    """
    clock = thread_time if torch.get_num_threads() == 1 else perf_counter
    found: dict[str, list[float]] = {name: [] for name in steps}
    order, start = list(steps), perf_counter()
    for one in steps.values():
        one()
    while perf_counter() - start < seconds or len(found[order[0]]) < 9:
        random.shuffle(order)
        for name in order:
            if twice:
                steps[name]()
            before = clock()
            steps[name]()
            found[name].append(clock() - before)
    return {name: median(times) for name, times in found.items()}


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def earlier_kernels() -> Iterator[ModuleType | None]:
    """The package ``kernels`` of ``BEFORE``, under another name; None outside of a clone."""
    command = ["git", "archive", "--format=tar", BEFORE, "kernels"]
    packed = subprocess.run(command, capture_output=True)
    if packed.returncode:
        print(f"no commit {BEFORE} here: the core before is not measured", file=sys.stderr)
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        place = Path(folder) / "kernels"
        spec = spec_from_file_location(
            "earlier_kernels", place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["earlier_kernels"] = module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


if __name__ == "__main__":
    main()
