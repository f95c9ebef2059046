"""Functions of a matrix through its factors, and every way to compute them that is timed."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from command import assert_mistake, run, table
from hydra import compose, initialize_config_module
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from svdbench.jobs.time_svd_ops import TimeSvdOps, operation_names, operation_of
from svdbench.jobs.time_svd_ops.operations import MatrixOp
from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.algorithm import Flops, Problem
from svdbench.measure.gate import check
from svdbench.members import OPERATIONS
from svdbench.nn import factored

NAMES = OPERATIONS.names()
FACTORED = [name for name in NAMES if name.endswith("_svd")]
F64 = torch.float64


def load(name: str) -> MatrixOp:
    method: MatrixOp = OPERATIONS.load(name, **({"tune": False} if name in FACTORED else {}))
    return method


def factors(d: int, n: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V in float64 with s within [0.5, 1.5]."""
    U, V = torch.randn(2, n or d, d, dtype=F64).unbind()
    return U, 0.5 + torch.rand(d, dtype=F64), V


def dense(U: Tensor, s: Tensor, V: Tensor) -> Tensor:
    """W = U Σ Vᵀ by plain products of plain reflections; rectangular too."""
    left = apply_reflectors_reference(U, torch.eye(U.shape[-1], dtype=U.dtype))
    right = apply_reflectors_reference(V, torch.eye(V.shape[-1], dtype=V.dtype))
    r = s.shape[-1]
    return left[:, :r] @ torch.diag(s) @ right[:, :r].T


def exact(operation: str, W: Tensor, X: Tensor) -> tuple[Tensor, ...]:
    """What each operation means, on W itself."""
    eye = torch.eye(len(W), dtype=W.dtype)
    if operation == "logdet":
        return W @ X, torch.linalg.slogdet(W).logabsdet
    answers = {
        "inverse": lambda: torch.linalg.inv(W) @ X,
        "exp": lambda: torch.matrix_exp(W) @ X,
        "cayley": lambda: (eye - W) @ torch.linalg.inv(eye + W) @ X,
    }
    return (answers[operation](),)


def each(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


# ------------------------------------------------------------------ the functions


def test_the_functions_are_those_of_the_dense_matrix() -> None:
    U, s, V = factors(9, 7)
    X = torch.randn(9, 4, dtype=F64)
    W, S = dense(U, s, V), dense(U, s, U)
    torch.testing.assert_close(factored.apply(U, s, V, X), W @ X)
    torch.testing.assert_close(factored.inverse_apply(U, s, V, X), exact("inverse", W, X)[0])
    torch.testing.assert_close(factored.exp_apply(U, s, X), exact("exp", S, X)[0])
    torch.testing.assert_close(factored.cayley_apply(U, s, X), exact("cayley", S, X)[0])


@pytest.mark.parametrize("zero_rows", [0, 1, 2, 5])
@pytest.mark.parametrize("flipped", [0, 1, 2])
def test_slogdet_has_the_sign_of_the_dense_matrix(zero_rows: int, flipped: int) -> None:
    U, s, V = factors(6, 5)
    U[:zero_rows] = 0
    s[:flipped] *= -1
    ours, theirs = factored.slogdet(U, s, V), torch.linalg.slogdet(dense(U, s, V))
    assert ours.sign == theirs.sign
    torch.testing.assert_close(ours.logabsdet, theirs.logabsdet)


@pytest.mark.parametrize(("rows", "columns"), [(7, 4), (4, 7)])
def test_rectangular_matrices_and_their_pseudo_inverse(rows: int, columns: int) -> None:
    U, V = torch.randn(rows, rows, dtype=F64), torch.randn(columns, columns, dtype=F64)
    s = 0.5 + torch.rand(min(rows, columns), dtype=F64)
    W = dense(U, s, V)
    X, Y = torch.randn(columns, 3, dtype=F64), torch.randn(rows, 3, dtype=F64)
    torch.testing.assert_close(factored.apply(U, s, V, X), W @ X)
    torch.testing.assert_close(factored.inverse_apply(U, s, V, Y), torch.linalg.pinv(W) @ Y)


def test_vectors_and_batches() -> None:
    U, V, X = (torch.randn(3, *shape, dtype=F64) for shape in ((5, 6), (5, 6), (6, 2)))
    s = 0.5 + torch.rand(3, 6, dtype=F64)
    out, found = factored.inverse_apply(U, s, V, X), factored.slogdet(U, s, V)
    for i in range(3):
        torch.testing.assert_close(out[i], factored.inverse_apply(U[i], s[i], V[i], X[i]))
        torch.testing.assert_close(found.logabsdet[i], factored.logabsdet(s[i]))
    alone = factored.apply(U[0], s[0], V[0], X[0, :, 0])
    torch.testing.assert_close(alone, factored.apply(U[0], s[0], V[0], X[0])[:, 0])
    assert found.sign.shape == (3,)


@pytest.mark.parametrize("zero_row", [False, True])
def test_gradcheck(zero_row: bool) -> None:
    U, s, V = factors(5, 4)
    X = torch.randn(5, 2, dtype=F64)
    if zero_row:  # a zero row has gradient zero by definition, not by its limit: held fixed
        U[1] = 0
    inputs = (U.requires_grad_(not zero_row), s.requires_grad_(), V.requires_grad_())
    X.requires_grad_()
    for f in (factored.apply, factored.inverse_apply):
        assert gradcheck(f, (*inputs, X))
        assert gradgradcheck(f, (*inputs, X))
    for g in (factored.exp_apply, factored.cayley_apply):
        assert gradcheck(g, (U, s, X))
    assert gradcheck(factored.logabsdet, (s,))
    assert gradcheck(lambda *a: factored.slogdet(*a).logabsdet, inputs)


def test_a_singular_matrix() -> None:
    U, s, V = factors(5)
    s[2] = 0
    s.requires_grad_()
    found = factored.slogdet(U, s, V)
    assert found.sign == 0
    assert found.logabsdet == -math.inf
    theirs = torch.linalg.slogdet(torch.zeros(5, 5))
    assert (theirs.sign, theirs.logabsdet) == (found.sign, found.logabsdet)
    (gradient,) = torch.autograd.grad(found.logabsdet, s)
    assert gradient[2].isnan()
    assert gradient[[0, 1, 3, 4]].isfinite().all()
    out = factored.inverse_apply(U, s, V, torch.randn(5, 3, dtype=F64))
    assert not out.isfinite().all(0).any()


def test_an_eigenvalue_of_minus_one_has_no_cayley_map() -> None:
    U, s, _ = factors(5)
    s[2] = -1
    assert not factored.cayley_apply(U, s, torch.randn(5, dtype=F64)).isfinite().all()


def test_what_does_not_fit_is_told_in_one_line() -> None:
    U, s, V = factors(5)
    for call in (
        lambda: factored.apply(U, s[:4], V, torch.randn(5, 2, dtype=F64)),
        lambda: factored.slogdet(U, s, torch.randn(6, 6, dtype=F64)),
        lambda: factored.apply(U, s, V, torch.randn(4, 2, dtype=F64)),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert "\n" not in str(error.value)


# ------------------------------------------------------------------ every way


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str) -> None:
    with initialize_config_module("svdbench.conf", version_base=None):
        config = compose(overrides=[f"+matrix_op={name}"]).matrix_op
    method = load(name)
    assert type(OPERATIONS.load(name, **config)) is type(method)
    assert type(method).name == name
    text = (files("svdbench.conf") / "matrix_op" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert method.operation == operation_of(name)
    assert (method.kind == "svd") == (name in FACTORED)
    assert method.builds in ("product", "matrix")
    assert method.gradients.strip()
    assert method.source.strip()
    flops = method.flops(Problem(d=32, n=32, m=4))
    assert isinstance(flops, Flops)
    assert 0 < flops.forward < flops.step


@pytest.mark.parametrize("operation", operation_names())
def test_each_operation_has_one_factored_way_and_a_rival(operation: str) -> None:
    ways = [load(name) for name in NAMES if operation_of(name) == operation]
    assert sum(way.kind == "svd" for way in ways) == 1
    assert len(ways) > 1
    assert len({(way.symmetric, way.scalar) for way in ways}) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "d", "n"), [(F64, 12, 12), (torch.float32, 33, 20)])
def test_agrees_with_the_plain_formula(name: str, dtype: torch.dtype, d: int, n: int) -> None:
    """Value, reference and gradients, all the ways of an operation on the same matrix."""
    method, (U, s, V) = load(name), factors(d, n)
    U[0] = 0
    given = tuple(t.to(dtype) for t in (U, s, V))
    W = dense(*(t.double() for t in (given[0], given[1], given[0 if method.symmetric else 2])))
    X = torch.randn(d, 3).to(dtype)
    wanted = exact(method.operation, W, X.double())
    parameters = each(method.parameter(*given))
    tolerance = {"rtol": 0.0, "atol": 64 * d * torch.finfo(dtype).eps * wanted[0].norm().item()}
    computed = each(method.apply(*parameters, X))
    plain = each(method.reference(*(p.double() for p in parameters), X.double()))
    assert [t.shape for t in computed] == [t.shape for t in wanted]
    for ours, reference, right in zip(computed, plain, wanted, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), right, **tolerance)
        torch.testing.assert_close(reference, right, **tolerance)
    G = torch.randn(d, 3).to(dtype)
    verdict = check(method, parameters, X, (G, G.new_ones(())) if method.scalar else G)
    assert verdict.ok, verdict.reason
    assert verdict.orthogonality is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["output", "parameter", "X"])
def test_one_per_cent_wrong_is_red(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the last of several outputs or parameters."""
    method, (U, s, V) = load(name), factors(16)
    parameters, X = method.parameter(U, s, V), torch.randn(16, 3, dtype=F64)
    G: Any = torch.randn(16, 3, dtype=F64)
    G = (G, G.new_ones(())) if method.scalar else G
    right = method.apply

    def slanted(t: Tensor) -> Tensor:
        """The same value, a gradient that is one per cent longer."""
        return 1.01 * t - 0.01 * t.detach()

    def wrong(*inputs: Tensor) -> Any:
        *parameters, last, X = inputs
        last = slanted(last) if what == "parameter" else last
        outputs = list(each(right(*parameters, last, slanted(X) if what == "X" else X)))
        if what == "output":
            outputs[-1] = outputs[-1] + 0.01 * outputs[-1].detach()
        return tuple(outputs)

    assert check(method, parameters, X, G).ok
    monkeypatch.setattr(method, "apply", wrong)
    assert not check(method, parameters, X, G).ok


def test_the_series_stops_where_the_flops_say() -> None:
    method, (U, _, V) = load("exp_taylor"), factors(64)
    s = torch.linspace(0.5, 1.5, 64, dtype=F64)
    (W,) = method.parameter(U.float(), s.float(), V.float())
    with torch.autograd.profiler.profile() as trace:
        method.apply(W, torch.randn(64, 4))
    products = sum(event.name == "aten::mm" for event in trace.function_events)
    counted = method.flops(Problem(64, 64, 4)).forward / (2 * 64**2 * 4)
    assert abs(products - counted) <= 1


def test_half_precision_runs_or_says_why_not() -> None:
    problem = Problem(8, 8, 2, dtype=torch.bfloat16)
    for name in NAMES:
        reason = load(name).skip(problem)
        assert (reason is None) == (name in FACTORED)


def test_unknown_operations() -> None:
    with pytest.raises(ValueError, match="no operation is called 'inverze': did you mean 'inv"):
        TimeSvdOps(ops=["inverze"])


# ------------------------------------------------------------------ the command

TINY = ["--d", "8", "--budget", "0.1", "sizes.m=3", "measure.min_reps=1", "measure.warmup_reps=1"]


@pytest.mark.usefixtures("elsewhere")
class TestCommand:
    def test_writes_what_it_promises(self) -> None:
        code, out, _ = run(["time-svd-ops", *TINY, "--name", "one"])
        assert code == 0
        folder = Path("results/time-svd-ops/one")
        written = {
            "config.yaml",
            "env.json",
            "progress.jsonl",
            "samples.csv",
            "summary.csv",
            "step_time.png",
        }
        assert {path.name for path in folder.iterdir()} == written
        rows = table(folder / "summary.csv")
        passes = {(row["method"], row["pass"]) for row in rows}
        assert passes == {(name, p) for name in NAMES for p in ("fwd", "bwd", "step")}
        assert {row["status"] for row in rows} == {"ok"}
        assert all(row["operation"] == operation_of(row["method"]) for row in rows)
        assert all(float(row["vs_best"]) > 0 and float(row["error"]) < 1e-4 for row in rows)
        assert {row["orthogonality"] + row["floor_s"] for row in rows} == {""}
        assert all(name in out for name in NAMES)

    @pytest.mark.usefixtures("known_rates")
    def test_vs_best_compares_within_an_operation(self) -> None:
        untuned = [f"matrix_op.{op}_svd.tune=false" for op in ("cayley", "inverse")]
        options = [*TINY, "--name", "two", "--ops", "cayley,inverse", *untuned]
        assert run(["time-svd-ops", *options]).code == 0
        rows = table("results/time-svd-ops/two/summary.csv")
        time = {row["method"]: float(row["median_s"]) for row in rows if row["pass"] == "step"}
        best = {row["method"]: float(row["vs_best"]) for row in rows if row["pass"] == "step"}
        assert set(time) == {n for n in NAMES if operation_of(n) in ("cayley", "inverse")}
        assert best["cayley_svd"] == pytest.approx(time["cayley_solve"] / time["cayley_svd"])
        rivals = min(time["inverse_solve"], time["inverse_inv"])
        assert best["inverse_svd"] == pytest.approx(rivals / time["inverse_svd"])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--ops", "inverze"], "no operation is called 'inverze'"),
            (["ops=[]"], "ops is empty: give at least one value"),
            (["sigma=[0,1]"], "both above 0"),
            (["matrix_op.exp_svd.tune=false", "--ops", "exp", "sigma=[2,1]"], "both above 0"),
        ],
    )
    def test_mistakes_are_one_line(self, arguments: list[str], message: str) -> None:
        assert_mistake(run(["time-svd-ops", *TINY, *arguments]), message)
