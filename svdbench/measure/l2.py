"""The last cache of a GPU: emptied before a repetition, where cold timings are wanted.

A step repeated on the same tensors finds in the cache what fits there: *warm*, as a
layer may be that is called again at once. *Cold*, it reads everything from memory, as
in a network whose other layers came in between. On a CPU all timings are warm.
"""

from collections.abc import Callable

import torch

# Where the size of the cache is not told: several times that of any so far.
UNKNOWN_BYTES = 128 << 20


def emptier(device: str | torch.device) -> Callable[[], None]:
    """A function that overwrites twice as much memory of a CUDA ``device`` as its L2 holds.

    It returns when that is queued. What is queued right after it waits for it, so that a
    few launches are made ahead: a cold timing of many small operations may for that
    reason be shorter than a warm one, by at most the time of the overwriting.
    """
    properties = torch.cuda.get_device_properties(device)
    size = 2 * (getattr(properties, "L2_cache_size", 0) or UNKNOWN_BYTES)
    buffer = torch.empty(size, dtype=torch.uint8, device=device)

    def empty() -> None:
        buffer.zero_()

    return empty
