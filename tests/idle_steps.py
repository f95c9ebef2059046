"""Steps of the Triton kernels under a driver that launches nothing, run by test_triton_launch.py.

In a process of its own, as Triton's interpreter is on in that of the tests. Prints what was found
as JSON, a key for each function here.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from threading import Thread
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
from promises import idle_driver
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from svdbench.kernels import triton_blocks, triton_launch, triton_wy
from svdbench.kernels.apply import Apply
from svdbench.kernels.plans import Plan

idle_driver.install()

Given = tuple[Tensor, Tensor, Tensor]
NO_KERNEL = {"empty", "empty_like", "new_empty", "detach", "slice", "view", "as_strided", "alias"}


class Operations(TorchDispatchMode):
    """Notes the operations of PyTorch that would launch a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = f.overloadpacket.__name__
        if name not in NO_KERNEL:
            self.found.append(name)
        return f(*args, **(kwargs or {}))


@contextmanager
def noted() -> Iterator[list[idle_driver.IdleLaunch]]:
    notes: list[idle_driver.IdleLaunch] = []
    idle_driver.note_in(notes)
    yield notes
    idle_driver.note_in(None)


def given(n: int, d: int, m: int, dtype: torch.dtype = torch.float32, offset: int = 0) -> Given:
    """V, X and G; their addresses are multiples of 16 if ``offset`` is 0."""
    sizes = (n, d), (d, m), (d, m)
    V, X, G = (torch.randn(a * b + offset).to(dtype)[offset:].view(a, b) for a, b in sizes)
    return V.requires_grad_(), X.requires_grad_(), G


def step(inputs: Given, plan: Plan | None = None, transpose: bool = False) -> tuple[Tensor, ...]:
    V, X, G = inputs
    out = Apply.apply(V, X, None, plan or Plan(16, "triton"), transpose)
    return out, *torch.autograd.grad(out, (V, X), G)


def kernels_of_a_step() -> dict[str, list[str]]:
    """Names of the kernels of Triton and of PyTorch's operations, for short reflectors."""
    found = {}
    for d in (16, 64, 100, 256):
        for dtype in (torch.float32, torch.bfloat16):
            inputs = given(d, d, 32, dtype)
            step(inputs)
            with noted() as launches, Operations() as operations:
                step(inputs)
            names = [launch.compiled.src.fn.__name__ for launch in launches]
            found[f"{d} {str(dtype).removeprefix('torch.')}"] = names + operations.found
    return found


def made_once() -> list[int]:
    """Recipes made, launches by way of Triton and all launches in each of three like steps."""
    found = []
    for _ in range(3):
        before, by_triton = recipes(), 0
        with noted() as launches:
            step(given(48, 80, 24))
        by_triton = sum(isinstance(launch.arguments[0], Tensor) for launch in launches)
        found.append([recipes() - before, by_triton, len(launches)])
    return found


def recipes() -> int:
    return triton_wy._recipe.cache_info().misses


SHAPES = [(1, 1, 1), (1, 16, 16), (16, 1, 1), (17, 16, 1), (1, 33, 5), (32, 48, 32), (300, 300, 7)]


def misused() -> list[str]:
    """Kernels launched with sizes or addresses that they were not compiled for: none."""
    found = []
    for n, d, m in SHAPES:
        plans = Plan(16, "triton"), Plan(64, "triton"), Plan(128, "tiles")
        for plan, offset in product(plans, (0, 1, 3, 1, 0)):
            for transpose in (False, True):
                with noted() as launches:
                    step(given(n, d, m, offset=offset), plan, transpose)
                found += [why for one in launches for why in one.compiled.unmet(one.arguments)]
    return found


def kernels_kept() -> list[int]:
    """How many were compiled for aligned inputs, for others, and for both again."""
    found = []
    for offset in (0, 1, 0, 1):
        before = len(idle_driver.compiled)
        step(given(80, 96, 48, torch.float16, offset=offset))
        found.append(len(idle_driver.compiled) - before)
    return found


def arguments() -> list[list[Any]]:
    """What a recipe passes for the same tensors at its first run, at the second and the third."""
    found = []
    V, X, _ = (t.detach() for t in given(32, 48, 24))
    plan = Plan(32, "triton")
    make = triton_blocks.forward_pass
    passed = triton_wy._recipe(make, V.shape, 24, V.dtype, -1, plan, False, True, "ieee")
    kept = torch.empty(passed.kept)
    tensors = V, X, torch.empty_like(X), kept, kept
    for _ in range(3):
        with noted() as launches:
            passed.recipe.run(*tensors)
        found.append(
            [
                [a.data_ptr() if isinstance(a, Tensor) else a for a in launch.arguments]
                for launch in launches
            ]
        )
    return found


def precision() -> list[list[str]]:
    """Of the products in each kernel, before TF32 is allowed, while it is and after."""
    found, inputs = [], given(32, 32, 16)
    for allowed in (False, True, False):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        with noted() as launches:
            step(inputs)
        values = [one.compiled.src.constants.values() for one in launches]
        found.append([v for each in values for v in each if v in ("ieee", "tf32")])
    return found


def unknown_launcher() -> list[int]:
    """Launches by way of Triton and all launches of two steps, where kernels are unlike ours."""
    found, directly = [], triton_launch._directly
    triton_launch._directly = lambda *_: None
    for _ in range(2):
        with noted() as launches:
            step(given(33, 70, 9))
        found.append(sum(isinstance(launch.arguments[0], Tensor) for launch in launches))
        found.append(len(launches))
    triton_launch._directly = directly
    return found


def in_threads() -> dict[str, int]:
    """Threads that step at once: launches of all, and buffers of forward passes that are shared."""
    results: list[list[Tensor]] = []

    def work() -> None:
        for _ in range(20):
            V, X, _ = given(20, 40, 8)
            results.append([*triton_wy.forward(V, X, Plan(16, "triton"), False, True)])

    threads = [Thread(target=work) for _ in range(4)]
    with noted() as launches:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    addresses = [buffer.data_ptr() for _, buffer in results]
    return {"launches": len(launches), "shared": len(addresses) - len(set(addresses))}


def another_device() -> list[str]:
    """Devices made the current one for two steps: where it is that of the recipe, and another."""
    entered: list[str] = []
    inputs, now = given(24, 24, 24), triton_launch.current

    def current(device: torch.device) -> Any:
        entered.append(device.type)
        return now(device)

    step(inputs)
    triton_launch.current = current
    step(inputs)
    entered.append("then")
    idle_driver.IdleDriver.device = 1
    step(inputs)
    idle_driver.IdleDriver.device = 0
    triton_launch.current = now
    return entered


def on_streams() -> list[list[int]]:
    """The streams of a recipe's launches for the same tensors, as the current one changes."""
    V, X, _ = (t.detach() for t in given(32, 64, 24))
    plan, found = Plan(32, "triton"), []
    passed = triton_wy._recipe(
        triton_blocks.forward_pass, V.shape, 24, V.dtype, -1, plan, False, True, "ieee"
    )
    kept = torch.empty(passed.kept)
    for stream in (0, 5, 0, 6, 5):
        idle_driver.IdleDriver.stream = stream
        with noted() as launches:
            passed.recipe.run(V, X, torch.empty_like(X), kept, kept)
        found.append(sorted({launch.stream for launch in launches}))
    idle_driver.IdleDriver.stream = 0
    return found


def in_many_places() -> list[int]:
    """Wrong addresses, with more tensors in turn than a recipe keeps places for; 1 if it keeps no
    more."""
    plan = Plan(16, "triton")
    make = triton_blocks.forward_pass
    passed = triton_wy._recipe(make, (40, 48), 8, torch.float32, -1, plan, False, True, "ieee")
    V, kept = torch.randn(40, 48), torch.empty(passed.kept)
    places = [torch.randn(2, 48, 8) for _ in range(triton_launch.PLACES + 3)]
    wrong = 0
    for _ in range(2):
        for X, out in places:
            with noted() as launches:
                passed.recipe.run(V, X, out, kept, kept)
            sweep = launches[-1].arguments
            addresses = [a.data_ptr() if isinstance(a, Tensor) else a for a in sweep[3:5]]
            wrong += addresses != [X.data_ptr(), out.data_ptr()]
    return [wrong, len(passed.recipe._calls) <= triton_launch.PLACES]


CHECKS = (
    *(kernels_of_a_step, made_once, misused, kernels_kept, arguments, precision),
    *(unknown_launcher, in_threads, another_device, on_streams, in_many_places),
)

if __name__ == "__main__":
    print(json.dumps({check.__name__: check() for check in CHECKS}))
