"""Time truncated SVDs: svdbench's drivers, PyTorch's, scikit-learn's and SciPy's.

Each driver computes the first k singular triplets of matrices with polynomial, exponential,
stepped and flat spectra. The report compares times at equal error. A driver gets no time if its
factors are not orthonormal, if its error is below the smallest possible, or if it claims to be
exact and its singular values disagree with float64.

Writes results/time-svd/NAME: CSV tables of all samples and a summary, plots, the
configuration and the environment. Takes about ten minutes.

Examples:
    svdbench time-svd --quick
    svdbench time-svd --shapes 1024x1024 --ranks 10,64 --methods auto,torch_svd
"""

import re
from dataclasses import dataclass
from typing import Any

from svdbench.config.fields import members, option, section, several
from svdbench.job import Job
from svdbench.members import DRIVERS, refuse_repeated
from svdbench.timings.config import TimingConfig, methods_option

SPECTRA = ("polynomial", "exponential", "step", "gaussian")
SHAPE = r"([1-9]\d*)\s*[x×]\s*([1-9]\d*)"


@dataclass
class MatrixSizes:
    """Matrices of every shape, to every rank below their shorter side."""

    shapes: list[str] = option(
        ["15x784", "128x128", "256x512", "1024x1024", "2048x2048"],
        "shapes, rows x columns",
        typed="--shapes MxN,…",
        not_empty=True,
        quick=["15x784", "128x128", "512x512"],
    )
    ranks: list[int] = several(
        [10, 64, 256],
        "ranks; those not below the shorter side are skipped",
        "--ranks K,K,…",
        at_least=1,
        quick=[10, 64],
    )

    def check(self) -> None:
        refuse_repeated("sizes.shapes", ["{}x{}".format(*_shape(text)) for text in self.shapes])
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
    match = re.fullmatch(SHAPE, str(text))
    if match is None:
        raise ValueError(
            f"{text!r} is not a shape: write rows x columns, for example sizes.shapes=[15x784]"
        )
    return int(match[1]), int(match[2])


@dataclass
class TimeSVD(TimingConfig):
    sizes: MatrixSizes = section(MatrixSizes)
    spectra: list[str] = several(
        list(SPECTRA),
        "spectra of the matrices",
        "--spectra NAME,…",
        choices=SPECTRA,
        noun="spectrum",
    )
    svd_driver: dict[str, Any] = members(DRIVERS)
    methods: list[str] | None = methods_option(DRIVERS, "drivers to time, such as auto,torch_svd")


JOB = Job("time-svd", TimeSVD, __name__, panel="Timing", place=5)
