"""What every method in ``conf/orthogonal`` must do; adding a YAML adds it to these tests."""

import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from svdbench import kernels
from svdbench.jobs.time_fasth.methods.base import Method
from svdbench.measure.algorithm import Flops, Problem
from svdbench.members import METHODS

NAMES = METHODS.names()
SIZES = [(24, 24, 5), (17, 17, 5), (16, 7, 5), (9, 20, 3)]  # d, n, m
QUICK: dict[str, dict[str, Any]] = {"fasth": {"tune": False}}  # a test of its own tunes


def load(name: str) -> Method:
    return METHODS.load(name, **QUICK.get(name, {}))


def ready(
    name: str, d: int, n: int, m: int, dtype: torch.dtype = torch.float32, zero_row: bool = False
) -> tuple[Method, Tensor, Tensor]:
    """A prepared method with its raw parameter and X; skips where the method does."""
    method = load(name)
    if reason := method.skip(Problem(d=d, n=n, m=m, dtype=dtype)):
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(0)
    V = torch.randn(n, d, generator=generator, dtype=torch.float64)
    X = torch.randn(d, m, generator=generator, dtype=torch.float64)
    if zero_row:
        V[n // 2] = 0
    V, X = method.parameter(V.to(dtype)), X.to(dtype)
    method.prepare(V, X)
    return method, V, X


def with_gradients(f: Any, V: Tensor, X: Tensor, G: Tensor) -> tuple[Tensor, ...]:
    V, X = V.clone().requires_grad_(), X.clone().requires_grad_()
    out = f(V, X)
    return out, *torch.autograd.grad(out, (V, X), G)


def assert_close_to_reference(method: Method, V: Tensor, X: Tensor) -> None:
    """φ(V) X and both gradients within c·n·eps of the reference in float64.

    n orthogonal factors, each with a relative error of a few eps, add up to at
    most a small multiple of n·eps; in the Frobenius norm, relative to the result.
    (c = 10 is for the gradient of the exponential, which squares a matrix made
    long by the incoming gradient; all others stay below n·eps.)
    """
    G = torch.randn(X.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = with_gradients(method.apply, V, X, G.to(V.dtype))
    exact = with_gradients(method.reference, V.double(), X.double(), G.to(V.dtype).double())
    bound = 10 * max(V.shape) * torch.finfo(V.dtype).eps
    for what, a, b in zip(("product", "gradient in V", "gradient in X"), ours, exact, strict=True):
        assert a.shape == b.shape, what
        assert a.dtype == V.dtype, what
        error = ((a.double() - b).norm() / b.norm()).item()
        assert error <= bound, f"{what}: relative error {error:.2e} > {bound:.2e}"


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str) -> None:
    with initialize_config_module("svdbench.conf", version_base=None):
        config = compose(overrides=[f"+orthogonal={name}"]).orthogonal
    assert type(METHODS.load(name, **config)).name == name
    text = (files("svdbench.conf") / "orthogonal" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")

    method = load(name)
    assert method.builds in ("QX", "Q")
    for attribute in ("kind", "gradients", "source"):
        assert getattr(method, attribute).strip()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "n", "m"), SIZES)
def test_agrees_with_its_reference(name: str, d: int, n: int, m: int, dtype: torch.dtype) -> None:
    assert_close_to_reference(*ready(name, d, n, m, dtype))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [24, 17])
def test_is_orthogonal(name: str, d: int) -> None:
    method, V, _ = ready(name, d, d, d)
    Q = method.apply(V, torch.eye(d)).double()
    assert (Q.T @ Q - torch.eye(d)).norm() <= 4 * d * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str) -> None:
    method, V, X = ready(name, 6, 6, 2, torch.float64)
    assert torch.autograd.gradcheck(method.apply, (V.requires_grad_(), X.requires_grad_()))


@pytest.mark.parametrize("name", NAMES)
def test_leaves_its_inputs_alone_and_repeats(name: str) -> None:
    method, V, X = ready(name, 12, 12, 3)
    G = torch.randn(3, 12).T  # not contiguous
    before = V.clone(), X.clone(), G.clone()
    first = with_gradients(method.apply, V, X, G)
    again = with_gradients(method.apply, V, X.T.contiguous().T, G)
    assert all(torch.equal(a, b) for a, b in zip((V, X, G), before, strict=True))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if load(n).kind in ("householder", "sequential")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_row_is_the_identity(name: str, dtype: torch.dtype) -> None:
    method, V, X = ready(name, 12, 10, 3, dtype, zero_row=True)
    assert_close_to_reference(method, V, X)
    _, dV, _ = with_gradients(method.apply, V, X, torch.ones_like(X))
    assert dV[5].eq(0).all()


@pytest.mark.parametrize(
    "name", [n for n in NAMES if load(n).kind in ("householder", "sequential")]
)
@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_length_of_a_row_does_not_matter(name: str, length: float) -> None:
    method, V, X = ready(name, 12, 10, 3)
    V[4] *= length
    G = torch.ones_like(X)
    out, dV, dX = with_gradients(method.apply, V, X, G)
    plain, dV_plain, dX_plain = with_gradients(method.reference, V.double(), X.double(), G.double())
    torch.testing.assert_close(out.double(), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dX.double(), dX_plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dV[4].double() * length, dV_plain[4] * length, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("d", "n", "m"), SIZES)
def test_counts_flops(name: str, d: int, n: int, m: int) -> None:
    method, problem = load(name), Problem(d=d, n=n, m=m)
    if reason := method.skip(problem):
        assert len(reason.split()) > 3
        return
    flops, wider = method.flops(problem), method.flops(Problem(d=d, n=n, m=2 * m))
    assert isinstance(flops, Flops)
    assert 0 < flops.forward < flops.step
    assert wider.forward > flops.forward
    assert wider.backward > flops.backward


@pytest.mark.parametrize("name", [n for n in NAMES if load(n).builds == "QX"])
def test_at_least_the_floor(name: str) -> None:
    """Reflector products can't do with less than 12ndm, up to LAPACK's zeros."""
    problem = Problem(d=512, n=512, m=32)
    method = load(name)
    least = 12 * problem.n * problem.d * problem.m
    assert method.flops(problem).step >= (least if method.kind != "reflectors" else least / 2)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_runs_or_says_why_not(name: str) -> None:
    method, V, X = ready(name, 12, 12, 3, torch.bfloat16)
    out = with_gradients(method.apply, V, X, torch.ones_like(X))
    assert all(t.dtype == torch.bfloat16 and t.isfinite().all() for t in out)


@pytest.mark.parametrize("name", [n for n in NAMES if load(n).skip(Problem(d=16, n=7, m=5))])
def test_reasons_to_skip_are_sentences(name: str) -> None:
    reason = load(name).skip(Problem(d=16, n=7, m=5))
    assert reason is not None
    assert len(reason.split()) > 3
    assert "\n" not in reason


@pytest.mark.parametrize("name", ["torch_matrix_exp", "torch_cayley", "torch_householder_map"])
def test_same_as_the_parametrisation_on_a_module(name: str) -> None:
    method, V, X = ready(name, 11, 11, 4)
    layer: Any = nn.Linear(11, 11, bias=False)
    kind = name.removeprefix("torch_").removesuffix("_map")
    orthogonal(layer, orthogonal_map=kind, use_trivialization=False)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(V)
    G = torch.randn_like(X)
    out, dV, _ = with_gradients(method.apply, V, X, G)
    (layer.weight @ X).backward(G)
    torch.testing.assert_close(out, layer.weight.detach() @ X)
    torch.testing.assert_close(dV, layer.parametrizations.weight.original.grad)


def test_geotorch_same_as_on_a_module() -> None:
    method, V, X = ready("geotorch", 11, 11, 4)
    import geotorch

    layer: Any = nn.Linear(11, 11, bias=False)
    geotorch.orthogonal(layer, "weight")
    layer.weight = torch.eye(11)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(V)
    torch.testing.assert_close(method.apply(V, X), layer.weight.detach() @ X)


def test_missing_peers_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svdbench.measure.costs.find_spec", lambda module: None)
    for name in ("geotorch", "torch_householder"):
        reason = load(name).skip(Problem(d=8, n=8, m=2))
        assert reason is not None
        assert reason.endswith("is not installed (pip install 'svdbench[peers]')")


def test_broken_peers_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> None:
        raise RuntimeError("undefined symbol\nand more")

    monkeypatch.setattr("svdbench.measure.costs.find_spec", lambda module: object())
    monkeypatch.setattr("svdbench.measure.costs.import_module", broken)
    reason = load("torch_householder").skip(Problem(d=8, n=8, m=2))
    assert reason is not None
    assert reason.endswith(f"does not import with torch {torch.__version__}: undefined symbol")


def test_fasth_tunes_only_where_it_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned: list[tuple[int, ...]] = []
    monkeypatch.setattr(kernels, "tune", lambda V, X, again, keep: tuned.append(tuple(V.shape)))
    V, X = torch.randn(6, 8), torch.randn(8, 2)
    METHODS.load("fasth", block_size=4).prepare(V, X)
    METHODS.load("fasth", tune=False).prepare(V, X)
    assert tuned == []
    METHODS.load("fasth").prepare(V, X)
    assert tuned == [(6, 8)]


@pytest.mark.parametrize("name", ["fasth", "fasthpp"])
@pytest.mark.parametrize("block_size", [1, 2, 8, 64])
def test_any_block_size_gives_the_same(name: str, block_size: int) -> None:
    method = METHODS.load(name, block_size=block_size)
    V, X = torch.randn(13, 10), torch.randn(10, 4)
    assert_close_to_reference(method, V, X)


def test_fasthpp_merges_powers_of_two() -> None:
    with pytest.raises(ValueError, match="block_size must be 2ⁱ, not 12"):
        METHODS.load("fasthpp", block_size=12)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["fasthpp", "sequential", "parallel"])
def test_few_reflectors(name: str, n: int) -> None:
    assert_close_to_reference(METHODS.load(name), torch.randn(n, 6), torch.randn(6, 3))


def test_sequential_can_go_back_twice() -> None:
    V, X = torch.randn(5, 6, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    out = METHODS.load("sequential").apply(V, X).sum()
    first = torch.autograd.grad(out, (V, X), retain_graph=True)
    again = torch.autograd.grad(out, (V, X))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_parallel_says_how_much_memory_it_lacks() -> None:
    method = METHODS.load("parallel", max_bytes=1e9)
    assert method.skip(Problem(d=64, n=64, m=4)) is None
    reason = method.skip(Problem(d=1024, n=1024, m=4))
    assert reason is not None
    assert "needs 6.4 GB at d = 1024, n = 1024" in reason


def test_names_are_listed_without_torch() -> None:
    code = (
        "import sys; from svdbench.members import METHODS\n"
        "assert METHODS.names() == sorted(METHODS.names()) and 'fasth' in METHODS.names()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_peers_are_imported_late() -> None:
    code = (
        "import sys; from svdbench.members import METHODS\n"
        "for name in METHODS.names(): METHODS.load(name)\n"
        "assert not {'geotorch', 'torch_householder'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "fastth",
            {},
            "no orthogonal method is called 'fastth': did you mean 'fasth'? known: cayley",
        ),
        ("xyz", {}, "no orthogonal method is called 'xyz': known: cayley"),
        (
            "fasth",
            {"blocksize": 3},
            "no option of fasth is called 'blocksize': did you mean 'block",
        ),
        ("cwy", {"a": 1}, "no option of cwy is called 'a': known: none"),
    ],
)
def test_unknown_names(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        METHODS.load(name, **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_capitals_and_hyphens_do_not_matter() -> None:
    assert type(METHODS.load("FastH")) is type(METHODS.load("fasth"))
    assert type(METHODS.load("torch-cayley")) is type(METHODS.load("torch_cayley"))


def test_a_class_that_a_file_names_is_not_imported() -> None:
    """Runs of version 0.1 name a class in ``_target_``; it is ignored, whatever it is."""
    made = METHODS.load("fasth", _target_="os.system", block_size=8)
    assert type(made) is METHODS.class_of("fasth")
    assert made.block_size == 8
