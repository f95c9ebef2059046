"""What products of reflectors in compact-WY blocks cost."""

from .base import Flops, Problem


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
