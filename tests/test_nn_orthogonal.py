"""``svdbench.nn.orthogonal``: what PyTorch promises of its own, and what reflectors add."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from svdbench.kernels import apply_reflectors_reference
from svdbench.nn import orthogonal
from svdbench.nn.stiefel import Stiefel

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(4, 4), (5, 3), (3, 5), (1, 1), (1, 6), (6, 1), (33, 33), (70, 20), (20, 70)]
FEW = [(6, 6, 1), (6, 6, 2), (6, 6, 5), (9, 4, 3), (4, 9, 2), (33, 33, 8), (70, 20, 7)]


def tolerance(weight: Tensor, c: float = 8.0) -> float:
    """c·d·eps: what r ≤ d Householder steps are off by (Higham, 2002, §19.3), in practice.

    The proven bound on an entry is c·r·d·eps; errors seen are below 1·d·eps, so 8 leaves
    room for another BLAS and would still show a single lost digit.
    """
    return c * max(weight.shape[-2:]) * torch.finfo(weight.dtype).eps


def thin(weight: Tensor) -> Tensor:
    weight = weight.detach().double()
    return weight if weight.shape[-2] >= weight.shape[-1] else weight.mT


def orthonormality(weight: Tensor) -> float:
    Q = thin(weight)
    return (Q.mT @ Q - torch.eye(Q.shape[-1], dtype=Q.dtype)).abs().max().item()


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a.detach().double() - b.detach().double()).abs().max().item()


def random_orthonormal(*shape: int, seed: int = 0, det: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(*shape, generator=generator, dtype=torch.float64)
    Q = torch.linalg.qr(W if shape[-2] >= shape[-1] else W.mT).Q
    if det is not None and torch.linalg.det(Q) * det < 0:
        Q[:, 0] *= -1
    return Q if shape[-2] >= shape[-1] else Q.mT.contiguous()


def linear(rows: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(columns, rows, dtype=dtype)


def reflectors(layer: nn.Module) -> Tensor:
    """The stored reflectors as rows."""
    shape = layer.weight.shape
    original = layer.parametrizations.weight.original.detach()
    return original.mT if shape[-2] > shape[-1] else original


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_first_weight_is_the_q_factor_as_in_torch(shape: tuple[int, int], dtype: torch.dtype):
    layer, other = linear(*shape, dtype), linear(*shape, dtype)
    assert orthogonal(layer) is layer
    parametrizations.orthogonal(other, orthogonal_map="householder", use_trivialization=False)
    assert layer.weight.shape == shape
    assert layer.weight.dtype == dtype
    assert orthonormality(layer.weight) <= tolerance(layer.weight)
    assert distance(layer.weight, other.weight) <= tolerance(layer.weight)
    # The parameter keeps the weight's shape, so optimizers see no change.
    assert layer.parametrizations.weight.original.shape == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_orthonormal_weight_is_kept(shape: tuple[int, int], dtype: torch.dtype):
    layer = orthogonal(linear(*shape, dtype))
    for seed in range(3):
        W = random_orthonormal(*shape, seed=seed).to(dtype)
        layer.weight = W
        assert distance(layer.weight, W) <= tolerance(W)
        layer.weight = -W
        assert distance(layer.weight, -W) <= tolerance(W)
        started = linear(*shape, dtype)
        with torch.no_grad():
            started.weight.copy_(W)
        assert distance(orthogonal(started).weight, W) <= tolerance(W)


SPECIAL = {
    "identity": torch.eye(6),
    "minus identity": -torch.eye(6),
    "one flip": torch.diag(torch.tensor([1.0, 1, -1, 1, 1, 1])),
    "last flip": torch.diag(torch.tensor([1.0, 1, 1, 1, 1, -1])),
    "swap": torch.eye(6)[[1, 0, 2, 3, 4, 5]],
    "cycle": torch.eye(6).roll(1, 0),
    "tall identity": torch.eye(6, 4),
    "wide identity": torch.eye(4, 6),
    "tall, other rows": torch.eye(8)[:, 4:],
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_matrices_are_exact_and_leave_no_dead_reflector(name: str):
    W = SPECIAL[name]
    layer = orthogonal(linear(*W.shape))
    layer.weight = W
    assert distance(layer.weight, W) <= tolerance(W)
    assert reflectors(layer).norm(dim=-1).min() >= 1 - tolerance(W)
    assert directions(layer.double()) == dimension(*W.shape)
    if W.shape[0] == W.shape[1]:
        assert torch.linalg.det(layer.weight).sign() == torch.linalg.det(W).sign()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SPECIAL)
def test_a_special_matrix_changes_the_parameter_alone_where_signs_are_shared(name: str, seed: int):
    W = SPECIAL[name]
    layer, other = orthogonal(linear(*W.shape, seed=seed)), linear(*W.shape, seed=5)
    shared = layer.parametrizations.weight[0]
    signs = shared.signs.clone()
    parametrize.register_parametrization(other, "weight", shared)
    kept = other.weight.detach().clone()
    layer.weight = W
    assert torch.equal(shared.signs, signs)
    assert torch.equal(other.weight, kept)
    assert distance(layer.weight, W) <= tolerance(W)
    lengths = reflectors(layer).norm(dim=-1)
    assert lengths[:-1].min() >= 1 - tolerance(W)
    if W.shape[0] == W.shape[1]:
        # The last one says which determinant it is: (−1)ⁿ and that of the signs, or the other.
        usual = torch.linalg.det(W).sign() * signs.prod() == (-1) ** len(W)
        assert lengths[-1] >= 1 - tolerance(W) if usual else lengths[-1] == 0
    else:
        assert lengths[-1] >= 1 - tolerance(W)


@pytest.mark.parametrize("W", [torch.zeros(5, 3), torch.ones(5, 5), torch.eye(5)[:, [0, 0, 1]]])
def test_rank_deficient_weights_still_give_orthonormal_ones(W: Tensor):
    layer = orthogonal(linear(*W.shape))
    layer.weight = W
    assert orthonormality(layer.weight) <= tolerance(W)
    assert reflectors(layer).norm(dim=-1).min() >= 1 - tolerance(W)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_of_the_first_weight_does_not_matter(scale: float):
    W = random_orthonormal(7, 7).float()
    layer = orthogonal(linear(7, 7))
    layer.weight = W * scale
    assert distance(layer.weight, W) <= tolerance(W)


def dimension(rows: int, columns: int) -> int:
    """Of the Stiefel manifold."""
    d, r = max(rows, columns), min(rows, columns)
    return d * r - r * (r + 1) // 2


def directions(layer: nn.Module) -> int:
    """The rank of the Jacobian of the weight."""
    entry = layer.parametrizations.weight
    J = torch.autograd.functional.jacobian(entry[0], entry.original.detach())
    return int(torch.linalg.matrix_rank(J.reshape(layer.weight.numel(), -1), rtol=1e-8))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("start", ["identity", "random"])
@pytest.mark.parametrize("shape", [(5, 5), (8, 8), (6, 3), (3, 6), (2, 2)])
def test_every_direction_on_the_manifold_can_be_moved_in(
    shape: tuple[int, int], start: str, seed: int
):
    W = torch.eye(*shape).double() if start == "identity" else random_orthonormal(*shape, seed=9)
    layer = orthogonal(linear(*shape, torch.float64, seed=seed))
    layer.weight = W
    assert directions(layer) == dimension(*shape)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nn.Conv2d(3, 4, (3, 2)), "weight"),
        (lambda: nn.Bilinear(4, 5, 3), "weight"),
        (lambda: nn.RNNCell(3, 8), "weight_hh"),
        (lambda: nn.Embedding(10, 4), "weight"),
    ],
)
def test_other_layers_batches_of_matrices_included(make, name: str):
    torch.manual_seed(0)
    layer = make()
    other = copy.deepcopy(layer)
    before = getattr(layer, name).detach().clone()
    orthogonal(layer, name)
    weight = getattr(layer, name)
    parametrizations.orthogonal(other, name, "householder", use_trivialization=False)
    assert weight.shape == before.shape
    assert orthonormality(weight) <= tolerance(weight)
    assert distance(weight, getattr(other, name)) <= tolerance(weight)
    W = random_orthonormal(*weight.shape, seed=1).float()
    setattr(layer, name, W)
    assert distance(getattr(layer, name), W) <= tolerance(W)
    getattr(layer, name).square().sum().backward()
    assert layer.parametrizations[name].original.grad is not None


def test_use_in_a_forward_pass():
    torch.manual_seed(0)
    assert orthogonal(nn.Conv2d(2, 3, 3))(torch.randn(2, 2, 5, 5)).shape == (2, 3, 3, 3)
    assert orthogonal(nn.Bilinear(4, 5, 3))(torch.randn(2, 4), torch.randn(2, 5)).shape == (2, 3)
    cell = orthogonal(nn.RNNCell(3, 8), "weight_hh")
    x, h = torch.randn(2, 3), torch.randn(2, 8)
    pre = nn.functional.linear(x, cell.weight_ih, cell.bias_ih) + cell.bias_hh
    expected = torch.tanh(pre + h @ cell.weight_hh.mT)
    torch.testing.assert_close(cell(x, h), expected)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each W that is built."""
    calls: list[int] = []
    forward = Stiefel.forward

    def counted(self: Stiefel, reflectors: Tensor) -> Tensor:
        calls.append(1)
        return forward(self, reflectors)

    monkeypatch.setattr(Stiefel, "forward", counted)
    return calls


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [None, 3])
@pytest.mark.parametrize("shape", [(24, 24), (24, 9), (9, 24), (5, 3)])
def test_a_linear_layer_applies_the_reflectors_to_few_rows(
    shape: tuple[int, int], n: int | None, dtype: torch.dtype, built: list[int]
):
    layer = orthogonal(linear(*shape, dtype), n_reflectors=n)
    eps = max(shape) * torch.finfo(dtype).eps
    for size in [(), (1,), (0,), (2, 3), (200,)]:
        x = torch.randn(*size, shape[1], dtype=dtype, requires_grad=True)
        built.clear()
        found = layer(x)
        assert len(built) == ((n or min(shape)) > min(shape) / 2 and size == (200,))
        expected = nn.functional.linear(x, layer.weight, layer.bias)
        assert found.is_contiguous()
        torch.testing.assert_close(found, expected, rtol=0, atol=20 * eps)
        inputs, G = [x, *layer.parameters()], torch.randn_like(found)
        gradients = (torch.autograd.grad(y, inputs, G) for y in (found, expected))
        for a, b in zip(*gradients, strict=True):
            scale = max(1.0, b.norm().item())
            torch.testing.assert_close(a, b, rtol=0, atol=20 * eps * scale)


def test_a_linear_layer_builds_its_weight_where_more_than_reflectors_decide(built: list[int]):
    class Half(nn.Module):
        def forward(self, W: Tensor) -> Tensor:
            return W / 2

    x = torch.randn(2, 6)
    layer = orthogonal(linear(6, 6))
    half = parametrize.register_parametrization(orthogonal(linear(6, 6)), "weight", Half())
    hooked = copy.deepcopy(layer)
    hooked.parametrizations.weight[0].register_forward_hook(lambda *_: torch.eye(6))
    biased = parametrize.register_parametrization(orthogonal(linear(6, 6)), "bias", Half())
    built.clear()  # torch looks at what it registers
    expected = layer(x)
    assert not built
    torch.testing.assert_close(half(x) - half.bias, (expected - layer.bias) / 2)
    torch.testing.assert_close(hooked(x), x + layer.bias)
    assert len(built) == 2
    torch.testing.assert_close(biased(x), expected - layer.bias / 2)
    with parametrize.cached():
        layer(x), layer(x)
    assert len(built) == 3
    parametrize.remove_parametrizations(biased, "weight")
    torch.testing.assert_close(biased(x), expected - layer.bias / 2)
    assert "forward" not in vars(nn.Linear(2, 2))
    assert nn.Linear.forward is not type(layer).forward
    with pytest.raises(RuntimeError):  # as torch.nn.functional.linear says
        layer(torch.randn(2, 5))
    with pytest.raises(RuntimeError):
        layer(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        torch.testing.assert_close(layer(x).float(), expected, rtol=0.02, atol=0.02)


def test_buffers_can_be_parametrised():
    module = nn.Module()
    module.register_buffer("turn", torch.randn(4, 4))
    orthogonal(module, "turn")
    assert orthonormality(module.turn) <= tolerance(module.turn)
    assert not list(module.parameters())


@pytest.mark.parametrize(("rows", "columns", "n"), [*FEW, (5, 3, 5), (3, 5, 4), (1, 4, 3)])
def test_own_weight_is_assigned_back(rows: int, columns: int, n: int):
    """Forward after right_inverse is the identity, for whatever the layer can be."""
    layer = orthogonal(linear(rows, columns, torch.float64), n_reflectors=n)
    entry = layer.parametrizations.weight
    assert reflectors(layer).shape == (n, max(rows, columns))
    for trial in range(4):
        with torch.no_grad():
            entry.original.normal_()
            entry[0].signs[..., -1] = (-1) ** trial
        W = layer.weight.detach().clone()
        assert orthonormality(W) <= tolerance(W)
        layer.weight = W
        assert distance(layer.weight, W) <= tolerance(W)
        assert reflectors(layer).norm(dim=-1).min() >= 1 - tolerance(W)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", ["identity", "one flip", "swap", "tall identity", "wide identity"])
def test_few_reflectors_make_what_they_can(name: str, n: int):
    W = SPECIAL[name]
    layer = orthogonal(linear(*W.shape), n_reflectors=n)
    layer.weight = W
    assert distance(layer.weight, W) <= tolerance(W)
    assert reflectors(layer).norm(dim=-1).min() >= 1 - tolerance(W)


@pytest.mark.parametrize("angle", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("kind", ["nearly parallel", "nearly without effect"])
def test_few_reflectors_where_the_rank_is_hard_to_tell(kind: str, angle: float):
    generator = torch.Generator().manual_seed(0)
    V = torch.randn(4, 30, dtype=torch.float64, generator=generator)
    if kind == "nearly parallel":
        V[1:] = V[0] + angle * V[1:]
    else:
        V[:, :10] *= angle  # the thin weight hardly sees them
    W = apply_reflectors_reference(V, torch.eye(30, 10).double())
    layer = orthogonal(linear(30, 10, torch.float64), n_reflectors=4)
    layer.weight = W
    assert distance(layer.weight, W) <= tolerance(W)


def test_few_reflectors_say_what_they_cannot_make():
    layer = orthogonal(linear(8, 8), n_reflectors=3)
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"3 reflectors cannot make this 8×8 weight.*n_refl"):
        layer.weight = random_orthonormal(8, 8).float()
    assert torch.equal(layer.weight, before)
    batched = orthogonal(nn.Bilinear(4, 4, 3), n_reflectors=2)
    W = torch.eye(4).repeat(3, 1, 1)
    batched.weight = W
    assert distance(batched.weight, W) <= tolerance(W)
    W[1] = random_orthonormal(4, 4, seed=3).float()
    with pytest.raises(ValueError, match="cannot make"):
        batched.weight = W


def test_few_reflectors_start_where_they_can():
    """A random first weight is beyond few reflectors: its first reflectors are taken."""
    full, few = orthogonal(linear(20, 20)), orthogonal(linear(20, 20), n_reflectors=5)
    assert torch.equal(reflectors(few), reflectors(full)[:5])
    assert orthonormality(few.weight) <= tolerance(few.weight)
    # The columns already done are those of Q, up to sign.
    assert distance(few.weight[:, :5].abs(), full.weight[:, :5].abs()) <= tolerance(few.weight)
    layer = linear(20, 20)
    nn.init.eye_(layer.weight)
    assert distance(orthogonal(layer, n_reflectors=4).weight, torch.eye(20)) == 0


@pytest.mark.parametrize(
    "shape", [(4, 4), (5, 3), (3, 5), (2, 3, 3), (2, 4, 2), (2, 2, 4), (2, 1, 3, 2)]
)
def test_gradients(shape: tuple[int, ...]):
    module = nn.Module()
    torch.manual_seed(0)
    module.weight = nn.Parameter(torch.randn(*shape, dtype=torch.float64))
    orthogonal(module)
    entry = module.parametrizations.weight
    V = entry.original.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(entry[0], (V,))
    assert torch.autograd.gradgradcheck(entry[0], (V,))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_gradients_reach_the_loss_through_the_layer(n: int):
    layer = orthogonal(linear(5, 3, torch.float64), n_reflectors=n)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    V = layer.parametrizations.weight.original.detach().clone().requires_grad_()

    def run(x: Tensor, V: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"parametrizations.weight.original": V}, (x,))

    assert torch.autograd.gradcheck(run, (x, V))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("rows", "columns", "n"), [(24, 24, None), (40, 12, None), (12, 40, None), (24, 24, 6)]
)
def test_training_stays_on_the_manifold(rows: int, columns: int, n: int | None, optimizer: str):
    layer = orthogonal(linear(rows, columns), n_reflectors=n)
    start = layer.weight.detach().clone()
    opt = (
        torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.Adam(layer.parameters(), lr=1e-2)
    )
    x, y = torch.randn(64, columns), torch.randn(64, rows)
    losses = []
    for _ in range(100):
        opt.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert orthonormality(layer.weight) <= tolerance(layer.weight)
    assert distance(layer.weight, start) > 0.05
    assert losses[-1] < losses[0]
    assert reflectors(layer).norm(dim=-1).min() > 0.5


@pytest.mark.parametrize("start", ["identity", "random"])
@pytest.mark.parametrize(("shape", "det"), [((12, 12), 1), ((12, 12), -1), ((12, 5), None)])
def test_training_reaches_a_target(shape: tuple[int, int], det: int | None, start: str):
    target = random_orthonormal(*shape, seed=1, det=det)
    layer = linear(*shape, torch.float64)
    with torch.no_grad():
        first = torch.eye(*shape).double()
        if det == -1:
            first[-1, -1] = -1
        layer.weight.copy_(first if start == "identity" else random_orthonormal(*shape, det=det))
    orthogonal(layer)
    opt = torch.optim.Adam(layer.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 300)
    for _ in range(300):
        opt.zero_grad()
        loss = (layer.weight - target).square().sum()
        loss.backward()
        opt.step()
        schedule.step()
    # From 2·r or so down to the size of what 300 Adam steps leave.
    assert loss.item() < 1e-4
    if det is not None:
        assert torch.linalg.det(layer.weight).sign() == det


def test_first_gradients_of_all_reflectors_are_alive():
    for W in (torch.eye(8), torch.eye(8, 5), random_orthonormal(8, 8).float()):
        layer = orthogonal(linear(*W.shape))
        layer.weight = W
        torch.manual_seed(0)
        (layer.weight * torch.randn(W.shape)).sum().backward()
        grad = layer.parametrizations.weight.original.grad
        grad = grad.mT if W.shape[0] > W.shape[1] else grad
        assert grad.norm(dim=-1).min() > 1e-3


@pytest.mark.parametrize("n", [None, 3])
def test_state_dict_round_trip(n: int | None):
    layer = orthogonal(linear(6, 6), n_reflectors=n)
    if n is None:
        layer.weight = random_orthonormal(6, 6, seed=5).float()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = orthogonal(linear(6, 6, seed=9), n_reflectors=n)
    assert distance(fresh.weight, layer.weight) > 0.1
    fresh.load_state_dict(torch.load(file))
    assert torch.equal(fresh.weight, layer.weight)
    assert set(layer.state_dict()) == {
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0.signs",
    }


def test_deepcopy_is_independent():
    layer = orthogonal(linear(6, 4))
    twin = copy.deepcopy(layer)
    assert torch.equal(twin.weight, layer.weight)
    before = layer.weight.detach().clone()
    twin.weight = random_orthonormal(6, 4, seed=3).float()
    assert torch.equal(layer.weight, before)
    assert not torch.equal(twin.weight, before)


def test_to_another_dtype():
    layer = orthogonal(linear(20, 20))
    before = layer.weight.detach().clone()
    layer.double()
    assert layer.weight.dtype == torch.float64
    # Orthonormal to the new precision: the reflectors say it all.
    assert orthonormality(layer.weight) <= tolerance(layer.weight)
    assert distance(layer.weight, before) <= tolerance(before)
    layer.float()
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [None, 5])
def test_half_precision(dtype: torch.dtype, n: int | None):
    layer = orthogonal(linear(20, 12, dtype), n_reflectors=n)
    assert layer.weight.dtype == dtype
    # Computed in float32, then rounded by eps/2 of each entry: a product of two columns
    # of length one moves by 2·eps/2 at most, and a little of second order.
    eps = torch.finfo(dtype).eps
    assert orthonormality(layer.weight) <= 1.01 * eps
    W = layer.weight.detach().clone()
    layer.weight = W
    # Rounding turns a reflector by eps/2 at most, and H(v) moves by twice that; as much
    # again is left for the rounding of the entries of W.
    assert torch.linalg.matrix_norm((layer.weight - W).double(), 2) <= 2 * (n or 12) * eps


def test_autocast_leaves_the_weight_in_full_precision():
    layer = orthogonal(linear(150, 150))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = layer.weight
        loss = layer(torch.ones(2, 150)).float().square().sum()
    loss.backward()
    assert weight.dtype == torch.float32
    assert orthonormality(weight) <= tolerance(weight)


def test_weight_of_another_dtype_or_layout_is_assigned():
    layer = orthogonal(linear(6, 4))
    W = random_orthonormal(4, 6).mT  # float64 and not contiguous
    layer.weight = W
    assert layer.weight.dtype == torch.float32
    assert distance(layer.weight, W) <= tolerance(layer.weight)


def test_cached_computes_the_weight_once():
    layer = orthogonal(linear(5, 5))
    assert layer.weight is not layer.weight
    with parametrize.cached():
        assert layer.weight is layer.weight
        assert orthonormality(layer.weight) <= tolerance(layer.weight)


@pytest.mark.parametrize(("rows", "columns", "n"), [(5, 5, None), (6, 3, None), (3, 6, 2)])
def test_parametrisation_is_removed(rows: int, columns: int, n: int | None):
    layer = linear(rows, columns)
    parameter = layer.weight
    orthogonal(layer, n_reflectors=n)
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    W = layer.weight.detach().clone()
    assert parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True) is layer
    assert type(layer) is nn.Linear
    assert layer.weight is parameter  # an optimizer need not be told
    assert torch.equal(layer.weight, W)
    layer(torch.ones(1, columns)).sum().backward()


def test_gradients_of_another_shape_are_dropped():
    layer = linear(6, 6)
    layer(torch.ones(1, 6)).sum().backward()
    orthogonal(layer, n_reflectors=2)
    layer(torch.ones(1, 6)).sum().backward()
    assert layer.parametrizations.weight.original.grad.shape == (2, 6)


def test_frozen_weights_stay_frozen():
    layer = linear(4, 4)
    layer.weight.requires_grad_(False)
    orthogonal(layer)
    assert not layer.parametrizations.weight.original.requires_grad
    assert not layer.weight.requires_grad


def test_composes_with_a_parametrisation_before_and_after_it():
    class Half(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight / 2

    layer = orthogonal(linear(5, 3))
    parametrize.register_parametrization(layer, "weight", Half())
    assert orthonormality(2 * layer.weight) <= tolerance(layer.weight)
    layer = linear(5, 3)
    parametrize.register_parametrization(layer, "weight", Half())
    assert orthonormality(orthogonal(layer).weight) <= tolerance(layer.weight)
    layer = linear(5, 3)
    parametrize.register_parametrization(layer, "weight", Half())
    with pytest.raises(ValueError, match=r"parametrised already.*remove_parametrizations"):
        orthogonal(layer, n_reflectors=2)


def test_ensembles_by_vmap():
    layers = [orthogonal(linear(5, 3, seed=s)) for s in range(3)]
    states = [layer.state_dict() for layer in layers]
    stacked = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    x = torch.randn(4, 3)
    out = torch.func.vmap(lambda s: torch.func.functional_call(layers[0], s, (x,)))(stacked)
    expected = torch.stack([layer(x) for layer in layers])
    torch.testing.assert_close(out, expected)


def test_registers_without_data():
    layer = orthogonal(nn.Linear(5, 8, device="meta"))
    layer.to_empty(device="cpu").load_state_dict(orthogonal(linear(8, 5)).state_dict())
    assert orthonormality(layer.weight) <= tolerance(layer.weight)
    assert orthogonal(nn.Linear(5, 8, device="meta"), n_reflectors=2).bias.is_meta


def test_reads_well():
    layer = orthogonal(linear(8, 5), n_reflectors=3)
    assert "(0): Stiefel(shape=(8, 5), n_reflectors=3)" in repr(layer)
    assert repr(layer).startswith("ParametrizedLinear(")


def test_wrong_tensors_are_refused():
    layer = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"Linear has no parameter or buffer named 'wieght'"):
        orthogonal(layer, "wieght")
    with pytest.raises(ValueError, match="Expected a matrix or batch of matrices"):
        orthogonal(layer, "bias")
    with pytest.raises(ValueError, match=r"Expected a matrix.*none of them 0"):
        orthogonal(nn.ParameterDict({"w": torch.empty(0, 3)}), "w")
    module = nn.Module()
    module.register_buffer("count", torch.ones(3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="int64: convert it"):
        orthogonal(module, "count")
    with pytest.raises(ValueError, match="run the lazy module once"):
        orthogonal(nn.LazyLinear(3))
    assert not parametrize.is_parametrized(layer)


@pytest.mark.parametrize("n", [0, -1, 5, 2.0, "3"])
def test_wrong_numbers_of_reflectors_are_refused(n: object):
    layer = nn.Linear(3, 4)
    with pytest.raises(ValueError, match="whole number from 1 to 4 for matrices of 4×3"):
        orthogonal(layer, n_reflectors=n)
    assert not parametrize.is_parametrized(layer)


def test_wrong_assignments_are_refused_and_change_nothing():
    layer = orthogonal(linear(4, 3))
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"matrices of shape \(4, 3\), got \(5, 5\)"):
        layer.weight = torch.randn(5, 5)
    with pytest.raises(ValueError, match="infinite or NaN"):
        layer.weight = torch.full((4, 3), float("nan"))
    with pytest.raises(ValueError, match="complex64"):
        layer.weight = torch.randn(4, 3, dtype=torch.complex64)
    assert torch.equal(layer.weight, before)
