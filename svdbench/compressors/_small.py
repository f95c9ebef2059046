"""Small weights, where every call counts: all work on the Gram matrix of the shorter side.

A weight of 15×784 is compressed in less than the time in which a library has checked its
arguments; after each batch, that is the difference between half the time of a step and
twice of it. Gram matrices square the condition number, so they are formed in float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# The shorter side up to which this is used: beyond, its cube outgrows what calls cost.
SMALL = 64


def is_small(W: Tensor) -> bool:
    """Whether a weight (m, n) is one for the functions here."""
    return min(W.shape) <= SMALL


def projected(W: Tensor, basis: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """W (m, n) projected on k directions of its shorter side: factors (m, k) and (k, n).

    Args:
        basis: gives k orthonormal columns for the Gram matrix (c, c), float64, of that side.
    """
    wide = W.shape[0] <= W.shape[1]
    A = (W if wide else W.T).double()
    Q = basis(A @ A.T).to(W.dtype)
    return (Q, Q.T @ W) if wide else (W @ Q, Q.T)


def leading(G: Tensor, k: int) -> Tensor:
    """The k leading eigenvectors (c, k) of a symmetric G (c, c)."""
    return torch.linalg.eigh(G).eigenvectors[:, -k:]  # whose values ascend


def sampled(G: Tensor, k: int, probes: int, iterations: int, generator: torch.Generator) -> Tensor:
    """About the k leading eigenvectors (c, k) of G (c, c) = A Aᵀ, from random probes.

    The range of Gʲ Ω for Gaussian Ω (c, probes), j = iterations + 1, and in it the k best
    directions (Halko, Martinsson and Tropp 2011, algorithm 4.4 and §5.3). Their algorithm
    has (A Aᵀ)^iterations A Ω, which is half a product with G less. Orthonormalised after
    every second product: float64 holds directions down to 1e-4 of the first in between.
    """
    Y = torch.randn(len(G), probes, dtype=G.dtype, device=G.device, generator=generator)
    for number in range(iterations + 1):
        Y = G @ Y
        if number % 2 or number == iterations:
            Y = torch.linalg.qr(Y).Q
    return Y if probes == k else Y @ leading(Y.T @ G @ Y, k)
