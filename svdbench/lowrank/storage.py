"""Compressed models on disk: tensors in a safetensors file, their structure in a JSON file.

Neither holds code. ``model.safetensors`` has every tensor once, even if weights are tied;
``model.json`` lists which weights are factored, at which rank, and whatever else is needed to load
the tensors into a model that the user builds again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svdbench._version import __version__
from svdbench.files import existing_regular_file, read_json, replace_atomically
from svdbench.lowrank.checks import check_dtypes, check_module
from svdbench.lowrank.layers.base import LowRankLayer
from svdbench.lowrank.layers.factor import low_rank_modules, with_empty_factors

FORMAT = 1


def save(model: Any, path: str | Path) -> Path:
    """Write a compressed model; each file is replaced atomically.

    Args:
        model: a module made by :func:`svdbench.lowrank.factor` or
            :func:`~svdbench.lowrank.compress`, or the result of ``compress``.
        path: path of the tensors; .safetensors is added if missing. The JSON file beside it has the
            same name, ending in .json.

    Returns:
        The path of the tensors.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: the state of the module has entries other than tensors.
        OSError: the files can't be written.

    Example:
        >>> model, _ = factor(torch.nn.Linear(20, 30), 5, skip_last=False)
        >>> save(model, "small").name
        'small.safetensors'
    """
    from safetensors.torch import save_file

    module = model if isinstance(model, nn.Module) else getattr(model, "model", model)
    check_module(module)
    tensors, tied = _tensors(module)
    layers = low_rank_modules(module)
    inner = {id(each) for _, layer in layers for each in [*layer.modules()][1:]}
    weights = {
        f"{path}.{own}" if path else own: entry
        for path, layer in layers
        if id(layer) not in inner
        for own, entry in _entries(layer).items()
    }
    place, beside = _place(path), _place(path).with_suffix(".json")
    place.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(place) as partial:
        save_file(tensors, partial)
        about = {
            "format": FORMAT,
            "svdbench": __version__,
            "sha256": _sha256(partial),
            "weights": weights,
            "tied": tied,
        }
    with replace_atomically(beside) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return place


def load(model: nn.Module, path: str | Path) -> nn.Module:
    """Load a compressed model that :func:`save` wrote.

    Args:
        model: the dense model as it was built before compression, with any weights; it is not
            changed. The tensors are loaded to its device.
        path: as in :func:`save`.

    Returns:
        The compressed model in the dtype of ``model``: one compressed in half precision may be
        loaded into single precision, and vice versa.

    Raises:
        ValueError: files that are missing, damaged, from a later version or from another model.

    Example:
        >>> model, _ = factor(torch.nn.Linear(20, 30), 5, skip_last=False)
        >>> load(torch.nn.Linear(20, 30), save(model, "small"))
        LowRankLinear(in_features=20, out_features=30, rank=5, bias=True)
    """
    check_module(model)
    place = _place(path)
    device = next((p.device for p in model.parameters() if not p.is_meta), None)
    about, tensors = _read(place, device)
    weights: dict[str, Any] = about["weights"]
    try:
        for folding in {entry.get("folding", "spatial") for entry in weights.values()}:
            ranks = {
                name: entry["rank"]
                for name, entry in weights.items()
                if entry.get("folding", "spatial") == folding
            }
            model = with_empty_factors(model, ranks, folding)
        for name, first in about["tied"].items():
            tensors[name] = tensors[first]
    except ValueError as error:
        raise ValueError(f"{place} belongs to another model: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{place.with_suffix('.json')} is damaged: {error}") from error
    own = model.state_dict()
    faults = [
        f"{what} {', '.join(sorted(names)[:3])}" + (" and more" if len(names) > 3 else "")
        for what, names in (
            ("the file lacks", own.keys() - tensors.keys()),
            ("the model lacks", tensors.keys() - own.keys()),
            (
                "sizes differ at",
                {n for n in own.keys() & tensors if own[n].shape != tensors[n].shape},
            ),
        )
        if names
    ]
    if faults:
        raise ValueError(f"{place} belongs to another model: {'; '.join(faults)}")
    try:
        check_dtypes(own, tensors)
    except ValueError as error:
        raise ValueError(f"{place} belongs to another model: {error}") from error
    tensors = {name: value.to(own[name].dtype) for name, value in tensors.items()}
    model.load_state_dict(tensors, assign=True)
    _tie(model, about["tied"])
    return model


def _tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, each once, and aliases of names."""
    found: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    names: dict[int, str] = {}
    places: set[int] = set()
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}: only tensors can be saved")
        if id(value) in names:
            tied[name] = names[id(value)]
        else:
            names[id(value)] = name
            found[name] = _apart(value.detach(), places)
    return found, tied


def _apart(value: Tensor, places: set[int]) -> Tensor:
    """A tensor with a storage of its own, which the file format requires."""
    storage = value.untyped_storage()
    if (
        not value.is_contiguous()
        or storage.nbytes() != value.nbytes
        or storage.data_ptr() in places
    ):
        return value.clone(memory_format=torch.contiguous_format)
    places.add(storage.data_ptr())
    return value


def _entries(layer: LowRankLayer) -> dict[str, dict[str, Any]]:
    """The entry of each weight of a low-rank layer, by its name in the dense one."""
    found = {}
    for own, (_, second) in layer.factors.items():
        W2: Tensor = layer.get_parameter(second)
        entry: dict[str, Any] = {
            "kind": type(layer).__name__,
            "rank": getattr(layer, "rank", W2.shape[0]),
            "dtype": str(W2.dtype).removeprefix("torch."),
        }
        for option in ("folding", "groups"):
            if hasattr(layer, option):
                entry[option] = getattr(layer, option)
        found[own] = entry
    return found


def _tie(model: nn.Module, tied: Mapping[str, str]) -> None:
    for name, first in tied.items():
        (owner, own), (other, theirs) = (_owner(model, each) for each in (name, first))
        for kind in ("_parameters", "_buffers"):
            if theirs in getattr(other, kind):
                getattr(owner, kind)[own] = getattr(other, kind)[theirs]


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own


def _read(place: Path, device: torch.device | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read both files; raises unless they are whole and belong together."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    beside = place.with_suffix(".json")
    try:
        about, found = read_json(beside), _sha256(existing_regular_file(place))
    except OSError as error:
        raise ValueError(f"can't read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{beside} is damaged: it {error}") from error
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ValueError(f"{beside} does not describe a compressed model of svdbench")
    if about["format"] > FORMAT:
        raise ValueError(
            f"{beside} has format {about['format']}, this svdbench reads up to {FORMAT}: "
            f"upgrade it to {about.get('svdbench')} or later"
        )
    try:
        if found != about["sha256"]:
            raise ValueError(f"{place} is damaged, or not the one that {beside.name} describes")
        tensors = load_file(place, device=str(device or "cpu"))
        weights, tied = about["weights"], about["tied"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{beside} is damaged: it lacks {error}") from error
    except SafetensorError as error:
        raise ValueError(f"{place} is damaged: {error}") from error
    if not _are_entries(weights) or not _are_names(tied):
        raise ValueError(f"{beside} is damaged: it describes no weights")
    return about, tensors


def _are_entries(weights: Any) -> bool:
    """Whether the entries have the form of :func:`_entries`, as far as they are used."""
    return isinstance(weights, dict) and all(
        isinstance(entry, dict)
        and type(entry.get("rank")) is int
        and entry["rank"] > 0
        and isinstance(entry.get("folding", ""), str)
        for entry in weights.values()
    )


def _are_names(tied: Any) -> bool:
    return isinstance(tied, dict) and all(isinstance(name, str) for name in tied.values())


def _place(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix in (".safetensors", ".json"):
        return path.with_suffix(".safetensors")
    return path.with_name(f"{path.name}.safetensors")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
