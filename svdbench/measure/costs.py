"""Operations, by formula or counted as PyTorch runs them, and reasons why a method cannot run."""

import math
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svdbench import kernels
from svdbench.measure.algorithm import Flops, Problem


class TunedAlgorithm:
    """An :class:`svdbench.measure.algorithm.Algorithm` that works in blocks of reflectors.

    Args:
        tune: measure the best block size before the first call.
    """

    def __init__(self, tune: bool = True) -> None:
        self.tune = tune

    def tune_for(self, V: torch.Tensor, X: torch.Tensor) -> None:
        """Measure it for products with X (d, m) and the rows of V (n, d), if asked to."""
        if self.tune:
            kernels.tune(V, X, again=False, keep=False)

    def block(self, problem: Problem) -> int:
        """The best block size that is known, for n reflectors and X (d, m)."""
        return best_block(problem)


class Blocks(TunedAlgorithm):
    """One whose block size can also be given.

    Args:
        block_size: reflectors to a block; None takes the best known for the shape.
        tune: measure the best block size before the first call, where none is given.
    """

    def __init__(self, block_size: int | None = None, tune: bool = True) -> None:
        if block_size is not None and not (isinstance(block_size, int) and block_size > 0):
            raise ValueError(f"block_size is {block_size!r}: give a whole number above 0, or null")
        super().__init__(tune and block_size is None)
        self.block_size = block_size

    def block(self, problem: Problem) -> int:
        return self.block_size or super().block(problem)


def best_block(problem: Problem) -> int:
    """The best block size that is known, for n reflectors applied to X (d, m)."""
    return kernels.choose_block_size(problem.n, problem.d, problem.m, problem.dtype, problem.device)


def wy_flops(problem: Problem, k: int) -> Flops:
    """Operations of blocks of k reflectors, H₁⋯H_k = I − Bᵀ T B, gradients in closed form.

    Forward: 4ndm for BX and Bᵀ(TBX), 2ndk for the Gram matrices BBᵀ, nk² for
    their triangles' inverses T, 2nkm for T(BX).
    Backward: 8ndm for BG, Bᵀ(TᵀBG) and the two outer products, 2ndk for the
    Gram matrices' share, 4nkm for T and for the gradient of T.
    """
    n, d, m = problem.n, problem.d, problem.m
    k = min(k, n)
    return Flops(
        forward=4 * n * d * m + 2 * n * d * k + n * k**2 + 2 * n * k * m,
        backward=8 * n * d * m + 2 * n * d * k + 4 * n * k * m,
    )


def factors_flops(problem: Problem, k: int) -> Flops:
    """U diag(s) Vᵀ X in blocks of k reflectors: two products, n reflectors each."""
    once = wy_flops(problem, k)
    return Flops(2 * once.forward, 2 * once.backward)


def then_product(problem: Problem, forward: float, backward: float) -> Flops:
    """So many operations for a matrix (d, d), then its product with X: 2d²m, and 4d²m backward."""
    product = 2 * problem.d**2 * problem.m
    return Flops(forward + product, backward + 2 * product)


def not_square(problem: Problem, what: str) -> str | None:
    """Maps of a square parameter have no meaning for n reflectors of another length d."""
    if problem.n == problem.d:
        return None
    return f"{what} needs a square parameter, but here n = {problem.n}, d = {problem.d}"


def half_precision(problem: Problem, what: str, fault: str = "has no kernel") -> str | None:
    """LAPACK works in single and double precision only."""
    if problem.dtype in (torch.float32, torch.float64):
        return None
    return f"{what} {fault} for {str(problem.dtype)[6:]}"


def missing_peer(module: str, package: str) -> str | None:
    """Why the optional ``package`` can't be imported, or None if it can.

    A compiled one may be installed and still not load with this torch, so it is
    imported to know.
    """
    if find_spec(module) is None:
        return f"{package} is not installed (pip install 'svdbench[peers]')"
    try:
        import_module(module)
    except Exception as error:
        cause = str(error).strip().splitlines() or [type(error).__name__]
        return f"{package} does not import with torch {torch.__version__}: {cause[0]}"
    return None


def matrix_exp_flops(problem: Problem, norm: float) -> Flops:
    """torch.matrix_exp of a d × d matrix S with that 1-norm, then exp(S) X.

    A polynomial of degree 18 takes 5 products (Bader, Blanes and Casas 2019),
    then s squarings bring back a matrix whose 1-norm was divided by 2ˢ to be
    within the polynomial's reach: (5 + s) 2d³. The gradient is the exponential of
    [[Sᵀ, GXᵀ], [0, Sᵀ]], of twice the size: (5 + s') 16d³, with s' > s squarings
    since GXᵀ is long. exp(S) X is 2d²m, and 4d²m backward.

    s and s' depend on the numbers; here X and G are unit Gaussian.
    """
    d, m = problem.d, problem.m
    log_d = math.log(max(d, 2))
    gradient_norm = norm + d * math.sqrt(2 / math.pi) * (math.sqrt(m) + math.sqrt(log_d))
    reach = 3.01 if problem.dtype == torch.float32 else 1.09

    def products(norm: float) -> int:
        return 5 + max(0, math.ceil(math.log2(norm / reach)))

    return then_product(problem, products(norm) * 2 * d**3, products(gradient_norm) * 16 * d**3)


# Operators whose cost their shapes do not tell: decompositions, iterations and fused loops.
_OPAQUE = (
    *("linalg", "lu_", "triangular", "cholesky", "ormqr", "geqrf", "svd", "eig", "fft"),
    *("matrix_exp", "householder", "lstm", "gru", "rnn", "mkldnn", "attention", "conv"),
)
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "addr", "dot", "ger", "vdot")


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops, self.opaque = 0.0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not func._schema.name.startswith("aten::") or any(part in name for part in _OPAQUE):
            self.opaque = True
        elif name.removesuffix("_") in _PRODUCTS:
            self.flops += _product(name, args)
        elif not func.is_view:
            self.flops += max(
                (t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)), default=0
            )
        return out


def _product(name: str, args: Any) -> float:
    """2 m k n of a product of matrices (m, k) and (k, n), and so on."""
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    *_, a, b = tensors
    if name.startswith(("addr", "ger")):
        return 2.0 * a.numel() * b.numel()
    if b.ndim == 1 or a.ndim == 1:
        return 2.0 * max(a.numel(), b.numel())
    return 2.0 * math.prod(a.shape) * b.shape[-1]


def operations_counted(work: Callable[[], Any]) -> tuple[float, bool]:
    """The operations of a call, and whether the count is complete.

    Products count a multiply and an add as two; any other operator counts one for each element
    of its result. Decompositions and operators outside PyTorch count nothing, and the count is
    then incomplete: a lower bound.
    """
    with _Counting() as counting:
        work()
    return counting.flops, not counting.opaque
