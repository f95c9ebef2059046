"""A model and examples of the user's own: found by name, checked, with weights from a file.

Nothing is executed but the functions that the user names and what their modules import;
files of weights are read as numbers only.
"""

import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import UserError, one_line
from svdbench.lowrank.splits import Splits, split_examples
from svdbench.registry import refuse_unknown
from svdbench.whole import regular

SPLITS = ("calibration", "validation", "test")
REMEDY = "save it anew with safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"


@dataclass(frozen=True)
class UserModel:
    """What the user brings.

    Attributes:
        build: as it was named.
        model: with its weights, in evaluation mode.
        splits: examples for calibration, search and judging; None where none were named.
    """

    build: str
    model: nn.Module
    splits: Splits | None


def user_model(
    build: str,
    weights: str | Path | None = None,
    data: str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    calibration: int | None = None,
    seed: int = 0,
) -> UserModel:
    """The model that ``build`` makes, with its weights, and the examples that ``data`` gives.

    Args:
        build: MODULE:FUNCTION, which takes nothing and returns an ``nn.Module``. The module is
            looked for in the current folder, then on the path.
        weights: a .safetensors file, or a state_dict that ``torch.save`` wrote; None: those
            that the model is built with.
        data: MODULE:FUNCTION, which returns (X, y), batches of them, a ``DataLoader``, or a
            dict of such with the keys calibration, validation and test; what is missing is
            parted from the others by :func:`svdbench.lowrank.splits.split_examples`.
        device: where the model goes; the batches follow it.
        dtype: of the weights and of inputs with a point; None: as they are.
        calibration: examples to calibrate on; None: a half.
        seed: of torch while the functions run, and of the parting.

    Raises:
        UserError: what is not there, fails, or doesn't fit, in one line.
    """
    torch.manual_seed(seed)
    model = _called(build, "the model")
    if not isinstance(model, nn.Module):
        raise UserError(
            f"{build} returned {_a(model)}: it must return a torch.nn.Module, its model"
        )
    if weights is not None:
        load_weights(model, weights)
    try:
        model = model.to(device=device, dtype=dtype).eval()
    except RuntimeError as error:
        raise UserError(f"{build}: the model can't go to {device}: {one_line(error)}") from error
    splits = None
    if data is not None:
        found = _called(data, "the examples")
        splits = _parted(data, found, calibration, seed)
        if dtype is not None:
            splits = splits.cast(dtype)
    return UserModel(build, model, splits)


def called_by_name(reference: str, what: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION names.

    Args:
        what: it is to give, in words.

    Raises:
        UserError: there is no such module or function, or the module fails.
    """
    module_name, colon, path = reference.partition(":")
    if not (colon and module_name and path) or ":" in path:
        raise UserError(
            f"{reference!r} does not name {what}: write MODULE:FUNCTION, as my_net:build"
        )
    module = _imported(module_name, reference)
    found: Any = module
    for own in path.split("."):
        if not hasattr(found, own):
            close = get_close_matches(own, [n for n in dir(found) if n[0] != "_"], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "look at how it is spelt"
            raise UserError(f"{reference}: {module_name} has no {own!r}: {hint}")
        found = getattr(found, own)
    if isinstance(found, nn.Module) or not callable(found):
        raise UserError(f"{reference} is {_a(found)}: name a function that returns {what}")
    return found


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a file into a model, all of them and no others.

    Raises:
        UserError: the file can't be read, is not of weights alone, or is of another model.
    """
    state = _read(Path(path))
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a size that differs
        sizes = re.search(r"size mismatch for (\S+): .*?(\[.*?\]).*?(\[.*?\])", str(error), re.S)
        why = one_line(error)
        if sizes:
            why = f"{sizes[1]} is {sizes[2]} in the file and {sizes[3]} in the model"
        raise UserError(f"{path} is of another model: {why}") from error
    missing = _not_tied(model, found.missing_keys, state)
    wrong = [("lacks", missing), ("has the unknown", found.unexpected_keys)]
    told = [f"{verb} {_some(names)}" for verb, names in wrong if names]
    if told:
        raise UserError(
            f"{path} is of another model: it {' and '.join(told)}: give the weights of this one"
        )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        regular(path)
    except OSError as error:
        raise UserError(
            f"can't read the weights {path}: {error.strerror}: check the path"
        ) from error
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not a whole safetensors file: {one_line(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler thinks of a foreign file
        raise UserError(f"{path} {_refusal(error)}: {REMEDY}") from error
    if isinstance(found, dict):
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(found.get(key), dict):
                found = found[key]
        if found and all(isinstance(each, Tensor) for each in found.values()):
            return found
    raise UserError(f"{path} has no state_dict, but {_a(found)}: {REMEDY}")


def _refusal(error: Exception) -> str:
    """What torch has against a file, in one line."""
    message = str(error)
    needs = re.search(r"(?:GLOBAL|[Uu]nsupported (?:class|global):?) (?!GLOBAL)([\w.]+)", message)
    if needs:
        return (
            f"is a pickle that needs {needs[1]} besides tensors, and to load it could run "
            "anybody's code: where you trust it"
        )
    why = re.search(r"WeightsUnpickler error: (.+)", message)
    return f"is not a file of weights ({why[1] if why else one_line(error)})"


def _not_tied(model: nn.Module, names: list[str], state: Mapping[str, Tensor]) -> list[str]:
    """Those names whose tensor has no other name under which it was loaded."""
    own = model.state_dict(keep_vars=True)
    loaded = {id(own[name]) for name in state if name in own}
    return [name for name in names if id(own.get(name)) not in loaded]


def _called(reference: str, what: str) -> Any:
    function = called_by_name(reference, what)
    try:
        return function()
    except Exception as error:
        raise UserError(f"{reference} failed: {_where(error)}") from error


def _imported(name: str, reference: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{reference}: there is no module {error.name!r} in this folder or on the path: "
                "run in the folder that it is in, or add that to PYTHONPATH"
            ) from error
        raise UserError(f"{reference}: {name} needs {error.name}: install it") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{reference}: importing {name} failed: {_where(error)}") from error


def _where(error: BaseException) -> str:
    """An exception, and the line of the user's code that it comes from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "<frozen" not in frame.filename
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({Path(error.filename).name}, line {error.lineno})"
    return f"{type(error).__name__}: {one_line(error)}{where}"


def _parted(reference: str, found: Any, calibration: int | None, seed: int) -> Splits:
    parts: dict[str, Any] = {"calibration": found}
    if isinstance(found, Mapping):
        parts = dict(found)
    try:
        refuse_unknown("split", list(parts), SPLITS)
        if "calibration" not in parts:
            raise ValueError("there are no examples to calibrate on: add the key calibration")
        for each in parts.values():
            _check(each)
        return split_examples(
            parts["calibration"],
            parts.get("validation"),
            parts.get("test"),
            calibration=calibration,
            seed=seed,
        )
    except Exception as error:
        what = one_line(error) if isinstance(error, ValueError) else _where(error)
        raise UserError(f"{reference}: {what}") from error


def _check(data: Any) -> None:
    pair = isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], Tensor)
    batches = hasattr(data, "__iter__") and not isinstance(data, Tensor | str | tuple | Mapping)
    if not (pair or batches):
        raise ValueError(f"it returned {_a(data)}: return (X, y), batches of them, or a DataLoader")


def _a(found: Any) -> str:
    if isinstance(found, tuple):
        return f"a tuple of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
