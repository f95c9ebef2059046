"""Randomised SVD: the range of a weight by random probes, then an SVD of what is in it."""

import torch
from torch import Tensor

from svdbench.lowrank import randomized_svd

from ._small import is_small, leading, projected, sampled
from .base import Compressor


class RSVD(Compressor):
    """About the nearest matrix of rank k, from k + oversampling probes cut back to k.

    Args:
        oversampling: probes beyond k; as many as the smaller side has make it exact.
        power_iterations: products with W Wᵀ that sharpen the range.
    """

    title = "randomised SVD"
    source = "Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011"

    def __init__(self, oversampling: int = 10, power_iterations: int = 2) -> None:
        for name, value in (("oversampling", oversampling), ("power_iterations", power_iterations)):
            if not (isinstance(value, int) and value >= 0):
                raise ValueError(f"{name} is {value!r}: give a whole number from 0 up")
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
