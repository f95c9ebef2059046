"""Checkpoints on disk: written atomically, loaded without running code, and checked before use.

A training that resumes compares everything with what it has at its beginning: the same keys,
tensors of the same shape and kind, numbers that are finite and in range. What is wrong is a
ValueError that names the field.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from svdbench.errors import UserError, one_line, os_remedy
from svdbench.files import existing_regular_file, replace_atomically

from .progress import Evaluation


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and strings so that ``path`` is the old file or the new one.

    Raises:
        UserError: it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as partial, open(partial, "wb") as file:
            torch.save(state, file)
    except OSError as error:
        raise UserError(
            f"can't write {path}: {error.strerror or error}: {os_remedy(error)}, or leave "
            "checkpoints out with trainer.checkpoint=false"
        ) from error


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content that :func:`save` wrote, its tensors on ``device``.

    Raises:
        UserError: the file isn't there, or is no checkpoint.
    """
    try:
        found = torch.load(existing_regular_file(path), map_location=device, weights_only=True)
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}: check the path") from error
    except Exception as error:  # any exception of the unpickler on a foreign file
        raise UserError(f"{path} is not a checkpoint: {one_line(error)}") from error
    if not isinstance(found, dict) or "learner" not in found:
        raise UserError(f"{path} is not a checkpoint of svdbench train: give its last.pt")
    return found


MOST_STEPS = 2**53


def whole_number(value: Any, name: str, most: int = MOST_STEPS) -> int:
    """The value, if it is a whole number from 0 up to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is {shown(value)}, not a whole number from 0 to {most}")
    return value


def seconds(value: Any, name: str) -> float:
    """The value, if it is a finite number from 0 up."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} is {shown(value)}, not a number of seconds")
    return float(value)


def mapping(value: Any, name: str, keys: Mapping[str, Any] | None = None) -> dict[Any, Any]:
    """The value, if it is a mapping; of these keys, where they are given, and no others."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {shown(value)}, not a mapping")
    if keys is not None and value.keys() != keys.keys():
        faults = [f"has no {key}" for key in keys if key not in value]
        faults += [f"has {shown(key)}, which is not known" for key in value if key not in keys]
        raise ValueError(f"{name} {faults[0]}")
    return value


def tensor(value: Any, name: str, like: Tensor) -> Tensor:
    """The value, if it is a plain tensor of the shape and the dtype of ``like``, and finite.

    One of whole numbers has those of ``like`` in some order, or is a count.
    """
    if type(value) not in (Tensor, torch.nn.Parameter) or value.layout is not torch.strided:
        raise ValueError(f"{name} is {shown(value)}, not a tensor")
    if value.shape != like.shape or value.dtype != like.dtype:
        theirs, ours = (f"{_kind(t)} {tuple(t.shape)}" for t in (value, like))
        raise ValueError(f"{name} is {theirs}, not {ours}")
    if value.dtype.is_floating_point or value.dtype.is_complex:
        if not value.isfinite().all() and like.isfinite().all():
            raise ValueError(f"{name} is not finite")
    elif value.numel() == 1:
        whole_number(value.item(), name)
    elif not value.flatten().sort().values.equal(like.flatten().sort().values.to(value.device)):
        raise ValueError(f"{name} has values out of range")
    return value


def random_state(value: Any, name: str, like: Tensor) -> None:
    """Raise ValueError unless this is the state of a generator."""
    if type(value) is not Tensor or value.dtype != torch.uint8 or value.shape != like.shape:
        raise ValueError(f"{name} is {shown(value)}, not the state of a generator")


def weights(found: Any, name: str, like: Mapping[str, Any]) -> None:
    """Raise ValueError unless this is a state_dict of the same form as ``like``."""
    for key, value in mapping(found, name, like).items():
        if isinstance(like[key], Tensor):
            tensor(value, f"{name}.{key}", like[key])


def optimizer(found: Any, name: str, like: Optimizer, step: int) -> None:
    """Raise ValueError unless this is the state_dict of an optimiser after so many steps."""
    own = like.state_dict()
    mapping(found, name, own)
    _groups(found["param_groups"], f"{name}.param_groups", own["param_groups"])
    slots = _slots(like)
    state = mapping(found["state"], f"{name}.state")
    if step > 0 and slots and not state:
        raise ValueError(f"{name}.state is empty after {step:,} steps")
    for key, value in state.items():
        if key not in slots:
            raise ValueError(f"{name}.state has {shown(key)}, which is not a parameter")
        where = f"{name}.state.{key}"
        for slot, inner in mapping(value, where, slots[key]).items():
            expected = slots[key][slot]
            if not isinstance(expected, Tensor):
                if inner is not None:
                    raise ValueError(f"{where}.{slot} is {shown(inner)}, not {shown(expected)}")
                continue
            tensor(inner, f"{where}.{slot}", expected)
            if slot in ("step", "exp_avg_sq", "square_avg") and not (inner >= 0).all():
                raise ValueError(f"{where}.{slot} is below zero")


def point(value: Any, name: str) -> Evaluation | None:
    """An evaluation, or None."""
    if value is None:
        return None
    kinds = {field.name: field.type for field in fields(Evaluation)}
    mapping(value, name, kinds)
    for key, inner in value.items():
        where = f"{name}.{key}"
        if key == "step":
            whole_number(inner, where)
        elif key == "split":
            if inner not in ("validation", "test"):
                raise ValueError(f"{where} is {shown(inner)}, neither validation nor test")
        elif key == "elapsed_s":
            seconds(inner, where)
        elif inner is not None and (type(inner) not in (int, float) or not math.isfinite(inner)):
            raise ValueError(f"{where} is {shown(inner)}, no number")
    return Evaluation(**value)


def shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, dict | list | tuple | set):
        return f"a {type(value).__name__} of {len(value)}"
    text = str(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _groups(found: Any, name: str, like: list[dict[str, Any]]) -> None:
    """Refuse other groups of parameters, and unknown options."""
    if not isinstance(found, list) or len(found) != len(like):
        raise ValueError(f"{name} is {shown(found)}, not a list of {len(like)}")
    for number, (group, own) in enumerate(zip(found, like, strict=True)):
        where = f"{name}.{number}"
        mapping(group, where)
        if group.get("params") != own["params"]:
            raise ValueError(f"{where}.params is not of the same parameters")
        for key, value in group.items():
            if key != "params" and not _is_option(value, own.get(key)):
                raise ValueError(f"{where}.{key} is {shown(value)}")


def _is_option(value: Any, like: Any) -> bool:
    """Whether it may be an option of an optimiser: a number from 0 up, or as it is here."""
    if isinstance(like, tuple):
        return isinstance(value, tuple) and len(value) == len(like) and all(map(_is_rate, value))
    if _is_rate(like):
        return _is_rate(value)
    return value is None or (isinstance(value, bool) and value == bool(like))


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _slots(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """The state that an optimiser keeps of each parameter, taken from a twin after a zero step."""
    groups = []
    for group in optimizer.param_groups:
        twins = [torch.zeros_like(each).requires_grad_() for each in group["params"]]
        for twin in twins:
            twin.grad = torch.zeros_like(twin)
        groups.append({**group, "params": twins})
    kind: Any = type(optimizer)
    twin_of_all = kind(groups)
    twin_of_all.step()
    slots: dict[int, dict[str, Any]] = twin_of_all.state_dict()["state"]
    return slots
