"""Judges of theorems: parameter counts, factorisations, expressiveness, the ceiling of SVD-DNN."""

from itertools import pairwise

import torch
from torch import Tensor

from svdbench.jobs.reproduce.evidence import Runs
from svdbench.jobs.reproduce.judges.trainings import put_curves
from svdbench.jobs.reproduce.numbers import CurvePoint, Evidence
from svdbench.kernels import apply_reflectors
from svdbench.members import MODELS
from svdbench.nn.reflectors import few_reflectors, positive_qr_reflectors
from svdbench.nn.spectral_weight import SpectralWeight, orthogonal_factors

SIZES = ((4, 2, 3), (7, 7, 7), (16, 1, 16), (32, 8, 24), (128, 64, 64))
INPUTS, OUTPUTS = 3, 5


def parameters(runs: Runs) -> Evidence:
    """Parameter counts and Theorems 1 and 2, checked on matrices; computed here, without runs.

    The largest difference of counts, and the largest errors of factorisations.
    """
    found = Evidence()
    found.exact("count_difference", max(_count_difference(*size) for size in SIZES))
    found.exact("theorem_1_error", _theorem_1())
    found.exact("theorem_2_error", _theorem_2(flip=False))
    found.exact("theorem_2_error_flipped", _theorem_2(flip=True))
    found.exact("printed_reach", _printed())
    return found


def _count_difference(n: int, m1: int, m2: int) -> float:
    """Parameters of a Spectral-RNN: counted, minus the report's formula."""
    model = MODELS.load(
        "spectral_rnn", input_size=INPUTS, output_size=OUTPUTS, hidden_size=n, m1=m1, m2=m2
    )
    formula = (OUTPUTS + INPUTS + m1 + m2 + 2) * n - (m1**2 + m2**2 - m1 - m2) / 2
    return abs(model.n_params - formula)


def _theorem_1() -> float:
    """‖UΣVᵀ − W‖/‖W‖ for random real W, also of low rank, with m₁ = m₂ = n; the largest."""
    generator = torch.Generator().manual_seed(1)
    errors = []
    for n in (2, 5, 16, 33):
        for rank in (n, n // 2):
            left, right = (_random(generator, n, rank) for _ in range(2))
            W = left @ right.mT
            values = torch.linalg.svdvals(W)
            radius = float(values.max())
            made = SpectralWeight(n, n, n, sigma=0.0, radius=2 * radius, init=W, dtype=W.dtype)
            errors.append(float((made().detach() - W).norm() / W.norm()))
    return max(errors)


def _theorem_2(flip: bool) -> float:
    """‖UVᵀ − Q‖ for random orthogonal Q and m₁ + m₂ = n; the largest.

    n reflectors have the determinant (−1)ⁿ; a Q of the other one (``flip``) has the
    eigenvalue 1 and takes n − 1, the last being u = 0, H(0) = I.
    """
    generator = torch.Generator().manual_seed(2)
    errors = []
    for n in (2, 3, 8, 17):
        for m1 in range(1, n):
            Q = torch.linalg.qr(_random(generator, n, n)).Q
            if torch.linalg.det(Q) * (-1) ** (n - flip) < 0:
                Q[:, -1].neg_()
            U, V = _one_less(Q, m1) if flip else orthogonal_factors(Q, m1, n - m1, 0)
            errors.append(float((_product(U, V) - Q).norm()))
    return max(errors)


def _one_less(Q: Tensor, m1: int) -> tuple[Tensor, Tensor]:
    """Rows of U and V with U Vᵀ = Q for m₁ + m₂ = n, one of them zero.

    The first m₁ − 1 columns are made those of I, and m₂ reflectors of the coordinates that
    are left make the rest; for m₂ > m₁ the same of Qᵀ, so that they have zeros enough.
    """
    n = len(Q)
    if n - m1 > m1:
        V, U = _one_less(Q.mT, n - m1)
        return U, V
    U, rest = positive_qr_reflectors(Q, m1 - 1)
    found = few_reflectors(rest[m1 - 1 :, m1 - 1 :].mT, n - m1, tol=1e-10)
    if found is None or (found[1] < 0).any():
        raise ArithmeticError(f"no {n - 1} reflectors were found for this matrix of size {n}")
    V = torch.nn.functional.pad(found[0], (m1 - 1, 0))
    return torch.cat([U, U.new_zeros(1, n)]), V


def _product(U: Tensor, V: Tensor) -> Tensor:
    eye = torch.eye(U.shape[-1], dtype=U.dtype)
    return apply_reflectors(U, apply_reflectors(V, eye, transpose=True))


def _printed() -> float:
    """How many dimensions the W that the report prints has, of the n² it should reach.

    Of H_k₁(u_k₁) diag(σ) H_k₂(v_k₂) ⋯ H_n(v_n) with m₁ = m₂ = n, so k₁ = k₂ = 1: n of σ,
    n(n − 1)/2 of the factors on the right, and none of H₁(u₁), which is a sign.
    """
    n = 16
    return (n + n * (n - 1) / 2) / n**2


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


COUNTS = ("few", "some", "many", "all")
N, TARGETS, STARTS, ITERATIONS = 12, 3, 2, 600


def expressiveness(runs: Runs) -> Evidence:
    """Expressiveness of m reflectors: adding with more of them, and their distance to a matrix.

    Losses by the number of reflectors, each over that of the fewer; distances to Q.
    """
    import pandas as pd

    found, tables = Evidence(), []
    for count in COUNTS:
        rows = runs.table(f"reflectors-{count}")
        found.mean(f"loss_{count}", rows["relative_loss"])
        samples = runs.table(f"reflectors-{count}", "samples")
        tables.append((count, rows.set_index("seed")["relative_loss"], samples))
    for (_, fewer, _), (name, more, _) in pairwise(tables):
        found.mean(f"{name}_over_fewer", more - fewer, "paired seed")
    put_curves(found, "loss", pd.concat([s.assign(model=c) for c, _, s in tables]), "relative_loss")
    _distances(found)
    return found


def _distances(found: Evidence) -> None:
    """Distances of random orthogonal matrices to fits by m₁ = m₂ = m/2 reflectors."""
    generator = torch.Generator().manual_seed(0)
    targets = [_special(generator) for _ in range(TARGETS)]
    worst = 0.0
    for m in range(2, N + 1, 2):
        pairs = [(_fitted(Q, m, generator), _nearest(Q, m)) for Q in targets]
        fitted, least = (sum(column) / TARGETS for column in zip(*pairs, strict=True))
        worst = max(worst, *(abs(a - b) for a, b in pairs))
        found.curves += [
            CurvePoint("fit", "fitted", m, fitted),
            CurvePoint("fit", "least possible", m, least),
        ]
        if m in (2, N // 2, N):
            found.mean(f"distance_{m}", [distance for distance, _ in pairs], "matrix", "matrices")
    found.exact("fit_error", worst)


def _special(generator: torch.Generator) -> Tensor:
    """A Haar orthogonal matrix with determinant 1, that of an even number of reflectors."""
    Q = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64)).Q
    if torch.linalg.det(Q) < 0:
        Q[:, 0].neg_()
    return Q


def _nearest(Q: Tensor, m: int) -> float:
    """The least ‖W − Q‖_F of all products W of m reflectors.

    n − m of the eigenvalues of such a W are 1. For normal matrices the distance is at least
    that of their eigenvalues, best matched (Hoffman and Wielandt, Duke Math. J. 20, 1953), so
    the m that are farthest from 1 are kept, in conjugate pairs, and the others made 1.
    """
    away = (torch.linalg.eigvals(Q) - 1).abs().square().sort().values
    return float(away[: N - m].sum().sqrt())


def _fitted(Q: Tensor, m: int, generator: torch.Generator) -> float:
    """The least ‖W − Q‖_F that L-BFGS finds from random starts."""
    best = float("inf")
    for _ in range(STARTS):
        weight = SpectralWeight(
            N, m // 2, m // 2, radius=0.0, init="random", generator=generator, dtype=torch.float64
        )
        parameters = [weight.U.free, weight.V.free]
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=ITERATIONS, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = (weight() - Q).square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        best = min(best, float((weight().detach() - Q).norm()))
    return best


# What was published, as the documents round it down: (run, φ, speed).
PUBLISHED = {
    "xor": ("xor-published", 0.1, 2.65),
    "cats": ("cats-published", 0.1, 1.455),
    "mnist": ("mnist-published", 0.1, 1.195),
    "mnist_0": ("mnist-published", 0.0, 1.2525),
}


def ceiling(runs: Runs) -> Evidence:
    """The highest possible speed of SVD-DNN by its multiplications, beside the published one.

    For each experiment: the ceiling, the published speed over it, and ours over it.
    """
    found = Evidence()
    for name, (run, phi, published) in PUBLISHED.items():
        arms = runs.table(run)
        own = arms[(arms["method"] != "dnn") & ((arms["phi"] - phi).abs() < 1e-9)]
        if own.empty:
            continue
        ceiling = float(own["ceiling"].median())
        found.exact(f"{name}_ceiling", ceiling)
        found.exact(f"{name}_published_over_ceiling", published / ceiling)
        found.mean(f"{name}_speed", own["speedup"], "seed's total times", "seeds' total times")
        found.mean(f"{name}_speed_over_ceiling", own["speedup"] / own["ceiling"])
    return found
