"""Square recurrent weights as products of reflectors: W = U diag(σ) Vᵀ, or W = U.

    U = H_n(u_n) H_{n−1}(u_{n−1}) ⋯ H_{n−m+1}(u_{n−m+1}),  and V likewise,

where ``H_k(u_k)``, u_k ∈ Rᵏ, acts on the last k coordinates: as a row of length n, u_k
starts with n − k zeros. Only the entries after them are parameters.

Sources: Zhang, Lei, Dhillon, "Stabilizing Gradients for Deep Neural Networks via Efficient
SVD Parameterization", ICML 2018 (σ as here); Mhammedi et al., "Efficient orthogonal
parametrisation of recurrent neural networks using Householder reflections", ICML 2017.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.arguments import as_integer, integer
from svdbench.kernels import apply_reflectors, reflector_matrix
from svdbench.nn.deferred import assign, holds_data
from svdbench.nn.reflectors import positive_qr_reflectors
from svdbench.nn.singular_values import IntervalSigma, Values

STARTS = ("henaff", "cayley", "identity", "random")


def start(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    """An orthogonal matrix (n, n) in float64, on the CPU.

    Args:
        name: "henaff", 2×2 rotations on the diagonal by angles uniform in [−π, π] (Henaff,
            Szlam, LeCun, ICML 2016); "cayley", by angles uniform in [0, π/2] (Helfrich,
            Willmott, Ye, ICML 2018); "identity"; "random", uniform (Haar measure).
            Where n is odd the last coordinate is not rotated.
        n: size.
        generator: random number generator; torch's default if None.

    Raises:
        ValueError: an unknown name.
    """
    if _known_start(name) == "identity":
        return torch.eye(n, dtype=torch.float64, device="cpu")
    if name == "random":
        G = torch.randn(n, n, dtype=torch.float64, device="cpu", generator=generator)
        Q, R = torch.linalg.qr(G)
        return Q * torch.where(R.diagonal() < 0, -1.0, 1.0)
    fractions = torch.rand(n // 2, dtype=torch.float64, device="cpu", generator=generator)
    return rotations(
        (2 * fractions - 1) * math.pi if name == "henaff" else fractions * math.pi / 2, n
    )


def _known_start(name: str) -> str:
    if name not in STARTS:
        raise ValueError(f"unknown init {name!r}: choose from {', '.join(STARTS)}")
    return name


def rotations(angles: Tensor, n: int) -> Tensor:
    """The block-diagonal matrix (n, n) that turns each two coordinates by an angle (n // 2,)."""
    Q = torch.eye(n, dtype=angles.dtype, device=angles.device)
    first = torch.arange(0, n - 1, 2, device=angles.device)
    Q[first, first] = Q[first + 1, first + 1] = angles.cos()
    Q[first + 1, first] = angles.sin()
    Q[first, first + 1] = -angles.sin()
    return Q


class TrapezoidalReflectors(nn.Module):
    """m reflectors as rows (m, n), the j-th with j leading zeros, which are not parameters.

    A row whose parameters are all zero is the identity, and has gradient zero.

    Args:
        m, n: shape of the rows.
        reset: starts the reflectors anew, together with those that they go with.
    """

    def __init__(
        self, m: int, n: int, reset: Callable[[], None], *, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.shape = torch.Size((m, n))
        entries = m * n - m * (m - 1) // 2
        self.free = nn.Parameter(torch.empty(entries, device=device, dtype=dtype))
        self.reset_parameters = reset

    def assign(self, rows: Tensor) -> None:
        """Copy the entries of ``rows`` (m, n), except for the leading zeros."""
        first, second = torch.triu_indices(*self.shape, device=rows.device).unbind(0)
        assign(self.free, rows[first, second])

    def forward(self) -> Tensor:
        # Indices would be state that state_dict doesn't hold: absent after to_empty().
        first, second = torch.triu_indices(*self.shape, device=self.free.device).unbind(0)
        flat = self.free.new_zeros(self.shape.numel())
        return flat.scatter(0, first * self.shape[1] + second, self.free).view(self.shape)


class SpectralWeight(nn.Module):
    """A matrix W = U diag(σ) Vᵀ (n, n) with σᵢ = 2r(sigmoid(σ̂ᵢ) − ½) + σ*, in [σ* − r, σ* + r].

    The initial value is σ*·Q for an orthogonal Q. It is exact if m₁ + m₂ ≥ n and det
    Q = (−1)^(m₁ + m₂), or m₁ = n, or m₂ = n. Otherwise it is approximate: if only the determinant
    is wrong, one column of Q is negated; if there are too few reflectors, they match the first m₁
    columns of Q and then the next m₂ rows, so that the first (m₁ + m₂)/2 rotations are exact and
    the other coordinates are unchanged. m₁ = m₂ = n can represent every real matrix with singular
    values in the interval (Zhang et al., Theorem 1).

    Args:
        n: size of W.
        m1, m2: number of reflectors of U and V, 1 … n.
        sigma: σ*, the centre of the interval.
        radius: r ≥ 0, half its width.
        init: Q. "henaff", 2×2 rotations on the diagonal by angles uniform in [−π, π] (Henaff,
            Szlam, LeCun, ICML 2016); "cayley", by angles uniform in [0, π/2] (Helfrich, Willmott,
            Ye, ICML 2018); "identity"; "random", uniform (Haar). Or the initial W itself (n, n),
            with singular values in the interval, for m₁ = m₂ = n only.
        generator: random number generator, on the CPU; torch's default if None.

    Raises:
        ValueError: m₁ or m₂ out of range, r < 0, an unknown init, or a matrix that can't be
            represented.

    Example:
        >>> weight = SpectralWeight(8, 8, 8, sigma=1.0, radius=0.1)
        >>> bool((torch.linalg.svdvals(weight()) - 1).abs().max() <= 0.1)
        True
    """

    def __init__(
        self,
        n: int,
        m1: int,
        m2: int,
        *,
        sigma: float = 1.0,
        radius: float = 0.01,
        init: str | Tensor = "henaff",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        n = integer("n", n, 1)
        m1, m2 = _count("m1", m1, n), _count("m2", m2, n)
        self.n, self.m1, self.m2 = n, m1, m2
        values: Values = sigma
        self.init: str | Tensor
        if isinstance(init, Tensor):
            if init.shape != (n, n) or m1 < n or m2 < n:
                raise ValueError(
                    f"starting at a given matrix needs m1 = m2 = {n} and a matrix of {n}×{n}, "
                    f"not m1 = {m1}, m2 = {m2} and {tuple(init.shape)}"
                )
            self.init = init.detach()
            values = _singular_values_within(self.init, sigma, radius)
        else:
            self.init = _known_start(init)
        place = {"device": device, "dtype": dtype}
        self.U = TrapezoidalReflectors(m1, n, self.reset_parameters, **place)
        self.V = TrapezoidalReflectors(m2, n, self.reset_parameters, **place)
        self.singular_values = IntervalSigma(n, sigma, radius, values, **place)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialise the parameters again, with a new Q if ``init`` is random."""
        self.singular_values.reset_parameters()
        if not (holds_data(self.U.free) or holds_data(self.V.free)):
            return
        if isinstance(self.init, Tensor):
            U, V = _factors_of(self.init)
        else:
            # Flipping coordinates twice, H(eⱼ) in both U and V, changes nothing, but there
            # the map from reflectors to W has full rank, which it hasn't where columns of
            # U are those of I. So that is what the spare reflectors do.
            m1, m2 = self.m1, self.m2
            flips = min(m1, m2) if self.init == "identity" else max(m1 + m2 - self.n, 0)
            U, V = orthogonal_factors(start(self.init, self.n, generator), m1, m2, flips)
        self.U.assign(U)
        self.V.assign(V)

    def forward(self) -> Tensor:
        """W (n, n); costs about 4n²(m₁ + m₂) operations."""
        Vt = reflector_matrix(self.V(), transpose=True)
        return apply_reflectors(self.U(), self.sigma().unsqueeze(-1) * Vt)

    def sigma(self) -> Tensor:
        """The singular values of W (n,), in the order of the factors, not sorted."""
        values: Tensor = self.singular_values()
        return values

    @property
    def n_free(self) -> int:
        """Number of parameters: (m₁ + m₂ + 1)n − (m₁² + m₂² − m₁ − m₂)/2."""
        return sum(p.numel() for p in self.parameters())

    def extra_repr(self) -> str:
        return f"n={self.n}, m1={self.m1}, m2={self.m2}"


class OrthogonalWeight(nn.Module):
    """An orthogonal matrix W = U (n, n), a product of m reflectors.

    The initial value is Q = ``init``, exact or approximate as in :class:`SpectralWeight` with
    m₁ = m and m₂ = 0. m = n can represent every orthogonal matrix. If all parameters are zero,
    W = I.

    Args:
        n: size of W.
        m: number of reflectors, 1 … n.
        init: "henaff", "cayley", "identity" or "random".
        generator: random number generator, on the CPU; torch's default if None.

    Raises:
        ValueError: m out of range or an unknown init.

    Example:
        >>> W = OrthogonalWeight(8, 4)()
        >>> bool(torch.dist(W.T @ W, torch.eye(8)) < 1e-4)
        True
    """

    def __init__(
        self,
        n: int,
        m: int,
        *,
        init: str = "henaff",
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        n = integer("n", n, 1)
        m = _count("m", m, n)
        self.n, self.m, self.init = n, m, _known_start(init)
        self.U = TrapezoidalReflectors(m, n, self.reset_parameters, device=device, dtype=dtype)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialise the parameters again, with a new Q if ``init`` is random."""
        if holds_data(self.U.free):
            U, _ = orthogonal_factors(start(self.init, self.n, generator), self.m, 0, 0)
            self.U.assign(U)

    def forward(self) -> Tensor:
        """W (n, n); costs about 4n²m operations."""
        return reflector_matrix(self.U())

    def sigma(self) -> Tensor:
        """The singular values of W (n,): ones."""
        return self.U.free.new_ones(self.n)

    @property
    def n_free(self) -> int:
        """Number of parameters: mn − m(m − 1)/2."""
        return self.U.free.numel()

    def extra_repr(self) -> str:
        return f"n={self.n}, m={self.m}"


def orthogonal_factors(Q: Tensor, m1: int, m2: int, flips: int) -> tuple[Tensor, Tensor]:
    """Trapezoidal reflectors with U Vᵀ = Q, or as near as ``SpectralWeight`` says.

    With D = −1 on the first ``flips`` coordinates and 1 on the others: U takes m₁ columns
    of QD to those of I, which leaves diag(I, Q'); V is D, then what takes Q'ᵀ to I.

    Args:
        Q: orthogonal, (n, n), float64.
        m1, m2: number of reflectors of U and V.
        flips: at most m₁ and m₂.

    Returns:
        Rows of U (m1, n) and of V (m2, n), in float64.
    """
    n = len(Q)
    D = torch.ones_like(Q[0])
    D[:flips] = -1
    U, rest = positive_qr_reflectors(Q * D, m1)
    _mend_sign(U, rest)
    V = torch.eye(m2, n, dtype=Q.dtype, device=Q.device)
    used = min(m2 - flips, n - m1)
    lower, rest = positive_qr_reflectors(rest[m1:, m1:].mT, used)
    V[flips : flips + used] = torch.nn.functional.pad(lower, (m1, 0))
    _mend_sign(V, rest)
    return U, V


def _mend_sign(rows: Tensor, rest: Tensor) -> None:
    """With n rows the last one is a mere sign, ±1 on the last coordinate: −1, or 0 for 1."""
    if len(rows) == rows.shape[-1] and rest.numel() and rest[-1, -1] < 0:
        rows[-1] = 0


def _singular_values_within(W: Tensor, sigma: float, radius: float) -> Tensor | float:
    """The singular values of W, if they are in [σ* − r, σ* + r]; σ* if W holds no data."""
    if not holds_data(W):
        return sigma
    values = torch.linalg.svdvals(W.to("cpu", torch.float64))
    off = (values - sigma).abs().max().item() - radius
    if off > len(W) * torch.finfo(W.dtype).eps * values.max().item():
        raise ValueError(
            f"the matrix has a singular value {off:.2g} outside [sigma - radius, "
            f"sigma + radius] = [{sigma - radius}, {sigma + radius}]: widen the interval"
        )
    return values


def _factors_of(W: Tensor) -> tuple[Tensor, Tensor]:
    """U and V of a given matrix, in float64, by its singular value decomposition."""
    P, _, Rt = torch.linalg.svd(W.to("cpu", torch.float64))
    U, _ = orthogonal_factors(P, len(W), 0, 0)
    V, _ = orthogonal_factors(Rt.mT, len(W), 0, 0)
    return U, V


def _count(name: str, m: Any, n: int) -> int:
    found = as_integer(m)
    if found is None or not 1 <= found <= n:
        raise ValueError(f"{name}, a number of reflectors, must be from 1 to n = {n}, not {m!r}")
    return found
