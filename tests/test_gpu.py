"""The Householder core on an NVIDIA GPU against the plain reference in float64 on the CPU.

Tolerances: in float64 and float32 a product of n reflectors has an error of at most
c·n·eps (Higham, *Accuracy and Stability*, 2nd ed., Lemma 19.3), and its gradients sum over
n or d further terms; c = 10 leaves room for the order of summation, and at the smaller
sizes none for TF32. In half precision the error must be at most twice that of PyTorch's own
plain path in the same dtype, or that of rounding the result, whichever is larger.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from svdbench.kernels import Plan, apply_reflectors, apply_reflectors_reference
from svdbench.kernels.apply import Apply
from svdbench.kernels.choice import BACKENDS

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="needs an NVIDIA GPU that torch can see: `make gpu` on such a machine runs this",
)

DEVICE = "cuda"
# With "wy", torch sweeps over the blocks (over one only, if it holds all reflectors); with
# "triton" a kernel does, compiled for each of these sizes.
BLOCK_SIZES = {"wy": (4, 1000), "triton": (16, 32, 64)}
OURS = ("auto", *BLOCK_SIZES)
EVERY = [(b, k) for b in BACKENDS for k in BLOCK_SIZES.get(b, (None,))]
# (n, d, m): odd, even; a few reflectors and many; short and, for one program, too long.
SHAPES = [(7, 5, 3), (33, 65, 17), (96, 64, 32), (40, 301, 5)]
SHORT, LONG = SHAPES[1], SHAPES[3]
# Sizes of 1; resident at its longest, in sixteens and not; large blocks, and columns wider than
# a tile and than all of a sweep's processors.
MORE_SHAPES = [(9, 9, 1), (1, 9, 4), (9, 1, 4), (1, 1, 1)]
MORE_SHAPES += [(256, 256, 32), (250, 250, 33), (512, 512, 128), (130, 129, 700)]

TRITON, TILES = Plan(16, "triton"), Plan(128, "tiles")
# Every sweep: resident or streamed; by tiles without and with joined pairs; by products.
PLANS = [TRITON, Plan(32, "triton"), Plan(64, "triton"), TILES, Plan(256, "tiles"), Plan(32)]

Step = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def _poisoned() -> None:
    """Leaves NaN in the memory that is given out next, so that what is never written shows."""
    for numbers, times in ((1 << 16, 32), (1 << 24, 1)):
        held = [torch.full((numbers,), torch.nan, device=DEVICE) for _ in range(times)]
        del held


def inputs(
    n: int, d: int, m: int, dtype: torch.dtype, batch_V: tuple = (), batch_X: tuple = ()
) -> Step:
    """V, X and the gradient G at the product, random; V and X want gradients."""
    V, X = torch.randn(*batch_V, n, d), torch.randn(*batch_X, d, m)
    G = torch.randn(*torch.broadcast_shapes(batch_V, batch_X), d, m)
    V, X, G = (tensor.to(DEVICE, dtype) for tensor in (V, X, G))
    return V.requires_grad_(), X.requires_grad_(), G


def step(apply: Callable[..., Tensor], V: Tensor, X: Tensor, G: Tensor, **options: object) -> Step:
    """The product and its gradients at V and X."""
    out = apply(V, X, **options)
    return out.detach(), *torch.autograd.grad(out, (V, X), G)


def exact(V: Tensor, X: Tensor, G: Tensor, transpose: bool = False) -> Step:
    V, X = (tensor.detach().cpu().double().requires_grad_() for tensor in (V, X))
    return step(apply_reflectors_reference, V, X, G.cpu().double(), transpose=transpose)


def errors(found: Step, right: Step) -> list[float]:
    """Relative, in the Frobenius norm, of the product and of each gradient; NaN stays NaN."""
    return [
        float((value.cpu().double() - wanted).norm() / wanted.norm())
        for value, wanted in zip(found, right, strict=True)
    ]


def assert_exact(found: Step, right: Step, V: Tensor) -> None:
    allowed = 10 * max(V.shape[-2:]) * torch.finfo(V.dtype).eps
    for error in errors(found, right):
        assert error <= allowed


@pytest.mark.parametrize(("backend", "block_size"), EVERY)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_step_is_exact(
    backend: str, block_size: int | None, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    V, X, G = inputs(*shape, dtype)
    options = {"backend": backend, "block_size": block_size}
    if backend == "triton" and dtype == torch.float64:
        with pytest.raises(TypeError, match="no float64"):
            apply_reflectors(V, X, **options)
        return
    assert_exact(step(apply_reflectors, V, X, G, **options), exact(V, X, G), V)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", MORE_SHAPES)
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_kind_of_plan_at_the_edges(
    plan: Plan, shape: tuple[int, int, int], transpose: bool
) -> None:
    V, X, G = inputs(*shape, torch.float32)

    def apply(V: Tensor, X: Tensor) -> Tensor:
        out: Tensor = Apply.apply(V, X, None, plan, transpose)
        return out

    right = exact(V, X, G, transpose)
    found = step(apply, V, X, G)
    if shape[1] == 1:  # H is −1 then, and the gradient at V vanishes
        allowed = 10 * max(shape) * torch.finfo(torch.float32).eps
        scale = float(X.detach().norm() * G.norm())
        lengths = V.detach().cpu().double().norm(dim=-1, keepdim=True)
        assert float((found[1].cpu().double() * lengths).norm()) <= allowed * scale
        found, right = (found[0], found[2]), (right[0], right[2])
    assert_exact(found, right, V)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [SHORT, LONG])
def test_the_transpose_is_exact_and_undoes_the_product(
    backend: str, shape: tuple[int, int, int]
) -> None:
    V, X, G = inputs(*shape, torch.float32)
    found = step(apply_reflectors, V, X, G, backend=backend, transpose=True)
    assert_exact(found, exact(V, X, G, transpose=True), V)
    back = apply_reflectors(V, found[0], backend=backend)
    assert_exact((back.detach(),), (X.detach().cpu().double(),), V)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [SHORT, LONG])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_no_worse_than_twice_pytorchs_own(
    backend: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    V, X, G = inputs(*shape, dtype)
    right = exact(V, X, G)
    ours = step(apply_reflectors, V, X, G, backend=backend)
    plain = step(apply_reflectors_reference, V, X, G)
    assert all(tensor.dtype == dtype for tensor in ours)
    for error, own in zip(errors(ours, right), errors(plain, right), strict=True):
        assert error <= max(2 * own, torch.finfo(dtype).eps)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch_V", "batch_X"), [((), (2, 3)), ((3,), (2, 3)), ((3,), ())])
def test_batches_broadcast(
    backend: str, batch_V: tuple[int, ...], batch_X: tuple[int, ...]
) -> None:
    V, X, G = inputs(19, 21, 5, torch.float32, batch_V, batch_X)
    assert_exact(step(apply_reflectors, V, X, G, backend=backend), exact(V, X, G), V)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [SHORT, LONG])
def test_zero_rows_are_the_identity(backend: str, shape: tuple[int, int, int]) -> None:
    V, X, G = inputs(*shape, torch.float32)
    zero = [0, 5, 6, shape[0] - 1]
    with torch.no_grad():
        V[zero] = 0
    found = step(apply_reflectors, V, X, G, backend=backend)
    assert_exact(found, exact(V, X, G), V)
    assert torch.equal(found[1][zero], torch.zeros_like(found[1][zero]))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_zero_rows_in_every_kind_of_plan(plan: Plan) -> None:
    V, X, G = inputs(140, 70, 9, torch.float32)
    zero = [0, 63, 64, 127, 128, 139]
    with torch.no_grad():
        V[zero] = 0
    found = step(lambda V, X: Apply.apply(V, X, None, plan, False), V, X, G)
    assert_exact(found, exact(V, X, G), V)
    assert torch.equal(found[1][zero], torch.zeros_like(found[1][zero]))


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_the_length_of_a_reflector_does_not_matter(backend: str, scale: float) -> None:
    V, X, G = inputs(*SHORT, torch.float32)
    V = (V.detach() * scale).requires_grad_()
    assert_exact(step(apply_reflectors, V, X, G, backend=backend), exact(V, X, G), V)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30])
def test_nor_does_one_at_the_ends_of_float32(plan: Plan, scale: float) -> None:
    """The product alone, as the gradient at V goes with 1/‖v‖; of V rounded, as it is stored."""
    V, X, _ = inputs(*SHORT, torch.float32)
    V = V.detach() * scale
    right = apply_reflectors_reference(V.cpu().double(), X.detach().cpu().double())
    found: Tensor = Apply.apply(V, X.detach(), None, plan, False)
    assert_exact((found,), (right,), V)


@pytest.mark.parametrize(("plan", "d", "m"), [(TRITON, 64, 1 << 25), (TILES, 300, 7_400_000)])
def test_more_numbers_than_32_bits_count(plan: Plan, d: int, m: int) -> None:
    """Columns at both ends of X (d, m) with d·m above 2³¹; states would not fit, so no gradient."""
    free, _ = torch.cuda.mem_get_info()
    if free < 5 * 4 * d * m:
        pytest.skip(f"needs {5 * 4 * d * m / 2**30:.0f} GiB of free GPU memory")
    V, X = torch.randn(20, d), torch.zeros(d, m, device=DEVICE)
    ends = torch.randn(d, 80)
    X[:, :40], X[:, -40:] = ends[:, :40].to(DEVICE), ends[:, 40:].to(DEVICE)
    with torch.no_grad():
        found = Apply.apply(V.to(DEVICE), X, None, plan, False)
    right = apply_reflectors_reference(V.double(), ends.double())
    assert_exact((torch.cat([found[:, :40], found[:, -40:]], 1),), (right,), V)
    assert not found[:, 40:-40].any()


@pytest.mark.parametrize("backend", OURS)
def test_views_and_expanded_gradients(backend: str) -> None:
    V, X, _ = inputs(40, 66, 17, torch.float32)
    V, X = V.detach()[::2, 1:].requires_grad_(), X.detach().T[:, 1:].T.requires_grad_()
    G = torch.ones((), device=DEVICE).expand(65, 17)
    assert_exact(step(apply_reflectors, V, X, G, backend=backend), exact(V, X, G), V)


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("shape", [SHORT, LONG])
def test_two_runs_are_the_same_to_the_bit(backend: str, shape: tuple[int, int, int]) -> None:
    tensors = inputs(*shape, torch.float32)
    first, second = (step(apply_reflectors, *tensors, backend=backend) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("shape", [SHORT, LONG])
def test_a_step_is_captured_in_a_graph_and_replayed_on_other_numbers(
    backend: str, shape: tuple[int, int, int]
) -> None:
    V, X, G = inputs(*shape, torch.float32)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what happens only once must not happen in the capture
        for _ in range(3):
            step(apply_reflectors, V, X, G, backend=backend)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(apply_reflectors, V, X, G, backend=backend)
    for _ in range(2):
        with torch.no_grad():
            for tensor in (V, X, G):
                tensor.copy_(torch.randn_like(tensor))
        graph.replay()
        torch.cuda.synchronize()
        assert_exact(captured, exact(V, X, G), V)


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("shape", [SHORT, LONG])
def test_compiles_into_one_graph(backend: str, shape: tuple[int, int, int]) -> None:
    torch.compiler.reset()

    def product(V: Tensor, X: Tensor) -> Tensor:
        return 2 * apply_reflectors(V, X / 2, backend=backend)  # something around it to fuse

    V, X, G = inputs(*shape, torch.float32)
    compiled = torch.compile(product, fullgraph=True)
    assert_exact(step(compiled, V, X, G), exact(V, X, G), V)
