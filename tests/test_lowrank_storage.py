"""Compressed models on disk: what is written comes back, and what doesn't fit is told in a line."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svdbench.lowrank import LowRankLinear, factor, load, rank_frontier, save

pytestmark = pytest.mark.usefixtures("one_thread")


class Encoder(nn.Module):
    """A small language model whose embedding and output share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(16, 40)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.encoder(self.table(x)))
        return y


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loop = nn.LSTM(6, 12, 2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.loop(x)[0][:, -1])
        return y


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, groups=2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "perceptron": (perceptron, lambda: torch.randn(5, 12)),
    "convolutional": (convolutional, lambda: torch.randn(5, 3, 9, 9)),
    "recurrent": (Sequence, lambda: torch.randn(5, 7, 6)),
    "encoder": (Encoder, lambda: torch.randint(40, (5, 7))),
    "a single layer": (lambda: nn.Linear(8, 8), lambda: torch.randn(5, 8)),
}


def squared(output: Tensor, target: Tensor) -> Tensor:
    return output.float().square().mean()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    small, _ = factor(perceptron(), 3, skip_last=False)
    return save(small, tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_comes_back_as_it_was(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    build, inputs = MODELS[name]
    model, x = build().to(dtype).eval(), inputs()
    x = x.to(dtype) if x.is_floating_point() else x
    frontier = rank_frontier(model, (x, torch.zeros(len(x)).long()), squared, kind="plain")
    small = frontier.compressed(model, frontier.ranks(fraction=0.6)).eval()
    path = save(small, tmp_path / "model.safetensors")
    assert {each.name for each in tmp_path.iterdir()} == {"model.safetensors", "model.json"}
    dense = build().to(dtype)
    found = load(dense, path).eval()
    assert {n: p.shape for n, p in dense.named_parameters()} == {
        n: p.shape for n, p in build().named_parameters()
    }
    with torch.no_grad():
        torch.testing.assert_close(found(x), small(x))  # other strides round otherwise
    assert {p.dtype for p in found.parameters()} == {dtype}
    own, theirs = (sum(p.numel() for p in each.parameters()) for each in (found, small))
    assert own == theirs  # what is tied is counted once, and so is still tied
    if dtype is torch.float32:
        # What torch exports by default from 2.7 on: it runs the model, and reads no bytecode.
        exported = torch.export.export(found, (x,), strict=False).module()
        torch.testing.assert_close(exported(x), small(x))


def test_the_files_say_what_is_in_them(tmp_path: Path) -> None:
    model = Encoder()
    ranks = {"table.weight": 5, "encoder.layers.0.linear1.weight": 4}
    small, _ = factor(model, ranks, skip_last=False)
    path = save(small, tmp_path / "new" / "model")
    about, tensors = json.loads(path.with_suffix(".json").read_text()), load_file(path)
    assert about["format"] == 1
    assert about["weights"]["table.weight"] == {
        "kind": "LowRankEmbedding",
        "rank": 5,
        "dtype": "float32",
    }
    assert about["weights"]["encoder.layers.0.linear1.weight"]["rank"] == 4
    assert about["tied"] == {"out.W1": "table.W1", "out.W2": "table.W2"}
    numbers = sum(each.numel() for each in tensors.values())
    assert numbers == sum(p.numel() for p in small.parameters())
    convolution, _ = factor(convolutional(), 2, folding="channel")
    entry = json.loads(save(convolution, tmp_path / "c").with_suffix(".json").read_text())
    assert entry["weights"]["3.weight"] == {
        "kind": "LowRankConv2d",
        "rank": 2,
        "dtype": "float32",
        "folding": "channel",
        "groups": 2,
    }


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_takes_the_dtype_of_the_model(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    build, _ = MODELS[name]
    small, _ = factor(build(), 2, skip_last=False)
    found = load(build().to(dtype), save(small, tmp_path / "model"))
    assert {p.dtype for p in found.parameters() if p.is_floating_point()} == {dtype}
    for (own, p), (theirs, q) in zip(
        found.named_parameters(), small.named_parameters(), strict=True
    ):
        assert own == theirs  # and what is tied still is
        assert torch.equal(p, q.to(dtype))


def test_takes_the_device_and_keeps_what_is_frozen(saved: Path) -> None:
    model = perceptron().requires_grad_(False)
    found = load(model, saved)
    assert isinstance(found[0], LowRankLinear)  # type: ignore[index]
    assert not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_refuses_numbers_of_another_kind_by_name(saved: Path, dtype: torch.dtype) -> None:
    tensors = load_file(saved)
    save_file({**tensors, "0.W1": tensors["0.W1"].to(dtype)}, saved)
    beside = saved.with_suffix(".json")
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"sha256": digest}))
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"0\.W1 is {name}, where the model has float32"):
        load(perceptron(), saved)


def test_a_model_without_numbers_takes_those_of_the_file(saved: Path) -> None:
    x = torch.randn(5, 12)
    torch.testing.assert_close(
        load(perceptron().to("meta"), saved)(x), load(perceptron(), saved)(x)
    )


@pytest.mark.parametrize("model", [None, nn.Linear, "model.pt"])
def test_refuses_what_is_no_model(model: Any, saved: Path) -> None:
    for use in (lambda: save(model, saved), lambda: load(model, saved)):
        with pytest.raises(TypeError, match=r"model is .*: give a torch\.nn\.Module"):
            use()


def test_a_model_of_views_is_written_whole(tmp_path: Path) -> None:
    """Tensors that lie within each other's memory, as slices of one that is packed."""
    packed = torch.randn(6, 4)
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
    for i, layer in enumerate(model):
        layer.weight = nn.Parameter(packed[3 * i : 3 * i + 3])  # type: ignore[assignment]
    found = load(nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)]), save(model, tmp_path / "m"))
    assert torch.equal(torch.cat([layer.weight for layer in found]), packed)  # type: ignore[union-attr]


def test_refuses_what_is_damaged_or_of_another_model(saved: Path) -> None:
    def says(what: str, model: nn.Module | None = None, path: Path = saved) -> None:
        with pytest.raises(ValueError, match=what) as caught:
            load(perceptron() if model is None else model, path)
        assert "\n" not in str(caught.value)

    beside = saved.with_suffix(".json")
    text, data = beside.read_text(), saved.read_bytes()
    says("sizes differ at", nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 9)))
    says("no weight is called", nn.Sequential(nn.ReLU(), nn.Linear(12, 20)))
    says("the file lacks 3.bias, 3.weight", nn.Sequential(*perceptron(), nn.Linear(4, 4)))
    saved.write_bytes(data[: len(data) // 2])
    says("damaged, or not the one that model.json describes")
    saved.write_bytes(data)
    for wrong in (text[:50], "[]", '{"format": 1}', text.replace('"rank"', '"rang"')):
        beside.write_text(wrong)
        says("damaged|not of a compressed model")
    about = json.loads(text) | {"format": 99, "svdbench": "9.9"}
    beside.write_text(json.dumps(about))
    says("has format 99, this svdbench reads up to 1: upgrade it to 9.9")
    beside.unlink()
    says("can't read .*model.json")


def test_a_write_that_fails_leaves_the_old_files(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in saved.parent.iterdir()}

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("svdbench.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(perceptron(), saved)
    assert {path: path.read_bytes() for path in saved.parent.iterdir()} == before


def test_names_may_have_dots(tmp_path: Path) -> None:
    save(perceptron(), tmp_path / "net.v2")
    assert {path.name for path in tmp_path.iterdir()} == {"net.v2.safetensors", "net.v2.json"}
    for name in ("net.v2", "net.v2.json", "net.v2.safetensors"):
        load(perceptron(), tmp_path / name)


def test_refuses_a_state_that_is_not_of_tensors(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

    with pytest.raises(ValueError, match="only tensors can be saved"):
        save(Odd(), tmp_path / "model")
