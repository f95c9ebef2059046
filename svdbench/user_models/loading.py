"""Progress of a loader of the user's own, where it is slow."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

# Seconds until it is said for the first time; then twice as many each time.
PATIENCE_S = 10.0


def watched(data: Any, name: str, clock: Callable[[], float]) -> Any:
    """The same data; of an iterable without a length it is said how many examples have come."""
    if isinstance(data, tuple) or _has_length(data):
        return data
    if isinstance(data, Iterator):
        return iter(_Watched(data, name, clock))
    return _Watched(data, name, clock)


@dataclass
class _Watched(Iterable[Any]):
    batches: Iterable[Any]
    name: str
    clock: Callable[[], float]
    ends: bool = field(default=False, init=False)  # as it was seen to do

    def __iter__(self) -> Iterator[Any]:
        begun, patience, examples = self.clock(), PATIENCE_S, 0
        for number, batch in enumerate(self.batches, 1):
            examples += _count(batch)
            if not self.ends and self.clock() - begun >= patience:
                patience *= 2
                print(
                    f"svdbench: reading {self.name}: {examples:,} examples in {number:,} batches "
                    "so far; model.max_examples=N takes only the first N",
                    file=sys.stderr,
                )
            yield batch
        self.ends = True


def _has_length(data: Any) -> bool:
    try:
        len(data)
    except TypeError:  # as of a generator, or a DataLoader of an IterableDataset without one
        return False
    return True


def _count(batch: Any) -> int:
    found = isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor)
    return len(batch[1]) if found and batch[1].ndim else 0
