"""What a step costs as a function of the block size: a few terms, fitted to measurements.

With n reflectors of length d, m columns and blocks of k,

    t(k) = a + f·[k < n] + ⌈n/k⌉·(b + g·dm) + c·ndk + e·ndm        seconds.

The steps wait for each other: each costs a dispatch, b, and takes the state of d × m
numbers through memory, g a number. Larger blocks have larger Gram matrices, c for each
of the ndk numbers that go into them, forward and backward; e likewise for the products
with X; f is what blocks cost that a single one (CWY) is spared. No coefficient is
negative. Left out: the n·k² of the triangles, which show where k is near d or beyond.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls


class Shape(NamedTuple):
    """Reflectors (n, d) in blocks of k, applied to d × m."""

    n: int
    d: int
    m: int
    k: int

    @property
    def steps(self) -> int:
        return -(-self.n // self.k)


@dataclass(frozen=True)
class Term:
    """``factor`` as people write it, and its value."""

    factor: str
    of: Callable[[Shape], float]


TERMS = {
    "fixed": Term("1", lambda s: 1),
    "blocks": Term("[k < n]", lambda s: s.k < s.n),
    "step": Term("⌈n/k⌉", lambda s: s.steps),
    "state": Term("⌈n/k⌉dm", lambda s: s.steps * s.d * s.m),
    "gram": Term("ndk", lambda s: s.n * s.d * s.k),
    "product": Term("ndm", lambda s: s.n * s.d * s.m),
}


@dataclass(frozen=True)
class CostModel:
    """Seconds for each term, and how far the fit is from what it was fitted to.

    Attributes:
        seconds: coefficient by the name of its term.
        errors: relative, one for each measurement.
    """

    seconds: dict[str, float]
    errors: tuple[float, ...]

    @property
    def median_error(self) -> float:
        return median(self.errors)

    def step_s(self, shape: Shape) -> float:
        """Seconds of a step."""
        return sum(s * TERMS[name].of(shape) for name, s in self.seconds.items())

    def optimum(self, d: int, m: int) -> float | None:
        """√(b/(cd) + gm/c), where t(k) is smallest if k may be any number; whatever n is.

        None where the fit found no cost that grows with k.
        """
        b, g, c = (self.seconds[name] for name in ("step", "state", "gram"))
        return math.sqrt((b / d + g * m) / c) if c > 0 else None


def fit(step_s: dict[Shape, float]) -> CostModel:
    """The coefficients that minimise the sum of squared relative errors."""
    if not step_s:
        raise ValueError("no step times to fit: measure at least one block size")
    factors = np.array([[term.of(shape) for term in TERMS.values()] for shape in step_s], float)
    relative = factors / np.array([*step_s.values()])[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1  # a term that no shape has
    found = nnls(relative / scale, np.ones(len(step_s)))[0] / scale
    errors = np.abs(relative @ found - 1)
    return CostModel(dict(zip(TERMS, found.tolist(), strict=True)), tuple(errors.tolist()))
