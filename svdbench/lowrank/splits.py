"""Examples split for three purposes: calibration, search, and evaluation of the result."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from svdbench.arguments import integer
from svdbench.lowrank.ranks.examples import (
    Data,
    Inputs,
    Targets,
    check_batch,
    check_data,
    each,
    has_labels,
    size,
    take,
    whole,
)

# Inputs and targets of a batch, and what takes their places.
Change = Callable[[Inputs, Targets], tuple[Inputs, Targets]]


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets of examples.

    Attributes:
        calibration: for statistics and fine-tuning.
        search: for choosing among compressed models.
        held_out: for evaluating the chosen model, and nothing else.
        description: how the examples were split, in words.
        labelled: whether the targets of splits given whole are the ``labels`` in a dict.
    """

    calibration: Data
    search: Data
    held_out: Data
    description: str
    labelled: bool = False

    def first(self) -> tuple[Inputs, Targets, bool]:
        """The first calibration batch, and whether its targets are ``labels`` in a dict."""
        data: Any = self.calibration
        if (split := whole(data)) is not None:
            return *split, self.labelled
        changes = []
        while isinstance(data, _Changed):
            changes.append(data.change)
            data = data.batches
        given = next(iter(data))
        x, y = check_batch(given)
        for change in reversed(changes):
            x, y = change(x, y)
        return x, y, has_labels(given)

    def cast(self, dtype: torch.dtype) -> "Splits":
        """The same with inputs that have a point in ``dtype``, batches as they come."""

        def cast(part: Tensor) -> Tensor:
            return part.to(dtype) if part.is_floating_point() else part

        return self.changed(lambda x, y: (each(x, cast), y))

    def changed(self, change: Change) -> "Splits":
        """The same with a function applied to inputs and targets, batches as they come."""
        parts = (self.calibration, self.search, self.held_out)
        calibration, search, held_out = (_changed(part, change) for part in parts)
        return replace(self, calibration=calibration, search=search, held_out=held_out)


def split_examples(
    data: Data,
    validation: Data | None = None,
    held_out: Data | None = None,
    *,
    calibration: int | None = None,
    max_examples: int | None = None,
    seed: int = 0,
    on_reading: Callable[[int], None] = lambda examples: None,
) -> Splits:
    """Split examples for calibration, search and evaluation; given splits stay whole.

    ``data`` alone is shuffled and split into a half and two quarters; if one of the other two is
    given, a third of ``data`` replaces the missing one. A ``DataLoader`` is split by the examples
    of its data set, and keeps its batch size, workers and collate function. Any other iterable is
    split into whole batches, which are all kept in memory, so it may be one that can be read only
    once.

    Args:
        data: (X, y), X alone, or batches.
        validation: examples for the search.
        held_out: examples for evaluation.
        calibration: examples of ``data`` to calibrate on (of an iterable, rounded up to whole
            batches); None: a half, or with one of the others two thirds, or all.
        max_examples: largest number of examples to read from each of the three; an iterable is read
            by whole batches until there are that many. Required for an endless iterable. None: all.
        seed: seed of the shuffle.
        on_reading: called after each batch of an iterable that is kept, with the number of examples
            so far.

    Raises:
        TypeError: an argument holds no examples.
        ValueError: too few examples or batches to split, or X and y of different lengths.
    """
    check_data(data)
    labelled = has_labels(data)
    for name, given in (("validation", validation), ("held_out", held_out)):
        if given is not None:
            check_data(given, name)
    if calibration is not None:
        calibration = integer("calibration", calibration, 1)
    if max_examples is not None:
        most = integer("max_examples", max_examples, 1)
        data = _first(data, most)
        validation, held_out = (
            None if each is None else _first(each, most) for each in (validation, held_out)
        )
    validation, held_out = (
        None if part is None else _again(part, on_reading) for part in (validation, held_out)
    )
    missing = (validation is None) + (held_out is None)
    parts = _part(data, missing, calibration, seed, on_reading)
    search = parts[1].data if validation is None else validation
    apart = parts[-1].data if held_out is None else held_out
    counts = " + ".join(f"{part.count:,}" for part in parts)
    names = [
        "to calibrate",
        *(["to search"] if validation is None else []),
        *(["held out"] if held_out is None else []),
    ]
    by = f" (seed {seed})" if missing else ""
    description = f"{counts} {parts[0].unit} {', '.join(names)}{by}"
    return Splits(parts[0].data, search, apart, description, labelled)


@dataclass(frozen=True)
class _Part:
    data: Data
    count: int
    unit: str


def _part(
    data: Data, missing: int, calibration: int | None, seed: int, on_reading: Callable[[int], None]
) -> list[_Part]:
    """``missing`` + 1 parts; the first has twice as many examples as each of the others."""
    if (split := whole(data)) is not None:
        rows = _shares(size(split[0]), missing, calibration, seed, "examples")
        return [_Part(_rows(split, own), len(own), "examples") for own in rows]
    if isinstance(data, DataLoader) and _parts_by_example(data):
        count = len(data.dataset)  # type: ignore[arg-type]
        rows = _shares(count, missing, calibration, seed, "examples")
        return [_Part(_reloaded(data, own), len(own), "examples") for own in rows]
    kept = _kept(data, on_reading)
    wanted = None
    if calibration is not None and kept:
        wanted = -(-calibration // max(_count(kept[0]), 1))
    rows = _shares(len(kept), missing, wanted, seed, "batches")
    return [_Part([kept[i] for i in own.tolist()], len(own), "batches") for own in rows]


def _kept(data: Iterable[Any], on_reading: Callable[[int], None]) -> list[Any]:
    kept, examples = [], 0
    for batch in data:
        count = _count(batch)
        if count:
            kept.append(batch)
        examples += count
        on_reading(examples)
    return kept


def _count(batch: Any) -> int:
    return size(check_batch(batch)[0])


def _rows(split: tuple[Inputs, Targets], rows: Tensor | slice) -> tuple[Inputs, Targets]:
    return take(split[0], rows), take(split[1], rows)


def _again(data: Data, on_reading: Callable[[int], None]) -> Data:
    """Examples that come again in the same order, as models are compared by them in pairs."""
    if (split := whole(data)) is not None:
        return split
    if isinstance(data, DataLoader) and _parts_by_example(data):
        return _reloaded(data, torch.arange(len(data.dataset)))  # type: ignore[arg-type]
    source = data.batches if isinstance(data, _First) else data
    # A sampler of batches may draw another order each time.
    once = isinstance(source, Iterator) or (
        isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset)
    )
    return _kept(data, on_reading) if once else data


def _first(data: Data, most: int) -> Data:
    """The first examples; of an iterable, in whole batches."""
    if (split := whole(data)) is not None:
        return _rows(split, slice(most))
    if isinstance(data, DataLoader) and _parts_by_example(data):
        return _reloaded(data, torch.arange(min(most, len(data.dataset))))  # type: ignore[arg-type]
    return _First(data, most)


@dataclass(frozen=True)
class _First(Iterable[Any]):
    batches: Iterable[Any]
    most: int

    def __iter__(self) -> Iterator[Any]:
        examples = 0
        for batch in self.batches:
            yield batch
            examples += _count(batch)
            if examples >= self.most:
                break


def _shares(
    count: int, missing: int, calibration: int | None, seed: int, unit: str
) -> Sequence[Tensor]:
    """Indices from 0 to ``count``, in parts; in order where there is only one."""
    if count < missing + 1:
        raise ValueError(
            f"there are {count} {unit}, which can't be split in {missing + 1}: give more"
        )
    first = count - missing * max(count // (missing + 2), 1)
    if calibration is not None:
        first = min(calibration, count - missing)
    order = torch.arange(count)
    if missing or first < count:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    rest = order[first:]
    return [order[:first], *(rest.tensor_split(missing) if missing else [])]


def _parts_by_example(loader: "DataLoader[Any]") -> bool:
    # Without a batch size, the data set or a sampler of the user's own makes the batches.
    return loader.batch_size is not None and not isinstance(loader.dataset, IterableDataset)


def _reloaded(loader: "DataLoader[Any]", rows: Tensor) -> "DataLoader[Any]":
    """A loader like the given one, of some examples in order."""
    return DataLoader(
        Subset(loader.dataset, rows.tolist()),
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
    )


def _changed(data: Data, change: Change) -> Data:
    split = whole(data)
    return _Changed(data, change) if split is None else change(*split)


@dataclass(frozen=True)
class _Changed(Iterable[tuple[Inputs, Targets]]):
    batches: Iterable[Any]
    change: Change

    def __iter__(self) -> Iterator[tuple[Inputs, Targets]]:
        for batch in self.batches:
            yield self.change(*check_batch(batch))
