"""The curvature of a loss at a model's output, and what is predicted from it at the minimum."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.lowrank import compress, example_losses, rank_frontier
from svdbench.lowrank.layers.weights import factorable_weights
from svdbench.lowrank.losses import Distillation, usual_loss
from svdbench.lowrank.ranks.curvature import Curvature
from svdbench.lowrank.ranks.effects import BUDGET, _some, best_scales
from svdbench.lowrank.ranks.examples import DataWarning
from svdbench.lowrank.ranks.moments import calibrate
from svdbench.lowrank.ranks.outputs import TeacherData

Loss = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def _few_examples() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def weighted(output: Tensor, target: Tensor) -> Tensor:
    """A loss that no closed form is known for."""
    return F.cross_entropy(output, target, label_smoothing=0.1)


def log_cosh(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).cosh().log().mean()


def fourth(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).pow(4).mean()


IGNORED = torch.tensor([[2, -100, 0], [1, 1, -100]])
CASES: dict[str, tuple[Loss, tuple[int, ...], Any, str]] = {
    "classes": (usual_loss, (2, 5), torch.tensor([3, 0]), "ggn"),
    "torch": (F.cross_entropy, (2, 5), torch.tensor([3, 0]), "ggn"),
    "module": (nn.CrossEntropyLoss(), (2, 5), torch.tensor([3, 0]), "ggn"),
    "tokens": (usual_loss, (2, 3, 3), IGNORED, "ggn"),
    "torch, square": (F.cross_entropy, (2, 3, 3), torch.tensor([[2, 0, 1], [1, 1, 0]]), "ggn"),
    "probabilities": (F.cross_entropy, (2, 3), torch.tensor([[0.2, 0.8, 0], [1, 1, 0]]), "ggn"),
    "pixels": (usual_loss, (2, 4, 2), torch.tensor([[0, 3], [1, 2]]), "ggn"),
    "binary": (usual_loss, (2, 3, 1), torch.tensor([[0, 1, 1], [1, 0, 0]]), "ggn"),
    "numbers": (usual_loss, (2, 4), "other", "ggn"),
    "mse": (nn.MSELoss(), (2, 4), "other", "ggn"),
    "cosine": (Distillation("cosine"), (2, 4), "own", "ggn"),
    "cosine of tokens": (Distillation("cosine"), (2, 2, 3), "own", "ggn"),
    "distilled numbers": (Distillation("mse"), (2, 4), "own", "ggn"),
    "kl": (Distillation("kl"), (2, 5), "other", "ggn"),
    "kl, warm": (Distillation("kl", 3.0), (2, 2, 3), "other", "ggn"),
    "smoothed": (weighted, (2, 5), torch.tensor([3, 0]), "ggn-lanczos"),
    "fourth powers": (fourth, (2, 4), "other", "ggn-lanczos"),
    "smoothed module": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3, 4, 5]).double()),
        (2, 5), torch.tensor([3, 0]), "ggn-lanczos",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_directions_have_the_hessian_as_their_second_moment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all signs that there are, and so exactly: at each example's output, and of no two."""
    loss, shape, target, used = CASES[name]
    output = torch.randn(shape, dtype=torch.float64)
    y = {"own": output.clone(), "other": torch.randn(shape, dtype=torch.float64)}.get(
        target if isinstance(target, str) else "", target
    )
    curvature, found = Curvature(loss), []
    assert curvature.used == ""
    leaf = output.clone().requires_grad_()
    n = output[0].numel()
    for signs in product([-1.0, 1.0], repeat=n):
        both = torch.tensor(signs, dtype=torch.float64).expand(2, n).reshape(shape)
        monkeypatch.setattr(curvature, "_signs", lambda like, both=both: both)
        if not curvature.used:
            curvature.used = curvature._decided(leaf, y, 2)
        ((tensor, v),) = curvature._draw(curvature.used, leaf, y, 2)
        assert tensor is leaf
        found.append(v.reshape(2, n))
    assert curvature.used == used
    V = torch.stack(found)
    H = torch.autograd.functional.hessian(lambda o: 2 * loss(o, y), output).reshape(2, n, 2, n)
    for i in (0, 1):
        torch.testing.assert_close(V[:, i].T @ V[:, i] / len(V), H[i, :, i], rtol=1e-7, atol=1e-9)
        assert not H[i, :, 1 - i].any()


def test_signs_are_independent_and_come_again() -> None:
    curvature = Curvature(usual_loss, seed=3)
    drawn = curvature._signs(torch.zeros(20_000, 3))
    assert drawn.abs().eq(1).all()
    torch.testing.assert_close(drawn.T @ drawn / 20_000, torch.eye(3), rtol=0, atol=0.03)
    curvature.restart()
    assert torch.equal(curvature._signs(torch.zeros(20_000, 3)), drawn)


def test_lanczos_drops_what_curves_down() -> None:
    def saddle(output: Tensor, target: Tensor) -> Tensor:
        return (output[:, 0].square() - 3 * output[:, 1].square()).mean()

    output = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    curvature = Curvature(saddle)
    curvature.used = curvature._decided(output, output.detach(), 4)
    assert curvature.used == "ggn-lanczos"
    ((_, v),) = curvature._draw("ggn-lanczos", output, output.detach(), 4)
    # (1, ±1)/√2 in the eigenvectors: the first only, √2 of it.
    torch.testing.assert_close(v.abs(), torch.tensor([2**0.5, 0.0]).double().expand(4, 2))


def test_a_loss_that_compares_examples_has_one_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(output: Tensor, target: Tensor) -> Tensor:
        """Of each pair of neighbours; no mean over examples."""
        return (output[1:] - output[:-1]).square().sum() / len(output)

    output = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    curvature, found = Curvature(spread), []
    for signs in product([-1.0, 1.0], repeat=6):
        z = torch.tensor(signs, dtype=torch.float64).reshape(3, 2)
        monkeypatch.setattr(curvature, "_signs", lambda like, z=z: z)
        ((_, v),) = curvature._draw("ggn-lanczos", output, None, 3)
        found.append(v.flatten())
    V = torch.stack(found)
    whole = lambda o: 3 * spread(o, o)  # noqa: E731
    H = torch.autograd.functional.hessian(whole, output.detach()).reshape(6, 6)
    torch.testing.assert_close(V.T @ V / len(V), H, rtol=1e-7, atol=1e-7)


def test_examples_without_a_target_are_counted() -> None:
    model, x = network(), torch.randn(20, 6)
    y = torch.randint(3, (20,))
    y[:3] = -100
    with pytest.raises(ValueError, match="3 of 20 calibration examples have no target"):
        rank_frontier(model, (x, y), usual_loss)
    nothing = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8))
    with pytest.raises(ValueError, match="neither a gradient nor a curvature"):
        rank_frontier(nothing, (x, y), lambda output, target: (0 * output).sum())


@dataclass
class Answer:
    """What a model may return besides a tensor."""

    numbers: Tensor
    unused: Tensor | None = None


@pytest.mark.parametrize("kind", ["dataclass", "dict", "tuple"])
def test_a_loss_of_a_structure_is_differentiated_at_its_tensors(kind: str) -> None:
    output = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    hidden = output * 2  # on the way to nothing
    whole: Any = {
        "dataclass": Answer(output, hidden),
        "dict": {"numbers": output, "hidden": hidden, "cache": None},
        "tuple": (output, hidden),
    }[kind]

    def loss(found: Any, target: Tensor) -> Tensor:
        part = found.numbers if kind == "dataclass" else found["numbers" if kind == "dict" else 0]
        return (part - target).pow(2).mean()

    curvature = Curvature(loss)
    curvature.used = curvature._decided(whole, torch.zeros(3, 4).double(), 3)
    ((tensor, v),) = curvature._draw(curvature.used, whole, torch.zeros(3, 4).double(), 3)
    assert tensor is output
    torch.testing.assert_close(v.square(), torch.full_like(v, 0.5))
    assert (whole.numbers if kind == "dataclass" else output) is output


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("loss", "directions", "most"),
    [(usual_loss, 1000, 0.08), (Distillation("cosine"), 1000, 0.08), (weighted, 100, 0.2)],
)
def test_moments_are_those_of_the_gauss_newton_matrix(
    loss: Loss, directions: int, most: float
) -> None:
    """JᵀHJ of each layer's output, by the full Jacobians of a small network."""
    model = network().double()
    x = torch.randn(5, 6, dtype=torch.float64)
    y = torch.randint(3, (5,))
    sites, _ = factorable_weights(model)
    curvature = Curvature(loss, directions=directions)
    found = dict(calibrate(model, (x, y), loss, sites, curvature=curvature))
    for at, site in zip((0, 2, 4), sites, strict=True):
        total = torch.zeros(len(site.matrix), len(site.matrix), dtype=torch.float64)
        for one, target in zip(x, y, strict=True):
            z = model[: at + 1](one).detach()
            rest = model[at + 1 :]
            J = torch.autograd.functional.jacobian(rest, z) if at < 4 else torch.eye(3).double()
            out = rest(z).detach()
            own = out.unsqueeze(0) if isinstance(loss, Distillation) else target.unsqueeze(0)
            H = torch.autograd.functional.hessian(lambda o: loss(o.unsqueeze(0), own), out)
            total += J.T @ H @ J / len(x)
        (moments,) = found[site]
        W = site.matrix
        tall = len(W) > W.shape[1]
        expected = W.T @ total @ W if tall else total
        G = moments.long if tall else moments.short
        assert G is not None
        error = float((G - expected).norm() / expected.norm())
        assert error < most, site.name


@pytest.mark.parametrize(
    "loss",
    [Distillation("cosine"), Distillation("mse"), Distillation("kl", 2.0), F.mse_loss, log_cosh],
)
def test_the_prediction_at_the_minimum_is_the_true_increase(loss: Loss) -> None:
    """Never zero, and close where little is left out; the targets are the model's own outputs."""
    model = network().double()
    x = torch.randn(400, 6, dtype=torch.float64)
    with torch.no_grad():
        y = model(x)
    frontier = rank_frontier(model, (x, y), loss, damping=1e-6)
    assert frontier.curvature == ("ggn-lanczos" if loss is log_cosh else "ggn")
    for name, rank in (("0.weight", 3), ("2.weight", 3)):
        ranks = {name: rank}
        small = frontier.compressed(model, ranks)
        after, before = (example_losses(each, (x, y), loss) for each in (small, model))
        true = float((after - before).mean())
        predicted = frontier.predicted_loss(ranks)
        assert predicted > 1e-6
        assert 0.4 < predicted / true < 2.5, name


def test_a_loss_without_curvature_says_so() -> None:
    model, x = network(), torch.randn(50, 6)
    y = torch.randn(50, 3)
    assert rank_frontier(model, (x, y), F.l1_loss).curvature == "fisher"
    with pytest.raises(ValueError, match="no curvature at the model's output"):
        rank_frontier(model, (x, y), F.l1_loss, curvature="ggn")
    with pytest.raises(ValueError, match="gradients of a distillation are zero"):
        rank_frontier(model, (x, y), Distillation(), curvature="fisher")
    with pytest.raises(ValueError, match="curvature"):
        rank_frontier(model, (x, y), F.l1_loss, curvature="hessian")  # type: ignore[arg-type]
    assert rank_frontier(model, (x, y), F.l1_loss, kind="whitened").curvature == ""


@pytest.mark.parametrize("kind", ["cosine", "mse", "kl"])
@pytest.mark.parametrize("labelled", [False, True])
def test_compress_by_distillation_needs_no_labels(kind: Any, labelled: bool) -> None:
    model, x = network(), torch.randn(400, 6)
    loss = Distillation(kind)
    data = (x, torch.zeros(400)) if labelled else x
    found = compress(model, data, loss=loss, params=0.7, timing_s=0)
    assert found.curvature == "ggn"
    assert found.certificate.held_out is not None
    assert found.certificate.held_out.dense == pytest.approx(0, abs=1e-6)
    assert found.certificate.held_out.mean > 0
    with torch.no_grad():
        true = loss(found.model(x), model(x))
    assert found.certificate.held_out.mean == pytest.approx(float(true), rel=0.5)


def test_the_teacher_is_asked_once_for_the_same_inputs() -> None:
    model, x = network(), torch.randn(30, 6)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    data = [(part, torch.zeros(len(part))) for part in x.split(10)]
    taught = TeacherData(data, model)
    first = list(taught)
    data.reverse()
    again = list(taught)
    assert len(calls) == 3
    for (a, y), (b, z) in zip(first, again[::-1], strict=True):
        assert torch.equal(a, b)
        assert torch.equal(y, z)
    assert len(list(TeacherData(data, model, kept=0))) == 3
    assert len(calls) == 6


def test_distillation_is_zero_at_the_teacher_and_fits_its_output() -> None:
    output = torch.randn(4, 5)
    for each in (Distillation("cosine"), Distillation("mse"), Distillation("kl", 2.0)):
        assert float(each(output, output)) == pytest.approx(0, abs=1e-6)
        assert float(each(output, output + torch.randn(4, 5))) > 0
    masked = output.clone()
    masked[:, 0] = -torch.inf
    assert float(Distillation("kl")(masked, masked)) == 0
    assert Distillation.fitting(output).kind == "cosine"
    assert Distillation.fitting(output, torch.zeros(4).long(), 2.0).temperature == 2
    assert Distillation.fitting({"logits": output}).kind == "kl"
    assert Distillation.fitting(torch.randn(2, 3, 4, 4)).kind == "mse"
    for wrong in ({"kind": "angle"}, {"temperature": 0, "kind": "kl"}, {"temperature": 2.0}):
        with pytest.raises(ValueError, match=r"distillation|temperature"):
            Distillation(**wrong)
    with pytest.raises(ValueError, match="differ in shape"):
        Distillation()(output, output[:, :3])


@pytest.mark.parametrize("loss", [usual_loss, Distillation("kl"), log_cosh, F.l1_loss])
def test_weights_are_scaled_to_what_each_alone_was_measured_to_do(loss: Loss) -> None:
    model = network().double()
    x = torch.randn(300, 6, dtype=torch.float64)
    y = torch.randint(3, (300,)) if loss is usual_loss else torch.randn(300, 3).double()
    frontier = rank_frontier(model, (x, y), loss)
    raw = rank_frontier(model, (x, y), loss, effects=False)
    assert not raw.scales
    assert set(frontier.scales) == set(frontier.layers)
    for name, scale in frontier.scales.items():
        ranks = {name: 1}
        assert frontier.predicted_loss(ranks) == pytest.approx(scale * raw.predicted_loss(ranks))
        assert scale > 0
    assert frontier.points.losses[0] == pytest.approx(
        frontier.predicted_loss(dict.fromkeys(frontier.layers, 1)), rel=1e-6
    )
    # Data that is gone after one pass can't be measured on.
    assert not rank_frontier(model, iter([(x, y)]), loss).scales


def test_the_scale_makes_the_prediction_that_of_the_quadratic_model() -> None:
    model = network().double()
    x = torch.randn(300, 6, dtype=torch.float64)
    frontier = rank_frontier(model, x, Distillation("mse"), directions=16)
    for name in ("0.weight", "2.weight"):
        ranks = {name: 1}  # a quarter of the highest rank is 1, too
        with torch.no_grad():
            true = float((frontier.view(model, ranks)(x) - model(x)).square().mean())
        assert frontier.predicted_loss(ranks) == pytest.approx(true, rel=0.25)


def test_scales_that_make_the_ranks_worse_are_left_out() -> None:
    """As of a network whose outputs saturate: weights that alone do little may do much together."""
    first, second, last = nn.Linear(40, 60), nn.Linear(60, 40), nn.Linear(40, 3)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).double()
    x = torch.randn(200, 40, dtype=torch.float64)
    loss = Distillation("mse")
    frontier = rank_frontier(model, x, loss, effects=False)
    some = _some(model, x, Curvature(loss, "auto", 4), 200)
    lost = {}
    for cheap in frontier.layers:
        scales = {name: 1e-6 if name == cheap else 1.0 for name in frontier.layers}
        chosen = best_scales(frontier, model, some, scales)
        lost[cheap] = [
            some[0].lost(
                frontier.view(model, replace(frontier, scales=each).ranks(fraction=BUDGET))
            )
            for each in (chosen, scales, {})
        ]
    assert all(chosen <= min(others) for chosen, *others in lost.values())
    assert any(given > chosen for chosen, given, _ in lost.values())
