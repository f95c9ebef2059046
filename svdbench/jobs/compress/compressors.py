"""Ways to reduce a weight to rank k while it is trained.

To add one, define a subclass of :class:`Compressor` with a ``name`` here and add a YAML of that
name to ``conf/compressor``.

Small weights are compressed through the Gram matrix of their shorter side: for a weight of 15×784,
a library's checks of its arguments take longer than that, so that compression after each batch
would take twice the time of a step instead of half. Gram matrices square the condition number, so
they are formed in float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from svdbench.arguments import check_whole
from svdbench.lowrank import randomized_svd, truncated_svd


class Compressor(ABC):
    """Replaces a weight W (m, n) by two factors (m, k) and (k, n) of rank k.

    Define ``factors``. ``kept`` returns the rank that is kept for a requested one.

    Class attributes:
        title: the method, in a few words.
        source: where the method comes from.
        needs_inputs: whether it uses the inputs of a layer.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import Compressor

            class ByQR(Compressor):
                title, source = "one subspace iteration", "Halko, Martinsson and Tropp 2011"

                def factors(self, W, k, inputs, generator):
                    probes = torch.randn(
                        W.shape[1], k, dtype=W.dtype, device=W.device, generator=generator
                    )
                    Q = torch.linalg.qr(W @ (W.T @ (W @ probes))).Q
                    return Q, Q.T @ W
    """

    title: ClassVar[str]
    source: ClassVar[str]
    needs_inputs: ClassVar[bool] = False

    def kept(self, rank: int) -> int:
        """The number of singular values kept for a requested ``rank``."""
        return rank

    @abstractmethod
    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Two factors (m, k) and (k, n) whose product replaces the weight W (m, n).

        Args:
            W: weight of a layer y = W x.
            k: rank, below min(m, n).
            inputs: calibration inputs x as rows (N, n), for methods that need them.
            generator: random number generator on W's device.
        """


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


class RSVD(Compressor):
    """A nearly optimal matrix of rank k, from k + oversampling probes truncated to k.

    Args:
        oversampling: probes beyond k; with as many probes as the smaller side, the result is exact.
        power_iterations: products with W Wᵀ that sharpen the range.
    """

    name = "rsvd"
    title = "randomised SVD"
    source = "Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011"

    def __init__(self, oversampling: int = 10, power_iterations: int = 2) -> None:
        check_whole(0, oversampling=oversampling, power_iterations=power_iterations)
        self.oversampling = oversampling
        self.power_iterations = power_iterations

    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        probes = min(k + self.oversampling, *W.shape)
        if not is_small(W):
            U, S, Vh = randomized_svd(
                W,
                k,
                oversampling=probes - k,
                power_iterations=self.power_iterations,
                generator=generator,
            )
            return U * S, Vh
        if probes == min(W.shape):  # they span everything
            return projected(W, lambda G: leading(G, k))
        return projected(W, lambda G: sampled(G, k, probes, self.power_iterations, generator))


class TruncSVD(Compressor):
    """The nearest matrix of rank k, in the Frobenius and the spectral norm."""

    name = "truncsvd"
    title = "truncated SVD"
    source = "Eckart and Young, The approximation of one matrix by another, Psychometrika 1936"

    def __init__(self, extra: int = 0) -> None:
        check_whole(0, extra=extra)
        self.extra = extra

    def kept(self, rank: int) -> int:
        return rank + self.extra

    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if is_small(W):
            return projected(W, lambda G: leading(G, k))
        U, S, Vh = truncated_svd(W, k)
        return U * S, Vh


class Whitened(Compressor):
    """W_k = SVD_k(W C^½) C^−½, which minimises E‖(W − W_k) x‖² for C = E[x xᵀ].

    The left singular vectors of W C^½ are the eigenvectors of W C Wᵀ = E[(W x)(W x)ᵀ],
    and with the k leading ones as columns of U, W_k = U Uᵀ W. So no root of C is formed, nor
    an inverse: it may be singular. C is damped to C + λI with λ a fraction of its mean
    diagonal entry, so that directions in which no calibration row points don't count as free.

    Args:
        damping: that fraction.
    """

    name = "whitened"
    title = "activation-whitened SVD"
    source = "Wang et al., SVD-LLM, 2024 (arXiv 2403.07378), damped"
    needs_inputs = True

    def __init__(self, damping: float = 0.01) -> None:
        if not (isinstance(damping, int | float) and damping >= 0):
            raise ValueError(f"damping is {damping!r}: give a number of at least 0")
        self.damping = damping

    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        assert inputs is not None
        outputs = (inputs @ W.T).double()
        weight = W.double()
        scale = self.damping * inputs.square().mean()
        gram = outputs.T @ outputs / len(inputs) + scale * (weight @ weight.T)
        U = leading(gram, k).to(W.dtype)
        return U, U.T @ W
