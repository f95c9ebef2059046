"""Parameter counts and Theorems 1 and 2, checked on matrices; computed here, without runs."""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors
from svdbench.members import MODELS
from svdbench.nn.reflectors import few_reflectors, positive_qr_reflectors
from svdbench.nn.spectral_weight import SpectralWeight, orthogonal_factors
from svdbench.reproduce.numbers import Measured
from svdbench.reproduce.runs import Runs

SIZES = ((4, 2, 3), (7, 7, 7), (16, 1, 16), (32, 8, 24), (128, 64, 64))
INPUTS, OUTPUTS = 3, 5


def measure(runs: Runs) -> Measured:
    """The largest difference of counts, and the largest errors of factorisations."""
    found = Measured()
    found.exact("count_difference", max(_count_difference(*size) for size in SIZES))
    found.exact("theorem_1_error", _theorem_1())
    found.exact("theorem_2_error", _theorem_2(flip=False))
    found.exact("theorem_2_error_flipped", _theorem_2(flip=True))
    found.exact("printed_reach", _printed())
    return found


def _count_difference(n: int, m1: int, m2: int) -> float:
    """Of the parameters of a Spectral-RNN, counted, and the formula of the report."""
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
