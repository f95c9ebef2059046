"""``HouseholderAdapter`` and the recipe of docs/layers.md beside PEFT's own HRA layers."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from svdbench.nn import HouseholderAdapter

pytestmark = pytest.mark.usefixtures("one_thread")


def close(a: Tensor, b: Tensor, c: float = 200.0) -> bool:
    scale = max(b.abs().max().item(), 1.0)
    return torch.allclose(a, b, rtol=0, atol=c * torch.finfo(b.dtype).eps * scale)


def recipe() -> dict[str, Any]:
    """What the code in docs/layers.md that speaks of PEFT defines."""
    text = (Path(__file__).parents[1] / "docs" / "layers.md").read_text()
    (code,) = (c for c in re.findall(r"```python\n(.+?)```", text, re.DOTALL) if "peft" in c)
    names: dict[str, Any] = {}
    exec(code.rpartition("\n\n\n")[0], names)  # without the last lines, which use it
    return names


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shape", [(5, 6), (2, 30, 6), (6,)])
def test_peft_with_our_reflectors(shape: tuple[int, ...], half: bool) -> None:
    layers = pytest.importorskip("peft.tuners.hra.layer")
    from peft import HRAConfig

    names = recipe()
    dtype = torch.bfloat16 if half else torch.float32
    base = nn.Linear(6, 4).to(dtype).requires_grad_(False)
    theirs = layers.HRALinear(copy.deepcopy(base), "a", HRAConfig(), r=4)
    theirs.update_layer("b", 3, HRAConfig(init_weights=False))
    theirs.hra_u.float()  # as PEFT does to adapters
    with torch.no_grad():
        theirs.hra_u["a"].add_(torch.randn(6, 4))
    theirs.set_adapter(["a", "b"])
    ours = copy.deepcopy(theirs)
    names["use_blocks"](nn.ModuleList([ours]))
    assert type(ours) is names["BlockHRALinear"]
    assert type(theirs) is layers.HRALinear
    x = torch.randn(shape).to(dtype).requires_grad_()
    found = []
    for layer in (theirs, ours):
        y = layer(x)
        assert y.dtype == dtype
        found.append([y, *grad(y.float().square().sum(), (x, *layer.hra_u.parameters()))])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=0.03 * a.abs().max().item() if half else 1e-5)
    for layer in (theirs, ours):
        layer.merge()
    assert torch.allclose(theirs(x), ours(x), atol=0.03 if half else 1e-5)
    ours.enable_adapters(False)
    assert torch.allclose(ours(x), base(x), atol=0.03 if half else 1e-5)


def test_peft_convolutions_with_our_reflectors() -> None:
    layers = pytest.importorskip("peft.tuners.hra.layer")
    from peft import HRAConfig

    base, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 7, 6)
    theirs = layers.HRAConv2d(base.requires_grad_(False), "a", HRAConfig(init_weights=False), r=3)
    ours, names = copy.deepcopy(theirs), recipe()
    names["use_blocks"](nn.ModuleList([ours]))
    assert type(ours) is names["BlockHRAConv2d"]
    found = []
    for layer in (theirs, ours):
        y = layer(x)
        found.append([y, *grad(y.square().sum(), layer.hra_u.parameters())])
    for a, b in zip(*found, strict=True):
        assert close(b, a, 500)
    assert close(ours.get_delta_weight("a", True), theirs.get_delta_weight("a", True))


def test_peft_with_orthogonal_reflectors_stays_as_it_is() -> None:
    layers = pytest.importorskip("peft.tuners.hra.layer")
    from peft import HRAConfig

    config = HRAConfig(apply_GS=True, init_weights=False)
    theirs = layers.HRALinear(nn.Linear(6, 4), "a", config, r=3)
    ours, x = copy.deepcopy(theirs), torch.randn(5, 6)
    recipe()["use_blocks"](nn.ModuleList([ours]))
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("convolution", [False, True])
def test_an_adapter_of_peft_is_ours(convolution: bool) -> None:
    """By a transposed copy; of a convolution of the kind that PEFT takes."""
    layers = pytest.importorskip("peft.tuners.hra.layer")
    from peft import HRAConfig

    base, x = nn.Linear(6, 8), torch.randn(3, 6)
    if convolution:
        base, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 7, 6)
    kind = layers.HRAConv2d if convolution else layers.HRALinear
    theirs = kind(base.requires_grad_(False), "default", HRAConfig(), r=4)
    start = theirs.hra_u["default"].detach()
    assert abs(HouseholderAdapter(base, 4).reflectors.norm() / start.norm() - 1) < 0.5
    with torch.no_grad():
        theirs.hra_u["default"].add_(torch.randn_like(start))
    ours = HouseholderAdapter(base, 4)
    ours.load_state_dict({"reflectors": theirs.hra_u["default"].t()})
    found = []
    for layer, parameter in ((theirs, theirs.hra_u["default"]), (ours, ours.reflectors)):
        y = layer(x)
        found.append([y, grad(y.square().sum(), parameter)[0]])
    (y, G), (our_y, our_G) = found
    assert close(our_y, y)
    assert close(our_G, G.t(), 500)
    assert close(
        ours.weight.flatten(1), base.weight.flatten(1) @ theirs.get_delta_weight("default")
    )
