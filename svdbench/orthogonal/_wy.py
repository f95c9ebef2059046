"""Products of reflectors in compact-WY blocks: how large a block is, and what they cost."""

from svdbench import kernels

from .base import Flops, Problem


class Blocks:
    """The options of an :class:`svdbench.algorithm.Algorithm` that chooses its block size.

    Args:
        block_size: reflectors to a block; None takes the best known for the shape.
        tune: measure the best block size before the first call, where none is given.
    """

    def __init__(self, block_size: int | None = None, tune: bool = True) -> None:
        if block_size is not None and not (isinstance(block_size, int) and block_size > 0):
            raise ValueError(f"block_size is {block_size!r}: give a whole number above 0, or null")
        self.block_size = block_size
        self.tune = tune and block_size is None

    def block(self, problem: Problem) -> int:
        """The block size that is given, or else the best known for n reflectors and X (d, m)."""
        return self.block_size or best_block(problem)


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
