"""Launching the kernels of a step, in Triton: a recipe per case, made once and kept.

``kernel[grid](...)`` binds the arguments, derives a key from their types and alignment and looks
the compiled kernel up at each call, which takes longer than a small kernel runs. A recipe
does so at its first run and keeps the compiled kernels; later runs pass addresses alone.

Triton compiles a kernel anew for sizes that are 1 or a multiple of 16, and for addresses that
are multiples of 16. The sizes of a recipe are fixed, and it keeps the kernels for each
alignment of its tensors apart.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.runtime import driver

from .triton_support import current

KEPT = 4096
"""Recipes that a cache keeps. They hold no memory of a device, and Triton keeps compiled
kernels itself, so that a CUDA graph needs none of them."""

PLACES = 64
"""Places of its tensors for which a recipe keeps the launchers' arguments: allocators hand out the
same addresses from step to step."""

_NUMBERS = 64  # float32: a piece of a buffer starts at a multiple of 256 bytes, as tensors do


class ProductSizes(NamedTuple):
    """Of V (p, n, d) and X (p, d, m), and of a block."""

    p: int
    n: int
    d: int
    m: int
    k: int

    @property
    def blocks(self) -> int:
        return -(-self.n // self.k)

    @property
    def aligned(self) -> bool:
        """Whether n, d and m are multiples of 16, for which Triton compiles kernels apart."""
        return not (self.n % 16 or self.d % 16 or self.m % 16)


Name = str | tuple[str, int]
"""A tensor or a piece of a buffer; or a part of it, by the number of its first element."""


class Place(NamedTuple):
    """Where matrices are, one for each product, that are ``stride`` numbers apart."""

    tensor: Name
    stride: int


class Launch(NamedTuple):
    """A kernel with everything but the addresses of its tensors."""

    kernel: Any  # takes tensors, then sizes, then constants
    grid: int
    tensors: tuple[Name, ...]
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


_Calls = tuple[tuple[Any, tuple[Any, ...]], ...]
"""Compiled kernels, each with all that its launcher takes."""


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
        prepare: called with the tensors before the first launch.
    """

    def __init__(
        self,
        launches: Sequence[Launch],
        given: Mapping[str, Buffer | None],
        prepare: Callable[..., object] | None = None,
    ) -> None:
        self.launches = tuple(launches)
        starts: dict[str, tuple[int, int, int | None]] = {}  # which tensor, from where, to where
        for i, (name, buffer) in enumerate(given.items()):
            if buffer is None:
                starts[name] = (i, 0, None)
            else:
                for piece, part in buffer.pieces.items():
                    starts[piece] = (i, part.start, part.stop)
        used = list(dict.fromkeys(name for launch in launches for name in launch.tensors))
        self._places: list[tuple[int, int, int | None]] = []
        for each in used:
            name, first = (each, 0) if isinstance(each, str) else each
            i, start, stop = starts[name]
            self._places.append((i, start + first, stop))
        self._offsets = [(i, 4 * start) for i, start, _ in self._places]
        self._chosen = [tuple(map(used.index, launch.tensors)) for launch in launches]
        self._prepare = prepare
        self._kept: dict[object, tuple[_Compiled, ...]] = {}
        self._calls: dict[tuple[int, ...], _Calls] = {}  # by a stream and the tensors' addresses
        self._device = -1
        self._current_device: Callable[[], int] = lambda: -2  # as long as none is known
        self._current_stream: Callable[[int], int] = lambda device: -1

    def run(self, *tensors: Tensor) -> None:
        """Launch everything on the current stream of the tensors' device.

        Args:
            tensors: as ``given``, contiguous and all on one device, which is that of every
                run of this recipe. Buffers are float32.
        """
        if self._prepare is not None:
            self._prepare(*tensors)
        if self._device == self._current_device():
            self._run(tensors)
        else:
            with current(tensors[0].device):
                self._run(tensors)

    def _run(self, tensors: Sequence[Tensor]) -> None:
        """On the current device."""
        place = self._current_stream(self._device), *[tensor.data_ptr() for tensor in tensors]
        for run, arguments in self._calls.get(place) or self._new_calls(place, tensors):
            run(*arguments)

    def _new_calls(self, place: tuple[int, ...], tensors: Sequence[Tensor]) -> _Calls:
        """What to call for tensors at these addresses; nothing where Triton has launched it all."""
        stream, *starts = place
        misaligned = 0
        for start in starts:
            misaligned |= start & 15
        alignment = tuple(start & 15 for start in starts) if misaligned else None
        kept = self._kept.get(alignment)
        if kept is None or stream < 0:
            self._first_run(tensors, alignment)
            return ()
        addresses = [starts[i] + offset for i, offset in self._offsets]
        hooks = None, None, None  # these are for profilers that would count operations
        calls = tuple(
            (run, (grid, 1, 1, stream, function, metadata, *hooks, *choose(addresses), *rest))
            for run, grid, function, metadata, choose, rest in kept
        )
        if len(self._calls) >= PLACES:
            self._calls.clear()
        self._calls[place] = calls
        return calls

    def _first_run(self, tensors: Sequence[Tensor], alignment: object) -> None:
        """Launch by way of Triton, and keep what it compiled if that can be called directly."""
        views = []
        for i, start, stop in self._places:
            whole = start == 0 and stop is None
            views.append(tensors[i] if whole else tensors[i].view(-1)[start:stop])
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
        self._kept[alignment] = tuple(found)  # type: ignore[arg-type]


class PassRecipe(NamedTuple):
    """The recipe of a forward or backward pass, and what it needs."""

    recipe: Recipe
    kept: int  # numbers in the buffer that the forward pass returns
    scratch: int  # and in one that is given back
    out: torch.dtype  # of the product, or of the gradient at X
    dV: torch.dtype
    reads_X: bool = False


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
