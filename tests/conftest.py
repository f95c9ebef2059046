"""Shared by all tests: reproducible inputs, a cache of their own, poisoned buffers."""

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

# A shell script starts its background jobs with SIGINT ignored; tests of ^C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Read once, by whichever test is the first to profile.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

from svdbench.kernels import tuned_plans
from svdbench.measure.machine import Rates

pytest.register_assert_rewrite("command", "judge")

if find_spec("hypothesis"):  # a machine with a GPU may do without
    from hypothesis import settings

    # The same examples every time, however long one takes; `make fuzz` tries others.
    settings.register_profile("svdbench", derandomize=True, deadline=None, database=None)
    settings.load_profile("svdbench")

# What a terminal, or a job of SLURM, may have set, and svdbench heeds.
SURROUNDINGS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "SVDBENCH_PARENT")
SURROUNDINGS += ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing measured on this machine leaks into a test, nor out of one."""
    monkeypatch.setenv("SVDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(tuned_plans, "_known", None)
    tuned_plans.plan_on_gpu.cache_clear()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What surrounds the tests doesn't change what they see."""
    for name in list(os.environ):
        if name in SURROUNDINGS or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fills fresh memory with NaN, so that an element never written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before)
    torch.utils.deterministic.fill_uninitialized_memory = filled


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in an empty folder, where ``results/`` appears."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny matrices: on a busy machine, waiting for a second thread takes longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rates are told, not measured, which takes half a second a command."""
    rates = Rates(matmul=1e11, copy=1e10)
    for module in ("timings.session", "jobs.time_svd_ops.run"):
        monkeypatch.setattr(f"svdbench.{module}.rates_of", lambda *_: rates)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    """A process alone, as a device mesh."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()
