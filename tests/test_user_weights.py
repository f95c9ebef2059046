"""Weights as people have them: nested in a checkpoint, with a prefix, beside others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from svdbench.errors import UserError
from svdbench.user_models.weights import load_weights


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


TRAINED = build().state_dict()
OTHER = nn.Linear(2, 2).state_dict()
ADAM = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


def prefixed(prefix: str, state: dict[str, Tensor] = TRAINED) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("checkpoint", "notes"),
    [
        (TRAINED, []),
        ({"model": TRAINED}, ["weights under ['model']"]),
        (
            {"whatever": TRAINED, "epoch": 3, "optimizer": ADAM},
            ["weights under ['whatever']"],
        ),
        ({"a": {"b": {"net": TRAINED}}}, ["weights under ['a']['b']['net']"]),
        ({"other": OTHER, "net": TRAINED}, ["weights under ['net']"]),
        (prefixed("module."), ["names are read without module."]),
        ({"state_dict": prefixed("net.model.")}, ["['state_dict']", "without net.model."]),
        ({"generator": TRAINED, "discriminator": OTHER}, ["weights under ['generator']"]),
    ],
)
def test_a_checkpoint_is_found_by_what_fits(
    checkpoint: Any, notes: list[str], tmp_path: Path
) -> None:
    torch.save(checkpoint, tmp_path / "model.pt")
    model = build()
    found = load_weights(model, tmp_path / "model.pt")
    assert len(found) == len(notes)
    assert all(what in line for what, line in zip(notes, found, strict=True))
    assert all(torch.equal(value, TRAINED[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (
            {"model": TRAINED, "ema": TRAINED},
            r"has several state_dicts, ['model'], ['ema']: save the one that you mean, by "
            r"safetensors.torch.save_file(torch.load('model.pt')['ema'], 'model.safetensors')",
        ),
        ({"one": OTHER, "two": OTHER}, "several state_dicts, ['one'], ['two']"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "has no state_dict under its keys epoch, args: save"),
        ({**TRAINED, "epoch": 3}, "has no state_dict, but epoch besides tensors: save"),
        ({}, "has no state_dict, but a dict"),
        ([TRAINED], "has no state_dict, but a list"),
        ({"model": OTHER}, "belongs to another model: it lacks 0.weight"),
        (prefixed("module.", OTHER), "belongs to another model: it lacks 0.weight"),
        ({1: torch.ones(2), "0.weight": torch.ones(2)}, "has the key 1, but the keys of a state"),
    ],
)
def test_what_is_not_clear_is_said_with_its_keys(
    checkpoint: Any, says: str, tmp_path: Path
) -> None:
    torch.save(checkpoint, tmp_path / "model.pt")
    with pytest.raises(UserError) as caught:
        load_weights(build(), tmp_path / "model.pt")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
