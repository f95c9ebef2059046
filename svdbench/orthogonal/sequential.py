"""Reflector by reflector, as well as it can be done: the baseline to beat."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._rows import ReflectorRows, unit_rows
from .base import Flops, Problem


class Sequential(ReflectorRows):
    """H(v₁)⋯H(vₙ) X by one matrix-vector product and one rank-one update a reflector."""

    kind = "sequential"
    builds = "QX"
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
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, Tensor]:
        """With A after a reflector, G the gradient there, g = Gᵀu, and a of the forward pass:

        dv = −2(A g + G a)/‖v‖, orthogonal to u by itself, as uᵀA = −aᵀ. Before the
        reflector the state was A + 2u aᵀ, since H(u)² = I, and its gradient G − 2u gᵀ.

        Aᵀ above Gᵀ is one matrix C, and [−a | g | a] one row of ``rows``, so that a
        reflector takes three calls: g, then A g + G a = Cᵀ[g; a], then C − 2[−a; g]uᵀ.
        """
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
