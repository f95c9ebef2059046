"""Orthogonal matrices that recurrent networks start at."""

import math

import torch
from torch import Tensor

STARTS = ("henaff", "cayley", "identity", "random")


def start(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    """An orthogonal matrix (n, n) in float64, on the CPU.

    Args:
        name: "henaff", 2×2 rotations on the diagonal by angles uniform in [−π, π] (Henaff,
            Szlam, LeCun, ICML 2016); "cayley", by angles uniform in [0, π/2] (Helfrich,
            Willmott, Ye, ICML 2018); "identity"; "random", uniform (Haar measure).
            Where n is odd the last coordinate is not rotated.
        n: size.
        generator: where random numbers come from; torch's own by default.

    Raises:
        ValueError: an unknown name.
    """
    if name not in STARTS:
        raise ValueError(f"unknown init {name!r}: choose from {', '.join(STARTS)}")
    if name == "identity":
        return torch.eye(n, dtype=torch.float64, device="cpu")
    if name == "random":
        G = torch.randn(n, n, dtype=torch.float64, device="cpu", generator=generator)
        Q, R = torch.linalg.qr(G)
        return Q * torch.where(R.diagonal() < 0, -1.0, 1.0)
    fractions = torch.rand(n // 2, dtype=torch.float64, device="cpu", generator=generator)
    return rotations(
        (2 * fractions - 1) * math.pi if name == "henaff" else fractions * math.pi / 2, n
    )


def rotations(angles: Tensor, n: int) -> Tensor:
    """The block-diagonal matrix (n, n) that turns each two coordinates by an angle (n // 2,)."""
    Q = torch.eye(n, dtype=angles.dtype, device=angles.device)
    first = torch.arange(0, n - 1, 2, device=angles.device)
    Q[first, first] = Q[first + 1, first + 1] = angles.cos()
    Q[first + 1, first] = angles.sin()
    Q[first, first + 1] = -angles.sin()
    return Q
