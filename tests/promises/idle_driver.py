"""A Triton driver that compiles and launches nothing, so that the host's part runs without a GPU.

Tensors are on the CPU and stay as they are; what would have been launched is noted.
"""

from typing import Any, NamedTuple

import torch
import triton.compiler
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class IdleLaunch(NamedTuple):
    """A launch that was not made: the compiled kernel, and all that its launcher was given."""

    compiled: "IdleKernel"
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]
    stream: int


class IdleKernel:
    """In place of Triton's compiled kernels: one for each kernel and specialisation."""

    packed_metadata = (4, 1, 0)
    function = 1

    def __init__(self, src: Any, *_: Any, options: Any = None, **__: Any) -> None:
        self.src, self.options = src, options
        compiled.append(self)

    def run(self, x: int, y: int, z: int, *rest: Any) -> None:
        if notes is not None:
            # What precedes the arguments: stream, function, metadata of two kinds and two hooks.
            notes.append(IdleLaunch(self, (x, y, z), rest[6:], rest[0]))

    def launch_metadata(self, *_: Any) -> None:
        return None

    def unmet(self, arguments: tuple[Any, ...]) -> list[str]:
        """What this kernel was compiled for and these arguments are not."""
        names, wrong = self.src.fn.arg_names, []
        for key, value in self.src.constants.items():
            i = names.index(key) if isinstance(key, str) else key[0]  # a name up to Triton 3.2
            if i < len(arguments) and arguments[i] != value:
                wrong.append(f"{names[i]} is {arguments[i]}, not {value}")
        for i in (i for i in self._divisible() if i < len(arguments)):
            found = arguments[i]
            number = found.data_ptr() if isinstance(found, torch.Tensor) else found
            if number % 16:
                wrong.append(f"{names[i]} is {number}, no multiple of 16")
        return wrong

    def _divisible(self) -> list[int]:
        """Which arguments must be multiples of 16."""
        attributes = self.src.attrs
        if isinstance(attributes, dict):
            return [i for (i, *_), each in attributes.items() if ["tt.divisibility", 16] in each]
        return list(attributes.arg_properties.get("tt.divisibility", ()))  # up to Triton 3.2


class _IdleUtils:
    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32}


class IdleDriver:
    """One H200, as far as anybody asks."""

    utils = _IdleUtils()
    device = 0
    stream = 0

    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int | None = None) -> int:
        return self.stream

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


compiled: list[IdleKernel] = []
notes: list[IdleLaunch] | None = None


def install() -> None:
    """From now on in this process nothing is compiled or launched; nothing was before."""
    triton.compiler.compile = IdleKernel
    driver.set_active(IdleDriver())


def note_in(noted: list[IdleLaunch] | None) -> None:
    """Note launches in this list; None: not at all, which takes the least time."""
    global notes
    notes = noted
