"""Square recurrent weights as products of reflectors: W = U diag(σ) Vᵀ, or W = U.

    U = H_n(u_n) H_{n−1}(u_{n−1}) ⋯ H_{n−m+1}(u_{n−m+1}),  and V likewise,

where ``H_k(u_k)``, u_k ∈ Rᵏ, acts on the last k coordinates: as a row of length n, u_k
starts with n − k zeros. Only the entries after them are parameters.

Sources: Zhang, Lei, Dhillon, "Stabilizing Gradients for Deep Neural Networks via Efficient
SVD Parameterization", ICML 2018 (σ as here); Mhammedi et al., "Efficient orthogonal
parametrisation of recurrent neural networks using Householder reflections", ICML 2017.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.arguments import as_integer, integer
from svdbench.kernels import apply_reflectors
from svdbench.nn.reflectors import positive_qr_reflectors

Values = float | Tensor


class FreeSigma(nn.Module):
    """σ is the parameter itself, of any sign."""

    def __init__(self, n: int, values: Values, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.raw = _parameter(n, values, device, dtype)

    def forward(self) -> Tensor:
        return self.raw


class ClippedSigma(nn.Module):
    """σ is the parameter, clipped to [lo, hi].

    The gradient goes through unless it would push a clipped value further out: with that of
    ``torch.clamp`` a value that once left the interval could never come back.

    Raises:
        ValueError: lo > hi.
    """

    def __init__(
        self, n: int, lo: float, hi: float, values: Values, *, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        if not lo <= hi:
            raise ValueError(f"singular values cannot be clipped to [{lo}, {hi}]: give lo ≤ hi")
        self.lo, self.hi = lo, hi
        self.raw = _parameter(n, values, device, dtype)
        with torch.no_grad():
            self.raw.clamp_(lo, hi)

    def forward(self) -> Tensor:
        clipped: Tensor = _Clip.apply(self.raw, self.lo, self.hi)
        return clipped

    def extra_repr(self) -> str:
        return f"lo={self.lo}, hi={self.hi}"


class IntervalSigma(nn.Module):
    """σ = 2r(sigmoid(σ̂) − ½) + σ*, which lies in [σ* − r, σ* + r]; σ̂ is the parameter.

    Source: Zhang, Lei, Dhillon, ICML 2018.

    Raises:
        ValueError: r < 0.
    """

    def __init__(
        self,
        n: int,
        center: float,
        radius: float,
        values: Values,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if not radius >= 0:
            raise ValueError(f"the radius about sigma = {center} must be 0 or more, not {radius}")
        self.center, self.radius = center, radius
        offset = torch.as_tensor(values, dtype=torch.float64) - center
        self.raw = _parameter(n, 0.5 + offset / (2 * radius) if radius else 0.5, device, dtype)
        with torch.no_grad():  # the ends of the interval would be at infinity
            self.raw.logit_(eps=torch.finfo(self.raw.dtype).eps)

    def forward(self) -> Tensor:
        return 2 * self.radius * (self.raw.sigmoid() - 0.5) + self.center

    def extra_repr(self) -> str:
        return f"center={self.center}, radius={self.radius}"


class _Clip(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(raw: Tensor, lo: float, hi: float) -> Tensor:
        return raw.clamp(lo, hi)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        raw, ctx.lo, ctx.hi = inputs
        ctx.save_for_backward(raw)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (raw,) = ctx.saved_tensors
        outward = ((raw < ctx.lo) & (grad > 0)) | ((raw > ctx.hi) & (grad < 0))
        return grad.masked_fill(outward, 0), None, None


def _parameter(n: int, values: Values, device: Any, dtype: Any) -> nn.Parameter:
    dtype = dtype or torch.get_default_dtype()
    values = torch.as_tensor(values, dtype=torch.float64)
    return nn.Parameter(values.to(device, dtype).expand(n).clone())


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


class TrapezoidalReflectors(nn.Module):
    """m reflectors as rows (m, n), the j-th with j zeros in front, which are no parameters."""

    places: Tensor

    def __init__(self, rows: Tensor, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.shape = rows.shape
        places = torch.ones(rows.shape).triu().flatten().nonzero().squeeze(-1)
        dtype = dtype or torch.get_default_dtype()
        self.free = nn.Parameter(rows.flatten()[places].to(device, dtype))
        self.register_buffer("places", places.to(device), persistent=False)

    def forward(self) -> Tensor:
        flat = self.free.new_zeros(self.shape.numel())
        return flat.scatter(0, self.places, self.free).view(self.shape)


class SpectralWeight(nn.Module):
    """W = U diag(σ) Vᵀ (n, n) with σᵢ = 2r(sigmoid(σ̂ᵢ) − ½) + σ*, in [σ* − r, σ* + r].

    It starts at σ*·Q for an orthogonal Q. Which Q are within reach: all if m₁ + m₂ ≥ n and
    det Q = (−1)^(m₁ + m₂), or m₁ = n, or m₂ = n. Otherwise, as near as it gets: if only
    the determinant is wrong, with one column of Q negated; if the reflectors are too few,
    they make the first m₁ columns as those of Q, and then the next m₂ rows, and change
    nothing else, which is to say that the first (m₁ + m₂)/2 rotations are made, and the
    other coordinates remain as they are. m₁ = m₂ = n reach every real matrix with singular
    values in the interval (Zhang et al., Theorem 1).

    Args:
        n: size of W.
        m1, m2: number of reflectors of U and V, 1 … n.
        sigma: σ*, the centre of the interval.
        radius: r ≥ 0, half its width.
        init: Q. "henaff", 2×2 rotations on the diagonal by angles uniform in [−π, π]
            (Henaff, Szlam, LeCun, ICML 2016); "cayley", by angles uniform in [0, π/2]
            (Helfrich, Willmott, Ye, ICML 2018); "identity"; "random", uniform (Haar). Or
            a matrix W (n, n) to start at, with singular values in the interval, for
            m₁ = m₂ = n only.
        generator: where random numbers come from, on the CPU; torch's own by default.

    Raises:
        ValueError: m₁ or m₂ out of range, r < 0, an unknown init, or a matrix out of reach.
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
        values: float | Tensor = sigma
        if isinstance(init, Tensor):
            U, values, V = _factors_of(init, n, m1, m2)
            off = (values - sigma).abs().max().item() - radius
            if off > n * torch.finfo(init.dtype).eps * values.max().item():
                raise ValueError(
                    f"the matrix has a singular value {off:.2g} outside [sigma - radius, "
                    f"sigma + radius] = [{sigma - radius}, {sigma + radius}]: widen the interval"
                )
        else:
            # Flipping coordinates twice, H(eⱼ) in both U and V, changes nothing, but there
            # the map from reflectors to W has full rank, which it hasn't where columns of
            # U are those of I. So that is what the spare reflectors do.
            flips = min(m1, m2) if init == "identity" else max(m1 + m2 - n, 0)
            U, V = orthogonal_factors(start(init, n, generator), m1, m2, flips)
        self.U = TrapezoidalReflectors(U, device, dtype)
        self.V = TrapezoidalReflectors(V, device, dtype)
        self.singular_values = IntervalSigma(n, sigma, radius, values, device=device, dtype=dtype)

    def forward(self) -> Tensor:
        """W (n, n); costs two products of reflectors, 4n²(m₁ + m₂) operations."""
        eye = torch.eye(self.n, dtype=self.U.free.dtype, device=self.U.free.device)
        Vt = apply_reflectors(self.V(), eye, transpose=True)
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
    """W = U (n, n), orthogonal, a product of m reflectors.

    It starts at Q = ``init``, as in :class:`SpectralWeight`, within the same limits for
    m₁ = m and m₂ = 0. m = n reaches every orthogonal matrix.

    Args:
        n: size of W.
        m: number of reflectors, 1 … n.
        init: "henaff", "cayley", "identity" or "random".
        generator: where random numbers come from, on the CPU; torch's own by default.

    Raises:
        ValueError: m out of range or an unknown init.
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
        self.n, self.m = n, m
        U, _ = orthogonal_factors(start(init, n, generator), m, 0, 0)
        self.U = TrapezoidalReflectors(U, device, dtype)

    def forward(self) -> Tensor:
        """W (n, n); costs one product of reflectors, 4n²m operations."""
        eye = torch.eye(self.n, dtype=self.U.free.dtype, device=self.U.free.device)
        return apply_reflectors(self.U(), eye)

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
    V = torch.eye(m2, n, dtype=Q.dtype)
    used = min(m2 - flips, n - m1)
    lower, rest = positive_qr_reflectors(rest[m1:, m1:].mT, used)
    V[flips : flips + used] = torch.nn.functional.pad(lower, (m1, 0))
    _mend_sign(V, rest)
    return U, V


def _mend_sign(rows: Tensor, rest: Tensor) -> None:
    """With n rows the last one is a mere sign, ±1 on the last coordinate: −1, or 0 for 1."""
    if len(rows) == rows.shape[-1] and rest.numel() and rest[-1, -1] < 0:
        rows[-1] = 0


def _factors_of(W: Tensor, n: int, m1: int, m2: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, σ and V of a given matrix, in float64, by its singular value decomposition."""
    if W.shape != (n, n) or m1 < n or m2 < n:
        raise ValueError(
            f"starting at a given matrix needs m1 = m2 = {n} and a matrix of {n}×{n}, "
            f"not m1 = {m1}, m2 = {m2} and {tuple(W.shape)}"
        )
    P, values, Rt = torch.linalg.svd(W.detach().to("cpu", torch.float64))
    U, _ = orthogonal_factors(P, n, 0, 0)
    V, _ = orthogonal_factors(Rt.mT, n, 0, 0)
    return U, values, V


def _count(name: str, m: Any, n: int) -> int:
    found = as_integer(m)
    if found is None or not 1 <= found <= n:
        raise ValueError(f"{name}, a number of reflectors, must be from 1 to n = {n}, not {m!r}")
    return found
