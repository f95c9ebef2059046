"""The compressor with sequential correction: its order, what it corrects, and that it helps."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.jobs.time_compressors.methods.base import CompressionProblem
from svdbench.jobs.time_compressors.methods.kronecker import KroneckerFrontier
from svdbench.jobs.time_compressors.methods.sequential import (
    InputPair,
    SequentialKronecker,
    forward_order,
)
from svdbench.lowrank.ranks.moments import Moments

pytestmark = pytest.mark.usefixtures("one_thread")


class Attentive(nn.Module):
    """Modules that are declared in another order than they are called in."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.v, self.k, self.q = (nn.Linear(8, 8) for _ in range(3))
        self.table = nn.Embedding(11, 8)
        self.inner = nn.Linear(8, 8)
        self.packed = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        x = x + F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        x = x + self.inner(x)
        found: Tensor = self.last(x + self.packed(x, x, x)[0])
        return found


@pytest.fixture
def attentive() -> CompressionProblem:
    torch.manual_seed(0)
    x, y = torch.randint(11, (60, 4)), torch.randint(3, (60, 4))
    return CompressionProblem(Attentive().eval(), (x[:40], y[:40]), (x[40:], y[40:]), loss)


def loss(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


def test_weights_come_in_the_order_of_a_forward_pass(attentive: CompressionProblem) -> None:
    sites = [site for site in attentive.sites.values() if site.name != "table.weight"]
    assert forward_order(attentive, sites) == [
        ["q.weight", "k.weight", "v.weight"],
        ["inner.weight"],
        [f"packed.{name}" for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight")]
        + ["packed.out_proj.weight"],
        ["last.weight"],
    ]


def test_any_layers_are_compressed(attentive: CompressionProblem) -> None:
    before = {name: each.clone() for name, each in attentive.model.state_dict().items()}
    params = int(0.6 * attentive.plain.n_params)
    small = SequentialKronecker().calibrated(attentive)(params)
    assert attentive.numbers_in(small) <= params
    assert small(attentive.search[0]).isfinite().all()  # type: ignore[index]
    after = attentive.model.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())


class Repeated(nn.Module):
    """Two layers that are used in turn, five times; what the first is given at first is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.last = nn.Linear(10, 32), nn.Linear(32, 5)
        self.inner, self.outer = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 32)
        for _ in range(5):
            h = torch.tanh(self.outer(torch.tanh(self.inner(h))) + self.input(x))
        found: Tensor = self.last(h)
        return found


def test_a_layer_that_is_used_again_is_made_for_all_of_its_inputs() -> None:
    torch.manual_seed(0)
    model, X = Repeated().eval(), torch.randn(400, 10)
    y = model(X).detach()
    noisy = y[:300] + 0.1 * torch.randn(300, 5)
    problem = CompressionProblem(model, (X[:300], noisy), (X[300:], y[300:]), F.mse_loss)
    params = int(0.6 * problem.plain.n_params)
    plain, corrected = (
        float(F.mse_loss(method.calibrated(problem)(params)(X[300:]), y[300:]))
        for method in (KroneckerFrontier(), SequentialKronecker())
    )
    assert corrected < 1.2 * plain


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(12, 7), (7, 12)])
def test_a_weight_makes_up_for_changed_inputs(rows: int, columns: int, bias: bool) -> None:
    """Without truncation it is the least-squares solution of W x by x̃."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(columns, rows, bias=bias)).double()
    x = torch.randn(200, columns, dtype=torch.float64) + 1
    given = CompressionProblem(model, (x, model(x).detach()), (x, x), F.mse_loss)
    site = given.sites["0.weight"]
    pair = InputPair(site, site, min(rows, columns))
    changed = x @ torch.randn(columns, columns, dtype=torch.float64) + 0.3 * torch.randn_like(x)
    pair.dense(x)
    pair.compressed(changed)
    W = site.matrix
    if rows > columns:
        dense = Moments(None, W.mT @ W, torch.tensor(float(rows)), None)
    else:
        dense = Moments(torch.eye(rows, dtype=torch.float64), None, None, None)
    method = SequentialKronecker(damping=1e-12, ridge=1e-12)
    M, _ = method.corrected(pair, dense)
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    inputs = torch.cat([changed, ones], 1) if bias else changed
    wanted = torch.linalg.lstsq(inputs, x @ W.mT).solution
    torch.testing.assert_close(M, wanted[:columns].mT, rtol=1e-6, atol=1e-8)


def test_it_corrects_what_layers_before_lose() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(5) for part in (nn.Linear(24, 24), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(24, 5)).eval()
    x = torch.randn(1200, 24) @ torch.randn(24, 24) / 5
    with torch.no_grad():
        y = model(x)
    given = CompressionProblem(model, (x[:600], y[:600]), (x[600:], y[600:]), F.mse_loss)
    params = int(0.4 * given.plain.n_params)
    found = {}
    for method in (KroneckerFrontier(), SequentialKronecker()):
        small = method.calibrated(given)(params)
        with torch.no_grad():
            found[method.name] = float(F.mse_loss(small(x[600:]), y[600:]))
    assert found["kronecker_sequential"] < 0.95 * found["kronecker"]
