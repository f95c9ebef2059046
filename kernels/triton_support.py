"""Where the Triton kernels run and what they can do; importing this imports no Triton."""

import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib.util import find_spec

import torch

BLOCK_SIZES = (16, 32, 64)
"""Reflectors to a block that ``triton_sweep`` and ``triton_gradient`` are compiled for."""

TILED_BLOCK_SIZES = (128, 256, 512, 1024)
"""The same for ``triton_tiles``."""

RESIDENT_LENGTH = 256
RESIDENT_BLOCK = 16
"""A tile of columns stays on chip for reflectors up to this length, in blocks up to this size."""

MOST_UNITS, MOST_ODD_UNITS = 256, 128
"""Of a recurrence in ``triton_recurrence``, and where they are no multiple of 16: the W of more is
too large for a processor's cache, and the addresses of more odd ones would spill."""

PROGRAMS = 128
"""About as many as a large chip has multiprocessors."""

LEAST_PROGRAMS = 64
"""Programs that every launch over a large block has, but for the one that inverts its tiles."""

MOST_REGISTERS = 255
"""The most that a thread can have, on every chip since sm_80, as ``maxnreg`` of a kernel.

Only where the compiler, left to itself, would use fewer for occupancy's sake and spill some to
memory: ``triton_ahead`` counts spills, and results/reference/kernels has one, of 24 bytes on
sm_100."""

# Ampere: the first with TF32 products and enough shared memory.
_CAPABILITY = (8, 0)


def triton_runs_on(device: torch.device) -> bool:
    """Whether Triton is installed and ``device`` is a GPU for it, or its interpreter is on."""
    if not has_triton():
        return False
    return is_interpreted() if device.type == "cpu" else _is_recent_gpu(device)


@lru_cache
def has_triton() -> bool:
    return find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether Triton runs its kernels on CPU tensors, for tests: TRITON_INTERPRET=1."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@lru_cache
def _is_recent_gpu(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device) >= _CAPABILITY


def current(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be where the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
