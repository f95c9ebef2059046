"""A model and examples of the user's own: found by name, checked, with weights from a file.

Nothing is executed but the functions that the user names and what their modules import;
files of weights are read as numbers only.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from svdbench.errors import UserError, one_line, out_of_memory
from svdbench.files import is_pretrained
from svdbench.lowrank.checks import check_model, conversions
from svdbench.lowrank.drivers.base import FLOATS
from svdbench.lowrank.ranks.examples import Loss, check_batch, check_data, check_loss, size
from svdbench.lowrank.splits import Splits, split_examples
from svdbench.members import imported, is_reference, refuse_unknown
from svdbench.pretrained.model import PretrainedModel, pretrained_model
from svdbench.user_code import call, user_code
from svdbench.user_models.config import UserModelConfig
from svdbench.user_models.weights import load_weights

SPLITS = ("calibration", "validation", "test")


@dataclass(frozen=True)
class LoadedUserModel:
    """A model of the user's own, with weights and examples.

    Attributes:
        build: as it was named.
        model: with its weights, in evaluation mode.
        splits: examples for calibration, search and judging; None where none were named.
        notes: conversions of its weights, each a line.
        pretrained: where it comes from, of a model of transformers.
    """

    build: str
    model: nn.Module
    splits: Splits | None
    notes: tuple[str, ...] = ()
    pretrained: PretrainedModel | None = None

    @property
    def layers(self) -> list[str] | None:
        """The weights to compress where none are named; None for all."""
        return None if self.pretrained is None else self.pretrained.layers


def configured_model(own: UserModelConfig, **options: Any) -> LoadedUserModel:
    """The model and the examples that keys name.

    Args:
        own: with the name of the model.
        options: more of :func:`user_model`.
    """
    return user_model(
        str(own.build),
        own.weights,
        own.loader,
        max_examples=own.max_examples,
        context=own.context,
        **options,
    )


def user_model(
    build: str,
    weights: str | Path | None = None,
    data: str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    calibration: int | None = None,
    max_examples: int | None = None,
    context: int | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> LoadedUserModel:
    """The model that ``build`` makes, with its weights, and the examples that ``data`` gives.

    Args:
        build: MODULE:FUNCTION, which takes nothing and returns an ``nn.Module``. The module is
            looked for in the current folder, then on the path. Or a model of transformers: a
            folder, or a name in the local cache.
        weights: as of :func:`svdbench.user_models.weights.load_weights`; None: those that the
            model is built with.
        data: MODULE:FUNCTION, which returns (X, y), batches of them, a ``DataLoader``, or a
            dict of such with the keys calibration, validation and test; what is missing is
            parted from the others by :func:`svdbench.lowrank.splits.split_examples`.
        dtype: of the weights and of inputs with a point; None: as they are.
        calibration: number of examples to calibrate on; None: a half.
        max_examples: to read of each split; None: all.
        context: tokens of a sequence, of a model of transformers; None: as it suits.
        seed: of torch while the functions run, and of the parting.
    """
    torch.manual_seed(seed)
    if is_pretrained(build):
        return _pretrained(
            build,
            weights,
            data,
            device=device,
            dtype=dtype,
            calibration=calibration,
            max_examples=max_examples,
            context=context,
            seed=seed,
            clock=clock,
        )
    model = call_named(build, "the model")
    if not issubclass(type(model), nn.Module):  # even if its __class__ says so
        raise UserError(
            f"{build} returned {_a(model)}: it must return the model, a torch.nn.Module"
        )
    notes = list[str]()
    with user_code(build):
        if weights is not None:
            notes += load_weights(model, weights)
        try:
            if dtype is not None:
                notes += _converted(build, model, dtype)
            check_model(model)
            moved: Any = model.to(device=device, dtype=dtype)
            model = model if moved is None else moved
            model.eval()  # what it returns may be anything, where it is the user's own
        except (RuntimeError, ValueError) as error:
            if out_of_memory(error):
                raise
            raise UserError(f"{build}: {one_line(error)}") from error
    splits = None
    if data is not None:
        found = call_named(data, "the examples")
        splits = _parted(data, found, calibration, seed, max_examples, clock)
        if dtype is not None:
            splits = splits.cast(dtype)
    return LoadedUserModel(build, model, splits, tuple(notes))


def _pretrained(
    name: str,
    weights: str | Path | None,
    data: str | None,
    *,
    calibration: int | None,
    max_examples: int | None,
    context: int | None,
    seed: int,
    clock: Callable[[], float],
    **place: Any,
) -> LoadedUserModel:
    """A model of transformers; its examples are files, or what a function returns."""
    if weights is not None:
        raise UserError(f"--weights is {weights}, but {name} has weights of its own: leave it out")
    files = None if data is None or is_reference(data) else data
    options: dict[str, Any] = {"calibration": calibration, "max_examples": max_examples}
    found = pretrained_model(name, files, context=context, seed=seed, **options, **place)
    with user_code(name):
        check_model(found.model)
    if data is None or found.examples is not None:
        splits = None if found.examples is None else found.examples.splits
    else:
        given = call_named(data, "the examples")
        splits = _parted(data, given, calibration, seed, max_examples, clock)
    dtype = place["dtype"]
    if splits is not None and dtype is not None:
        splits = splits.cast(dtype)
    return LoadedUserModel(name, found.model, splits, pretrained=found)


def called_by_name(reference: str, what: str, modules: bool = False) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION names.

    Args:
        what: it is to give, in words.
        modules: whether it may be an ``nn.Module`` itself.
    """
    found = imported(reference, what)
    if not callable(found) or (isinstance(found, nn.Module) and not modules):
        raise UserError(f"{reference} is {_a(found)}: name a function that returns {what}")
    return found


def _converted(build: str, model: nn.Module, dtype: torch.dtype) -> list[str]:
    """The conversions that ``.to(dtype)`` makes, each a line."""
    own = {name: p for name, p in model.named_parameters() if not is_lazy(p)}
    for name, parameter in own.items():
        if parameter.is_complex():
            raise ValueError(f"{name} is {parameter.dtype}: svdbench compresses real weights only")
        if parameter.is_floating_point() and parameter.dtype not in FLOATS:
            raise ValueError(
                f"{name} is {parameter.dtype}, which means nothing without a scale: "
                "build the model with its dequantised weights"
            )
    wanted = {name: p.new_empty(0, dtype=dtype) for name, p in own.items() if p.is_floating_point()}
    return [f"{build}: {line}" for line in conversions(wanted, own.items())]


def call_named(reference: str, what: str) -> Any:
    """What the function returns that MODULE:FUNCTION names."""
    function = called_by_name(reference, what)
    misfit = (
        f"{reference} can't be called without arguments: name a function that takes none and "
        f"returns {what}"
    )
    with user_code(reference):
        return call(function, misfit=misfit)


def named_loss(reference: str) -> Loss:
    """The loss that MODULE:LOSS names: a function of outputs and targets, or a module."""
    function = called_by_name(reference, "the loss", modules=True)
    with user_code(reference):
        check_loss(function)
    with suppress(ValueError):  # built in, without a signature
        try:
            signature(function).bind(None, None)
        except TypeError as error:
            raise UserError(
                f"{reference} can't be called with outputs and targets: name a function that takes "
                "both and returns the loss"
            ) from error
    return function


def _parted(
    reference: str,
    found: Any,
    calibration: int | None,
    seed: int,
    max_examples: int | None,
    clock: Callable[[], float],
) -> Splits:
    parts: dict[str, Any] = {"calibration": found}
    if isinstance(found, Mapping) and not _are_inputs(found):
        parts = dict(found)
    with user_code(reference):
        refuse_unknown("split", [str(name) for name in parts], SPLITS)
        if "calibration" not in parts:
            raise ValueError("there are no examples to calibrate on: add the key calibration")
        for name, each in parts.items():
            check_data(each, "the data" if each is found else name)
            parts[name] = watched(each, reference, clock)
        return split_examples(
            parts["calibration"],
            parts.get("validation"),
            parts.get("test"),
            calibration=calibration,
            max_examples=max_examples,
            seed=seed,
        )


def _are_inputs(found: Mapping[Any, Any]) -> bool:
    """Whether a dict is a split of inputs by name, and not of splits."""
    return found.keys().isdisjoint(SPLITS) and any(
        isinstance(each, Tensor) for each in found.values()
    )


def _a(found: Any) -> str:
    if isinstance(found, tuple):
        return f"a tuple of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"


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
    """The examples of a batch; 0 of what is none, which is refused where it is used."""
    with suppress(TypeError, ValueError):
        return size(check_batch(batch)[0])
    return 0
