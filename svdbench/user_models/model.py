"""A model and examples of the user's own: found by name, checked, with weights from a file.

Nothing is executed but the functions that the user names and what their modules import;
files of weights are read as numbers only.
"""

import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from svdbench.errors import UserError, one_line, out_of_memory
from svdbench.files import existing_regular_file
from svdbench.lowrank.checks import check_dtypes, check_model, conversions
from svdbench.lowrank.drivers.base import FLOATS
from svdbench.lowrank.ranks.examples import Loss, check_data, check_loss
from svdbench.lowrank.splits import Splits, split_examples
from svdbench.members import imported, refuse_unknown
from svdbench.user_code import call, user_code

SPLITS = ("calibration", "validation", "test")
REMEDY = "save it again with safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"


@dataclass(frozen=True)
class LoadedUserModel:
    """A model of the user's own, with weights and examples.

    Attributes:
        build: as it was named.
        model: with its weights, in evaluation mode.
        splits: examples for calibration, search and judging; None where none were named.
        notes: conversions of its weights, each a line.
    """

    build: str
    model: nn.Module
    splits: Splits | None
    notes: tuple[str, ...] = ()


def user_model(
    build: str,
    weights: str | Path | None = None,
    data: str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    calibration: int | None = None,
    max_examples: int | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> LoadedUserModel:
    """The model that ``build`` makes, with its weights, and the examples that ``data`` gives.

    Args:
        build: MODULE:FUNCTION, which takes nothing and returns an ``nn.Module``. The module is
            looked for in the current folder, then on the path.
        weights: a .safetensors file, or a state_dict that ``torch.save`` wrote; None: those
            that the model is built with.
        data: MODULE:FUNCTION, which returns (X, y), batches of them, a ``DataLoader``, or a
            dict of such with the keys calibration, validation and test; what is missing is
            parted from the others by :func:`svdbench.lowrank.splits.split_examples`.
        dtype: of the weights and of inputs with a point; None: as they are.
        calibration: number of examples to calibrate on; None: a half.
        max_examples: to read of each split; None: all.
        seed: of torch while the functions run, and of the parting.
    """
    torch.manual_seed(seed)
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


def load_weights(model: nn.Module, path: str | Path) -> list[str]:
    """Put the weights of a file into a model, all of them and no others.

    Returns:
        What was converted from one floating-point type to another, each a line.
    """
    state, own = _read(Path(path)), model.state_dict(keep_vars=True)
    own = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    try:
        check_dtypes(own, state)
        found = model.load_state_dict(state, strict=False)
    except ValueError as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    except RuntimeError as error:  # a size that differs
        sizes = re.search(r"size mismatch for (\S+): .*?(\[.*?\]).*?(\[.*?\])", str(error), re.S)
        why = one_line(error)
        if sizes:
            why = f"{sizes[1]} is {sizes[2]} in the file and {sizes[3]} in the model"
        raise UserError(f"{path} belongs to another model: {why}") from error
    missing = _not_tied(model, found.missing_keys, state)
    wrong = [("lacks", missing), ("has the unknown", found.unexpected_keys)]
    told = [f"{verb} {_some(names)}" for verb, names in wrong if names]
    if told:
        raise UserError(
            f"{path} belongs to another model: it {' and '.join(told)}: give the "
            "weights of this one"
        )
    return [f"{path}: {line}" for line in conversions(own, state.items())]


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


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        existing_regular_file(path)
    except OSError as error:
        raise UserError(
            f"can't read the weights {path}: {error.strerror}: check the path"
        ) from error
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path} is not a complete safetensors file: {one_line(error)}"
            ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # any exception of the unpickler on a foreign file
        raise UserError(f"{path} {_refusal(error)}: {REMEDY}") from error
    if isinstance(found, dict):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(found.get(key), dict):
                found = found[key]
        if other := [key for key in found if not isinstance(key, str)]:
            raise UserError(
                f"{path} has the key {other[0]!r:.40}, but the keys of a state_dict "
                f"are names: {REMEDY}"
            )
        if found and all(isinstance(each, Tensor) for each in found.values()):
            return found
    raise UserError(f"{path} has no state_dict, but {_a(found)}: {REMEDY}")


def _refusal(error: Exception) -> str:
    """The reason why torch refuses a file, in one line."""
    message = str(error)
    needs = re.search(r"(?:GLOBAL|[Uu]nsupported (?:class|global):?) (?!GLOBAL)([\w.]+)", message)
    if needs:
        return (
            f"is a pickle that needs {needs[1]} besides tensors, and loading it could "
            "run arbitrary code: if you trust it"
        )
    why = re.search(r"WeightsUnpickler error: (.+)", message)
    return f"is not a weights file ({why[1] if why else one_line(error)})"


def _not_tied(model: nn.Module, names: list[str], state: Mapping[str, Tensor]) -> list[str]:
    """Names whose tensor was not loaded under another name either."""
    own = model.state_dict(keep_vars=True)
    loaded = {id(own[name]) for name in state if name in own}
    return [name for name in names if id(own.get(name)) not in loaded]


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
    misfit = (
        f"{reference} can't be called with outputs and targets: name a function that takes both "
        "and returns the loss"
    )
    return lambda output, target: call(function, output, target, misfit=misfit)


def _parted(
    reference: str,
    found: Any,
    calibration: int | None,
    seed: int,
    max_examples: int | None,
    clock: Callable[[], float],
) -> Splits:
    parts: dict[str, Any] = {"calibration": found}
    if isinstance(found, Mapping):
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


def _a(found: Any) -> str:
    if isinstance(found, tuple):
        return f"a tuple of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


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
