"""Products of reflectors, rows of V: FastH, FastH++, CWY, one by one, and dense."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from svdbench.errors import refuse_second_derivative
from svdbench.kernels import apply_reflectors, apply_reflectors_reference
from svdbench.measure.costs import Blocks, wy_flops

from .base import Flops, Method, Problem


class ReflectorRows(Method):
    """Any algorithm for H(v₁)⋯H(vₙ) X with the rows of V (n, d) as reflectors."""

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors_reference(V, X)


def unit_rows(V: Tensor) -> tuple[Tensor, Tensor]:
    """Every row over its length, and the lengths; a zero row stays and counts as length 1.

    Args:
        V: reflectors as rows, shape (n, d).

    Returns:
        U (n, d), differentiable, and the lengths (n, 1).
    """
    # The square of a row's length may overflow or vanish, that of a row with
    # largest entry 1 may not. What is computed from U does not depend on the
    # rows' lengths, so the scale needs no gradient.
    scale = V.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    V = V / scale
    length = torch.linalg.vector_norm(V, dim=-1, keepdim=True)
    length = torch.where(length == 0, torch.ones_like(length), length)
    return V / length, scale * length.detach()


class FastH(Blocks, ReflectorRows):
    """H(v₁)⋯H(vₙ) X by svdbench's own kernels, rows of V as reflectors.

    Args:
        block_size: reflectors to a block; None takes the best known for the shape.
    """

    name = "fasth"
    kind, builds = "householder", "QX"
    gradients = "closed form"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def prepare(self, V: Tensor, X: Tensor) -> None:
        self.tune_for(V, X)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors(V, X, block_size=self.block_size)

    def flops(self, problem: Problem) -> Flops:
        return wy_flops(problem, self.block(problem))


class FastHPP(ReflectorRows):
    """H(v₁)⋯H(vₙ) X with blocks I + WᵀY, merged until they hold ``block_size`` reflectors.

    One reflector is W = −2u, Y = u. Two neighbours are one block again:
    (I + W₁ᵀY₁)(I + W₂ᵀY₂) = I + [W₁; W₂ + (W₂Y₁ᵀ)W₁]ᵀ [Y₁; Y₂].
    All pairs of a level merge at once; the blocks are then applied one by one.
    Out of place, unlike the published code, so that autograd differentiates it.

    Args:
        block_size: where to stop merging, a power of two; 16 as published.
    """

    name = "fasthpp"
    kind, builds = "householder", "QX"
    gradients = "autograd"
    source = "FastH++, github.com/alexandermath/fasth (fasthpp.py)"

    def __init__(self, block_size: int = 16) -> None:
        if block_size < 1 or block_size & (block_size - 1):
            raise ValueError(f"fasthpp merges pairs: block_size must be 2ⁱ, not {block_size}")
        self.block_size = block_size

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        U = pad(unit_rows(V)[0], (0, 0, 0, -len(V) % self.block_size))  # zero rows are I
        Y = U.unsqueeze(1)  # (blocks, reflectors, d)
        W = -2 * Y
        while Y.shape[1] < self.block_size:
            W1, W2 = W.unflatten(0, (-1, 2)).unbind(1)
            Y1 = Y[::2]
            W = torch.cat([W1, torch.baddbmm(W2, W2 @ Y1.mT, W1)], 1)
            Y = Y.reshape(-1, 2 * Y.shape[1], Y.shape[2])
        for w, y in zip(reversed(W.unbind()), reversed(Y.unbind()), strict=True):
            X = torch.addmm(X, w.T, y @ X)
        return X

    def block(self, problem: Problem) -> int:
        return self.block_size

    def flops(self, problem: Problem) -> Flops:
        """4ndm to apply; a merge to k reflectors is k²d, all levels 2nd(k − 1); backward twice."""
        n, d, m, k = problem.n, problem.d, problem.m, self.block_size
        n += -n % k
        forward = 4 * n * d * m + 2 * n * d * (k - 1)
        return Flops(forward, 2 * forward)


class CWY(ReflectorRows):
    """H(v₁)⋯H(vₙ) X = X − Vᵀ T V X: no sequential step, and a triangle of size n to invert."""

    name = "cwy"
    kind, builds = "householder", "QX"
    gradients = "closed form"
    source = "Likhosherstov et al., CWY Parametrization, AISTATS 2021"

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        # Products on any device: a block size alone may name one of our own kernels.
        return apply_reflectors(V, X, block_size=V.shape[0], backend="wy")

    def block(self, problem: Problem) -> int:
        return problem.n

    def flops(self, problem: Problem) -> Flops:
        return wy_flops(problem, problem.n)


class Sequential(ReflectorRows):
    """H(v₁)⋯H(vₙ) X by one matrix-vector product and one rank-one update a reflector."""

    name = "sequential"
    kind, builds = "sequential", "QX"
    gradients = "closed form, states recomputed"
    source = "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks, ICML 2018"

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        out: Tensor = _Sweep.apply(V, X)
        return out

    def flops(self, problem: Problem) -> Flops:
        """A reflector is 4dm forward; 10dm backward: 4 at G, 2 to recompute A, 4 for dv."""
        ndm = problem.n * problem.d * problem.m
        return Flops(4 * ndm, 10 * ndm)


class _Sweep(torch.autograd.Function):
    """A ← A − 2u aᵀ with a = Aᵀu, for u from the last unit reflector to the first.

    The states are held as Aᵀ (m, d), in which a rank-one update runs along u:
    of the layouts and fused operations tried on a CPU, the fastest.
    """

    @staticmethod
    def forward(ctx: Any, V: Tensor, X: Tensor) -> Tensor:
        U, length = unit_rows(V)
        At = X.t().clone(memory_format=torch.contiguous_format)
        a = X.new_empty(len(V), X.shape[1])
        for u, a_u in zip(reversed(U.unbind()), reversed(a.unbind()), strict=True):
            torch.mv(At, u, out=a_u)
            At.addr_(a_u, u, alpha=-2)
        out = At.t()
        ctx.save_for_backward(U, length, a, out)
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, Tensor]:
        """With A after a reflector, G the gradient there, g = Gᵀu, and a of the forward pass:

        dv = −2(A g + G a)/‖v‖, orthogonal to u by itself, as uᵀA = −aᵀ. Before the
        reflector the state was A + 2u aᵀ, since H(u)² = I, and its gradient G − 2u gᵀ.

        Aᵀ above Gᵀ is one matrix C, and [−a | g | a] one row of ``rows``, so that a
        reflector takes three calls: g, then A g + G a = Cᵀ[g; a], then C − 2[−a; g]uᵀ.
        """
        refuse_second_derivative("the sequential sweep")
        U, length, a, out = ctx.saved_tensors
        m = a.shape[1]
        C = torch.cat([out.t(), G.t()])
        Ct, Gt = C.t(), C[m:]
        rows = torch.cat([-a, a, a], 1)  # the middle is overwritten by g
        dV = torch.empty_like(U)
        for u, g, minus_a_g, g_a, dv in zip(
            U.unbind(),
            rows[:, m : 2 * m].unbind(),
            rows[:, : 2 * m].unbind(),
            rows[:, m:].unbind(),
            dV.unbind(),
            strict=True,
        ):
            torch.mv(Gt, u, out=g)
            torch.mv(Ct, g_a, out=dv)
            C.addr_(minus_a_g, u, alpha=-2)
        return dV.mul_(-2 / length), Gt.t()


class Parallel(ReflectorRows):
    """Q = H(v₁)⋯H(vₙ) in log₂ n levels, each one batched product of d × d matrices; then Q X.

    The leaves are pairs of reflectors, dense at once as a rank-two update of I:
    half the memory of a tree that starts from single reflectors. The time is
    O(d³ log n) only with a processor for every product of a level; the work is
    O(nd³), which is what ``flops`` counts.

    Args:
        max_bytes: skip problems that need more memory than this.
    """

    name = "parallel"
    kind, builds = "dense tree", "Q"
    gradients = "autograd"
    source = "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks, ICML 2018"

    def __init__(self, max_bytes: float = 4e9) -> None:
        self.max_bytes = max_bytes

    def skip(self, problem: Problem) -> str | None:
        needed = self.bytes_needed(problem)
        if needed <= self.max_bytes:
            return None
        return (
            f"the tree of dense products needs {needed / 1e9:.1f} GB at d = {problem.d}, "
            f"n = {problem.n}, above max_bytes = {self.max_bytes / 1e9:.1f} GB"
        )

    @staticmethod
    def bytes_needed(problem: Problem) -> float:
        """The n matrices kept for the gradients, and half as much again on the way back."""
        return 1.5 * problem.n * problem.d**2 * problem.dtype.itemsize

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        U = pad(unit_rows(V)[0], (0, 0, 0, len(V) % 2))  # a zero row is the identity
        u, w = U.unflatten(0, (-1, 2)).unbind(1)
        # H(u)H(w) = I − 2uuᵀ − 2wwᵀ + 4(u·w)uwᵀ = I + [u w] [4(u·w)w − 2u, −2w]ᵀ
        right = torch.stack([4 * (u * w).sum(-1, keepdim=True) * w - 2 * u, -2 * w], 1)
        eye = torch.eye(V.shape[1], dtype=V.dtype, device=V.device)
        Q = torch.baddbmm(eye, torch.stack([u, w], 2), right)
        while len(Q) > 1:
            paired = len(Q) // 2 * 2
            first, second = Q[:paired].unflatten(0, (-1, 2)).unbind(1)
            merged = first @ second
            Q = merged if paired == len(Q) else torch.cat([merged, Q[paired:]])
        return Q[0] @ X

    def flops(self, problem: Problem) -> Flops:
        """p = ⌈n/2⌉ leaves of 4d², p − 1 products of 2d³, 2d²m for Q X; backward twice."""
        d, m, p = problem.d, problem.m, -(-problem.n // 2)
        forward = 4 * p * d**2 + 2 * (p - 1) * d**3 + 2 * d**2 * m
        return Flops(forward, 2 * forward)
