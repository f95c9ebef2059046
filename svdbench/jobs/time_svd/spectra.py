"""Matrices with singular values of the four kinds that low-rank methods are tried on.

* ``polynomial``: σᵢ = 1/i: a long tail, so that the best error is large, and hard to come
  near (Tropp, Yurtsever, Udell and Cevher, SIAM J. Matrix Anal. Appl. 38(4), 2017, §7).
* ``exponential``: σᵢ = e^(−8i/r), r = min(m, n): a constant ratio, with no gap anywhere.
* ``step``: r/8 equal values, the others a hundredth of them: a low rank in noise; ties.
* ``gaussian``: independent normal entries, an untrained layer: as flat as it gets, where power
  iterations gain least.
"""

import torch
from torch import Tensor


class Spectra:
    """Matrices (m, n) that share random singular vectors."""

    def __init__(self, m: int, n: int, seed: int) -> None:
        self.m, self.n = m, n
        self.generator = torch.Generator().manual_seed(seed)
        r = min(m, n)
        self.U, self.V = (torch.linalg.qr(self._normal(size, r)).Q for size in (m, n))

    def matrix(self, name: str) -> Tensor:
        """One of ``SPECTRA``, in float64; anything else is a KeyError."""
        if name == "gaussian":
            return self._normal(self.m, self.n)
        return (self.U * values(name, min(self.m, self.n))) @ self.V.mT

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def values(name: str, r: int) -> Tensor:
    """The r singular values, descending, of all kinds but ``gaussian``, in float64."""
    i = torch.arange(1, r + 1, dtype=torch.float64)
    return {
        "polynomial": 1 / i,
        "exponential": torch.exp(-8 * i / r),
        "step": torch.where(i <= max(r // 8, 1), torch.ones_like(i), 0.01),
    }[name]
