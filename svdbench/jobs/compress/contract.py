"""What every compressor must do."""

import torch
from torch import Tensor

from svdbench.contract import Contract, Make, expect, expect_tensor, expect_texts
from svdbench.jobs.compress.compressors import Compressor

CONTRACT = Contract()
SHAPES = ((15, 40), (40, 15), (15, 15), (80, 90))
RANK = 6


def factors(compressor: Compressor, W: Tensor, k: int = RANK) -> tuple[Tensor, Tensor]:
    """Two factors from W, inputs (50, n) and a generator, all seeded."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, W.shape[1], generator=generator, dtype=torch.float64).to(W.dtype)
    return compressor.factors(W, k, inputs, generator)


def weight(m: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(m, n, generator=generator, dtype=torch.float64).to(dtype)


@CONTRACT.question("says what it is: title and source")
def described(make: Make) -> None:
    expect_texts(make(), "title", "source")
    needs = make().needs_inputs
    expect(isinstance(needs, bool), f"needs_inputs is {needs!r}", "set it to True or False")


@CONTRACT.question("keeps at least the rank asked for")
def kept(make: Make) -> None:
    found = make().kept(5)
    advice = "return a whole number of at least the rank"
    expect(isinstance(found, int) and found >= 5, f"kept(5) is {found!r}", advice)


@CONTRACT.question("returns factors (m, k) and (k, n) of the dtype and device of W")
def shapes(make: Make) -> None:
    for m, n in SHAPES:
        for dtype in (torch.float32, torch.float64):
            W = weight(m, n, dtype)
            found = factors(make(), W)
            expect(
                isinstance(found, tuple) and len(found) == 2,
                f"factors returned {len(found) if isinstance(found, tuple) else 'no'} factors",
                "return a tuple (left, right)",
            )
            expect_tensor(found[0], "the left factor", (m, RANK), W)
            expect_tensor(found[1], "the right factor", (RANK, n), W)


@CONTRACT.question(
    "comes within twice the least error",
    "keep the leading singular directions of W, or of W and its inputs",
)
def near(make: Make) -> None:
    for m, n in SHAPES:
        W = weight(m, n, torch.float64)
        left, right = factors(make(), W)
        error = float((W - left @ right).norm())
        least = float(torch.linalg.svdvals(W)[RANK:].norm())
        expect(
            error <= 2 * least,
            f"{m} × {n}, rank {RANK}: the error is {error / least:.2f} times the least",
        )


@CONTRACT.question("changes nothing in a weight that has the rank already")
def exact(make: Make) -> None:
    W = weight(15, 4, torch.float64) @ weight(4, 40, torch.float64)
    left, right = factors(make(), W, 4)
    error = float((W - left @ right).norm() / W.norm())
    expect(error <= 1e-6, f"the relative error is {error:.1e}", "project on the range of W")


@CONTRACT.question("leaves W unchanged", "work on a copy of W")
def input_unchanged(make: Make) -> None:
    W = weight(15, 40)
    before = W.clone()
    factors(make(), W)
    expect(torch.equal(W, before), "W has other values after factors")


@CONTRACT.question(
    "repeats itself from the same generator",
    "draw every random number with generator=generator",
)
def repeats(make: Make) -> None:
    W = weight(80, 90)
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            left, right = factors(make(), W)
            found.append(left @ right)
    apart = float((found[0] - found[1]).norm() / found[0].norm())
    expect(apart <= 1e-5, f"two calls differ by {apart:.1e}")
