"""Checks of a model before it is calibrated, factored or filled with weights."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from svdbench.lowrank.drivers.base import FLOATS


def check_module(model: Any) -> None:
    """Raise TypeError unless this is a module."""
    if not issubclass(type(model), nn.Module):  # whatever its __class__ says
        found = "None" if model is None else f"a {type(model).__name__}"
        raise TypeError(f"model is {found}: give a torch.nn.Module")


def check_model(model: Any) -> None:
    """Refuse a model whose parameters can't be computed with.

    Raises:
        TypeError: it is no module.
        ValueError: a parameter is uninitialised, on the meta device, or not finite; or a buffer
            has a NaN. The message has its name.
    """
    check_module(model)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{name} is not initialised (a lazy module): run the model on a batch first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, and so has no numbers: load the weights first"
            )
        if tensor.is_inference():
            raise ValueError(
                f"{name} was made under torch.inference_mode(): build the model outside of it"
            )
        if tensor.dtype not in FLOATS or tensor.layout is not torch.strided or not tensor.numel():
            continue
        low, high = tensor.detach().aminmax()  # which takes no memory, and passes a NaN on
        parameter = isinstance(tensor, nn.Parameter)
        if low.isnan() or (parameter and not (low.isfinite() and high.isfinite())):
            bad = int((~tensor.isfinite()).sum() if parameter else tensor.isnan().sum())
            what = "NaN or infinite" if parameter else "NaN"
            raise ValueError(
                f"{name} has {bad:,} {what} among its {tensor.numel():,} numbers: check how the "
                "model was trained, and its weights loaded"
            )


def check_dtypes(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose numbers would mean something else in a model's own.

    Floating-point numbers of 16, 32 and 64 bits stand for each other, and an integer for a
    larger one. A quantised or float8 weight is nothing without its scale.

    Args:
        own: of the model, by name.
        given: to take their places; names that ``own`` lacks are passed over.

    Raises:
        ValueError: with the name of the first that doesn't fit.
    """
    for name, tensor in given.items():
        if name not in own:
            continue
        dtype = own[name].dtype
        if tensor.layout is not torch.strided:
            raise ValueError(f"{name} is {tensor.layout}: save it as a dense tensor, by to_dense()")
        if tensor.dtype == dtype:
            continue
        if dtype in FLOATS:
            fits = tensor.dtype in FLOATS
        else:
            fits = _integral(dtype) and _integral(tensor.dtype)
            fits = fits and torch.promote_types(tensor.dtype, dtype) == dtype
        if not fits:
            raise ValueError(
                f"{name} is {_plain(tensor.dtype)}, where the model has {_plain(dtype)}: "
                + _remedy(tensor.dtype, dtype)
            )


def conversions(own: Mapping[str, Tensor], given: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Which dtypes become which, as lines; of tensors that :func:`check_dtypes` lets pass."""
    pairs: dict[tuple[str, str], int] = {}
    for name, tensor in given:
        if name in own and tensor.dtype != own[name].dtype:
            pair = _plain(tensor.dtype), _plain(own[name].dtype)
            pairs[pair] = pairs.get(pair, 0) + 1
    return [
        f"{count} tensor{'s' * (count > 1)} converted from {old} to {new}"
        for (old, new), count in pairs.items()
    ]


def _remedy(given: torch.dtype, own: torch.dtype) -> str:
    if own in FLOATS and not given.is_complex and given != torch.bool:
        return "a quantised weight needs its scales: save the dequantised weights"
    return "save it in the model's dtype"


def _integral(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
