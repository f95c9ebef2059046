"""Compressors, a network compressed in place, and what it is worth with factors."""

from importlib.resources import files
from itertools import islice
from typing import Any

import pytest
import torch
from fake_clock import FakeClock
from torch import Tensor, nn
from torch.optim import SGD

from svdbench.jobs.compress.arms import (
    CompressedArm,
    Compression,
    CompressSetting,
    deployed,
    latencies,
)
from svdbench.jobs.compress.compressors import Compressor
from svdbench.measure.plan import TimingPlan
from svdbench.members import COMPRESSORS
from svdbench.side_by_side.arms import Arm, Batches
from svdbench.side_by_side.networks import loss_for, mlp

NAMES = COMPRESSORS.names()
F64 = torch.float64


def load(name: str, **options: Any) -> Compressor:
    compressor: Compressor = COMPRESSORS.load(name, **options)
    return compressor


def compressed(compressor: Compressor, W: Tensor, k: int, inputs: Tensor | None = None) -> Tensor:
    if inputs is None:
        inputs = torch.randn(50, W.shape[1], dtype=W.dtype)
    left, right = compressor.factors(W, k, inputs, torch.Generator().manual_seed(0))
    assert (left.shape, right.shape) == ((W.shape[0], k), (k, W.shape[1]))
    assert left.dtype == right.dtype == W.dtype
    return left @ right


def nearest(W: Tensor, k: int) -> Tensor:
    """Of rank k, by the whole SVD."""
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vh[:k]


# ------------------------------------------------------------------- compressors


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str) -> None:
    compressor = load(name)
    assert type(compressor).name == name
    assert (files("svdbench.conf") / "compressor" / f"{name}.yaml").read_text("utf-8")[:2] == "# "
    assert compressor.title.strip()
    assert compressor.source.strip()
    assert compressor.kept(5) == 5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(15, 40), (40, 15), (15, 15)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_brings_a_weight_to_the_rank(name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    W = torch.randn(*shape, dtype=dtype)
    found = compressed(load(name), W, 6)
    S = torch.linalg.svdvals(found.double())
    eps = torch.finfo(dtype).eps
    assert S[6] <= 20 * eps * S[0]
    assert S[5] > 1e3 * eps * S[0]
    best = (W - nearest(W, 6)).norm()
    assert best * (1 - 100 * eps) <= (W - found).norm() <= 2 * best


@pytest.mark.parametrize("name", NAMES)
def test_leaves_alone_what_has_the_rank_already(name: str) -> None:
    W = torch.randn(15, 4, dtype=F64) @ torch.randn(4, 40, dtype=F64)
    torch.testing.assert_close(compressed(load(name), W, 4), W)


def test_truncated_svd_is_the_nearest() -> None:
    W = torch.randn(15, 40, dtype=F64)
    torch.testing.assert_close(compressed(load("truncsvd"), W, 6), nearest(W, 6))


def test_probes_that_reach_everything_are_exact() -> None:
    W = torch.randn(15, 40, dtype=F64)
    torch.testing.assert_close(compressed(load("rsvd", oversampling=20), W, 6), nearest(W, 6))


def test_fewer_probes_and_iterations_are_further_away() -> None:
    W = torch.randn(60, 80, dtype=F64)
    rough, fine = (
        (W - compressed(load("rsvd", oversampling=p, power_iterations=q), W, 6)).norm()
        for p, q in ((0, 0), (10, 3))
    )
    assert (W - nearest(W, 6)).norm() < fine < rough


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_whitened_is_the_plain_formula(shape: tuple[int, int]) -> None:
    """W_k = SVD_k(W C^½) C^−½, with the root of C by its eigenvalues."""
    W, x = torch.randn(*shape, dtype=F64), torch.randn(50, shape[1], dtype=F64)
    x *= torch.logspace(0, -2, shape[1], dtype=F64)
    C = x.T @ x / len(x)
    C += 0.01 * C.diagonal().mean() * torch.eye(shape[1], dtype=F64)
    values, Q = torch.linalg.eigh(C)
    root = Q * values.sqrt() @ Q.T
    plain = nearest(W @ root, 3) @ torch.linalg.inv(root)
    torch.testing.assert_close(compressed(load("whitened"), W, 3, x), plain)


def test_whitened_loses_less_of_what_a_layer_puts_out() -> None:
    W, x = torch.randn(15, 40, dtype=F64), torch.randn(200, 40, dtype=F64)
    x *= torch.logspace(0, -2, 40, dtype=F64)
    lost = {
        name: (x @ (W - compressed(load(name), W, 5, x)).T).norm()
        for name in ("whitened", "truncsvd")
    }
    assert lost["whitened"] < 0.8 * lost["truncsvd"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("truncsvd", {"extra": -1}),
        ("rsvd", {"oversampling": 2.5}),
        ("rsvd", {"power_iterations": -1}),
        ("whitened", {"damping": -0.1}),
    ],
)
def test_options_are_checked(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of at least 0"):
        load(name, **options)


# ------------------------------------------------------------------- in a network


def ranks(network: nn.Module) -> list[int]:
    return [
        int(torch.linalg.matrix_rank(parameter.detach(), rtol=1e-5))
        for parameter in network.parameters()
        if parameter.ndim == 2
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_compressed_where_it_is(name: str) -> None:
    network, X = mlp([20, 12, 12, 8]), torch.randn(100, 20)
    places = [parameter.data_ptr() for parameter in network.parameters()]
    biases = [layer.bias.clone() for layer in network if isinstance(layer, nn.Linear)]
    weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    compression = Compression(network, load(name), 8, calibration=X)
    assert list(compression.layers) == ["0", "2"]
    compression(remember=True)
    assert ranks(network) == [8, 8, 8]
    assert [parameter.data_ptr() for parameter in network.parameters()] == places
    for layer, bias in zip(
        (layer for layer in network if isinstance(layer, nn.Linear)), biases, strict=True
    ):
        assert torch.equal(layer.bias, bias)
    lost = [
        (weights[key] - network.get_parameter(key).detach()).norm()
        for key in ("0.weight", "2.weight")
    ]
    whole = [weights[key].norm() for key in ("0.weight", "2.weight")]
    expected = float(torch.stack(lost).norm() / torch.stack(whole).norm())
    assert compression.rel_error() == pytest.approx(expected, rel=1e-4)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_more_may_be_kept_than_asked_for() -> None:
    network = mlp([20, 12, 12, 8])
    Compression(network, load("truncsvd", extra=1), 4)()
    assert ranks(network) == [5, 5, 5]


def test_a_compressor_that_needs_examples_asks_for_them() -> None:
    with pytest.raises(ValueError, match="give it examples"):
        Compression(mlp([20, 12, 8]), load("whitened"), 4)
    with pytest.raises(ValueError, match="rank is 0"):
        Compression(mlp([20, 12, 8]), load("truncsvd"), 0)


def test_a_network_is_deployed_with_factors_where_they_save() -> None:
    network, X = mlp([60, 12, 12, 8]), torch.randn(9, 60)
    compression = Compression(network, load("truncsvd"), 8)
    compression()
    made = deployed(network, compression)
    torch.testing.assert_close(made.network(X), network(X))
    assert [layer.rank for layer in made.layers] == [8, None, None]
    assert [layer.reason for layer in made.layers] == [
        *("", "rank 8 saves no parameters", "left as it is, because its rank is at most 8")
    ]
    assert made.macs == 8 * (60 + 12) + 12 * 12 + 12 * 8
    assert (
        made.n_params
        == made.macs + 12 + 12 + 8
        == sum(parameter.numel() for parameter in made.network.parameters())
    )
    assert made.bytes == 4 * made.n_params
    dense = deployed(network, None)
    assert (dense.macs, [layer.reason for layer in dense.layers]) == (960, ["", "", ""])


# --------------------------------------------------------------------------- arms


def arm_of(every: int, epochs: int) -> tuple[CompressedArm, Batches]:
    network, batches = mlp([8, 6, 5]), Batches(torch.randn(20, 8), torch.randint(5, (20,)), 4)
    compressor = load("truncsvd")
    arm = Arm("x", network, SGD(network.parameters(), 0.1), loss_for(5))
    compression = Compression(network, compressor, 3)
    setting = CompressSetting("truncsvd", 3, compressor)
    return CompressedArm(arm, setting, 0, compression, every, 5, epochs), batches


@pytest.mark.parametrize(
    ("every", "calls"), [(1, [5, 5]), (5, [1, 1]), (2, [2, 3]), (7, [0, 2]), (100, [0, 1])]
)
def test_compresses_after_so_many_batches_and_after_the_last(
    every: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    plain = Compression.__call__
    monkeypatch.setattr(
        Compression, "__call__", lambda self, remember: (plain(self, remember), clock.work(2.0))[0]
    )
    arm, batches = arm_of(every, 2)
    found = [arm.train(batches.epoch(number), clock) for number in range(2)]
    assert [done.decompose_s for done in found if done] == [2 * count for count in calls]
    assert [done.seconds for done in found if done] == [2 * count for count in calls]
    assert [done.rel_error is not None for done in found if done] == [n > 0 for n in calls]
    assert ranks(arm.network) == [3, 3]
    assert arm.setting.label == "truncsvd 3"


def test_an_arm_that_fails_says_why_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    arm, batches = arm_of(1, 2)
    with torch.no_grad():
        arm.network.get_parameter("0.weight").fill_(torch.nan)
    assert arm.train(batches.epoch(0), FakeClock()) is None
    assert (arm.status, arm.reason) == ("nan", "a weight is not finite in epoch 1: lower lr")
    assert arm.train(batches.epoch(1), FakeClock()) is None
    assert arm.history == []


def test_a_loss_that_is_no_number_ends_an_arm() -> None:
    arm, batches = arm_of(100, 2)
    arm.optimizer.param_groups[0]["lr"] = 1e30
    arm.train(islice(batches.epoch(0), 4), FakeClock())
    arm.train(batches.epoch(1), FakeClock())
    assert (arm.status, "lower lr" in arm.reason) == ("nan", True)


def test_inference_is_timed_only_where_it_is_the_same() -> None:
    network, other = mlp([8, 6, 5]), mlp([8, 6, 5])
    found = latencies(
        {"same": (network, network), "other": (network, other)},
        torch.randn(4, 8),
        TimingPlan(budget_s=0.05, min_reps=1),
        FakeClock(),
    )
    assert list(found) == ["same"]
