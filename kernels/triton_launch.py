"""Launching the kernels of a step, in Triton: a recipe per case, made once and kept.

``kernel[grid](...)`` binds the arguments, derives a key from their types and alignment and looks
the compiled kernel up at each call, which takes longer than a small kernel runs. A recipe
does so at its first run and keeps the compiled kernels; later runs pass addresses alone.

Triton compiles a kernel anew for sizes that are 1 or a multiple of 16, and for addresses that
are multiples of 16. The sizes of a recipe are fixed, and it keeps the kernels for each pattern
of aligned addresses apart.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from torch import Tensor
from triton.runtime import driver

from .triton_support import current

ALIGNMENT = 256
"""Bytes; each piece of a buffer starts at a multiple, as tensors of their own would."""

KEPT = 4096
"""Recipes of each kind that are kept. They hold no memory of a device, and Triton keeps compiled
kernels itself, so that a CUDA graph needs none of them."""

_NUMBERS = ALIGNMENT // 4


class Launch(NamedTuple):
    """A kernel with everything but the addresses of its tensors."""

    kernel: Any  # takes tensors, then sizes, then constants
    grid: int
    tensors: tuple[str, ...]  # names in a recipe
    sizes: tuple[int, ...]
    constants: dict[str, Any]  # and options of the compiler


class _Compiled(NamedTuple):
    """A compiled kernel, called with a stream and addresses."""

    run: Any
    grid: int
    function: Any
    metadata: Any
    choose: Any  # the addresses of its tensors among those of the recipe
    rest: tuple[Any, ...]  # sizes, and constants where this Triton's launcher expects them


class Buffer:
    """The pieces of one buffer of float32 numbers.

    Args:
        sizes: numbers in each piece, by name.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.pieces: dict[str, slice] = {}
        end = 0
        for name, size in sizes.items():
            self.pieces[name] = slice(end, end + size)
            end += padded(size)
        self.size = end


def padded(size: int) -> int:
    """The numbers that a piece of ``size`` numbers takes up in a buffer."""
    return -(-size // _NUMBERS) * _NUMBERS


class Recipe:
    """Launches in order, with the pieces of their buffers.

    Args:
        launches: what to launch.
        given: names of the tensors that ``run`` takes, in order; a buffer has the pieces of it.
        zeroed: names of pieces to fill with zeros before the first launch.
    """

    def __init__(
        self,
        launches: Sequence[Launch],
        given: Mapping[str, Buffer | None],
        zeroed: Sequence[str] = (),
    ) -> None:
        self.launches = tuple(launches)
        places: dict[str, tuple[int, slice | None]] = {}
        for i, (name, buffer) in enumerate(given.items()):
            if buffer is None:
                places[name] = (i, None)
            else:
                places |= {piece: (i, part) for piece, part in buffer.pieces.items()}
        used = list(dict.fromkeys(name for launch in launches for name in launch.tensors))
        self._places = [places[name] for name in used]
        self._offsets = [(i, 4 * part.start if part else 0) for i, part in self._places]
        self._chosen = [tuple(map(used.index, launch.tensors)) for launch in launches]
        self._zeroed = [places[name] for name in zeroed]
        self._kept: dict[object, tuple[_Compiled, ...] | None] = {}
        self._device = -1

    def run(self, *tensors: Tensor) -> None:
        """Launch everything on the current stream of the tensors' device.

        Args:
            tensors: as ``given``, contiguous and all on one device, which is that of every
                run of this recipe. Buffers are float32.
        """
        for i, piece in self._zeroed:
            tensors[i][piece].zero_()
        starts = [tensor.data_ptr() for tensor in tensors]
        misaligned = 0
        for start in starts:
            misaligned |= start & 15
        aligned = None if not misaligned else tuple(start & 15 == 0 for start in starts)
        kept = self._kept.get(aligned)
        if kept is None:
            with current(tensors[0].device):
                self._first_run(tensors, aligned)
        elif self._device != self._current_device():
            with current(tensors[0].device):
                self._run(kept, starts)
        else:
            self._run(kept, starts)

    def _run(self, kept: tuple[_Compiled, ...], starts: list[int]) -> None:
        addresses = [starts[i] + offset for i, offset in self._offsets]
        stream = self._current_stream(self._device)
        for run, grid, function, metadata, choose, rest in kept:
            # No hooks: these are for profilers that would count operations.
            run(grid, 1, 1, stream, function, metadata, None, None, None, *choose(addresses), *rest)

    def _first_run(self, tensors: Sequence[Tensor], aligned: object) -> None:
        """Launch by way of Triton, and keep what it compiled if that can be called directly."""
        views = [tensors[i] if piece is None else tensors[i][piece] for i, piece in self._places]
        found = []
        for launch, chosen in zip(self.launches, self._chosen, strict=True):
            compiled = launch.kernel[(launch.grid,)](
                *(views[j] for j in chosen), *launch.sizes, **launch.constants
            )
            found.append(_directly(compiled, launch, chosen))
        if None in found:  # Triton's interpreter, or a launcher that is not known here
            return
        self._device = driver.active.get_current_device()
        self._current_device = driver.active.get_current_device
        self._current_stream = driver.active.get_current_stream
        self._kept[aligned] = tuple(found)  # type: ignore[arg-type]


def _directly(compiled: Any, launch: Launch, chosen: tuple[int, ...]) -> _Compiled | None:
    """How to call a compiled kernel; None where this Triton's kernels are called otherwise.

    Triton 3.2 passes its launcher sizes alone, later versions constants too.
    """
    try:
        run, function = compiled.run, compiled.function
        metadata, signature = compiled.packed_metadata, compiled.src.signature
        names = launch.kernel.arg_names
    except AttributeError:
        return None
    first = len(launch.tensors) + len(launch.sizes)
    constants = tuple(launch.constants[name] for name in names[first:])
    if len(signature) == first:
        rest = launch.sizes
    elif len(signature) == len(names):
        rest = launch.sizes + constants
    else:
        return None
    return _Compiled(run, launch.grid, function, metadata, itemgetter(*chosen), rest)
