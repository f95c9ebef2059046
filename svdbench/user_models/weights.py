"""Weights of a model from a file, which is read as numbers only."""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import UserError, one_line
from svdbench.files import existing_regular_file
from svdbench.lowrank.checks import check_dtypes, conversions

REMEDY = "save it again with safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"

# How deep in the dicts of a checkpoint a state_dict is looked for.
DEPTH = 3


def load_weights(model: nn.Module, path: str | Path) -> list[str]:
    """Put the weights of a file into a model, all of them and no others.

    Args:
        path: a .safetensors file, or what ``torch.save`` wrote: a state_dict, or a checkpoint that
            has one under some key. A prefix that all names have, as ``module.`` of
            ``DistributedDataParallel``, is left out where the model's names lack it.

    Returns:
        Where they were found, and what was converted from one floating-point type to another,
        each a line.
    """
    path = Path(path)
    own = model.state_dict(keep_vars=True)
    own = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    state, notes = _chosen(_read(path), own, path)
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
    faults = [f"{verb} {_some(names)}" for verb, names in wrong if names]
    if faults:
        raise UserError(
            f"{path} belongs to another model: it {' and '.join(faults)}: give the "
            "weights of this one"
        )
    return [f"{path}: {line}" for line in [*notes, *conversions(own, state.items())]]


def _read(path: Path) -> Any:
    """What a file holds, on the CPU: the tensors of a safetensors file, or what was pickled."""
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
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # any exception of the unpickler on a foreign file
        raise UserError(f"{path} {_refusal(error)}: {REMEDY}") from error


def _chosen(
    found: Any, own: Mapping[str, Tensor], path: Path
) -> tuple[Mapping[str, Tensor], list[str]]:
    """The state_dict in a checkpoint, by the model's names; and where it was found, in lines.

    Raises:
        UserError: there is none, or several that may be meant, with their keys.
    """
    states = {key: _without_prefix(state, own) for key, state in _states(found, (), path)}
    if not states:
        keys = {str(key): each for key, each in found.items()} if isinstance(found, dict) else {}
        others = [key for key, each in keys.items() if not isinstance(each, Tensor)]
        inside = f" under its keys {_some(others)}" if keys else f", but {_a(found)}"
        if len(others) < len(keys):
            inside = f", but {_some(others)} besides tensors"
        raise UserError(f"{path} has no state_dict{inside}: {REMEDY}")
    if len(states) > 1:
        fits = {key: each for key, each in states.items() if _fits(each[0], own)}
        if len(fits) != 1:
            names = [_indexed(key) for key in states]
            raise UserError(
                f"{path} has several state_dicts, {', '.join(names)}: save the one that you mean, "
                f"by safetensors.torch.save_file(torch.load('{path.name}'){names[-1]}, "
                "'model.safetensors')"
            )
        states = fits
    ((key, (state, prefix)),) = states.items()
    notes = [f"using the weights under {_indexed(key)}"] if key else []
    return state, notes + ([f"names are read without {prefix}"] if prefix else [])


def _states(
    found: Any, above: tuple[str, ...], path: Path
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The state_dicts in a checkpoint, by the keys that lead to them."""
    if not isinstance(found, dict) or not found:
        return
    if all(isinstance(each, Tensor) for each in found.values()):
        if other := [key for key in found if not isinstance(key, str)]:
            raise UserError(
                f"{path} has the key {other[0]!r:.40}, but the keys of a state_dict "
                f"are names: {REMEDY}"
            )
        yield above, found
    elif len(above) < DEPTH:
        for key, each in found.items():
            if isinstance(key, str):  # not the numbers of an optimiser's state
                yield from _states(each, (*above, key), path)


def _fits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether one has all names of the other: tied tensors may be in a file once."""
    return own.keys() <= state.keys() or state.keys() <= own.keys()


def _without_prefix(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], str]:
    """The tensors by the model's names, and the prefix that these lack in the file."""
    if state.keys() & own.keys():
        return state, ""
    for name in own:
        for key in state:
            prefix = key.removesuffix(name)
            if prefix != key and prefix.endswith("."):
                return {each.removeprefix(prefix): value for each, value in state.items()}, prefix
    return state, ""


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


def _indexed(key: tuple[str, ...]) -> str:
    """How the keys that lead to something are written in Python."""
    return "".join(f"[{name!r}]" for name in key)


def _a(found: Any) -> str:
    return "None" if found is None else f"a {type(found).__name__}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
