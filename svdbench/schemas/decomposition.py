"""Configuration of the job that times drivers of the truncated SVD."""

import re
from dataclasses import dataclass, field
from typing import Any

from svdbench.members import refuse_unknown
from svdbench.schemas.base import at_least, each_once
from svdbench.schemas.timing import Measured

# Those of svdbench.svd_drivers.spectra, named here too as they must not wait for torch.
SPECTRA = ("polynomial", "exponential", "step", "gaussian")


@dataclass
class MatrixSizes:
    """Matrices of every shape, to every rank below their shorter side.

    Attributes:
        shapes: each as ``MxN``.
        ranks: how many singular triplets.
    """

    shapes: list[str] = field(
        default_factory=lambda: ["15x784", "128x128", "256x512", "1024x1024", "2048x2048"]
    )
    ranks: list[int] = field(default_factory=lambda: [10, 64, 256])

    def __post_init__(self) -> None:
        shapes = ["{}x{}".format(*_shape(text)) for text in self.shapes]
        each_once(**{"sizes.shapes": shapes})
        each_once(**{"sizes.ranks": self.ranks})
        for rank in self.ranks:
            at_least(1, **{"sizes.ranks": rank})
        if not self.cases():
            raise ValueError(
                f"sizes.ranks has no rank below the shorter side of any shape: {min(self.ranks)} "
                "is too many for all of them"
            )

    def cases(self) -> list[tuple[int, int, list[int]]]:
        """(m, n, ranks) of every shape, the ranks ascending and below min(m, n); smallest first."""
        found = []
        for m, n in sorted(map(_shape, self.shapes), key=lambda shape: shape[0] * shape[1]):
            ranks = sorted(k for k in self.ranks if k < min(m, n))
            if ranks:
                found.append((m, n, ranks))
        return found


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)\s*[x×]\s*([1-9]\d*)", str(text))
    if match is None:
        raise ValueError(f"{text!r} is no shape: write rows x columns, as in sizes.shapes=[15x784]")
    return int(match[1]), int(match[2])


@dataclass
class TimeSVD(Measured):
    """``svdbench time-svd``."""

    sizes: MatrixSizes = field(default_factory=MatrixSizes)
    spectra: list[str] = field(default_factory=lambda: list(SPECTRA))
    svd_driver: dict[str, Any] = field(default_factory=dict)
    methods: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        from svdbench.members import DRIVERS

        each_once(spectra=self.spectra, methods=self.methods)
        refuse_unknown("spectrum", self.spectra, SPECTRA)
        if self.methods is not None:
            DRIVERS.check(self.methods)
