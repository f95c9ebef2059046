"""``SVDLinear``: a linear layer stored as its singular value decomposition."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.arguments import as_integer, integer
from svdbench.kernels import apply_reflectors, reflector_matrix
from svdbench.nn import factored
from svdbench.nn.deferred import assign, holds_data, of_first_process
from svdbench.nn.factored import SlogDet
from svdbench.nn.reflectors import qr_reflectors
from svdbench.nn.rows import expected_rows, map_rows
from svdbench.nn.singular_values import ClippedSigma, FreeSigma, IntervalSigma, Values

Sigma = str | Sequence[float]


class SVDLinear(nn.Module):
    """y = W x + b with W = U Σ Vᵀ, where U and V are products of Householder reflectors.

    Used like ``torch.nn.Linear``. W has r = min(out_features, in_features) singular values, given
    by :meth:`sigma`. Fixed signs (``signs``, ±1) multiply them, so that W can have either
    determinant. What takes O(d³) for a dense weight is cheap here: :meth:`inverse`,
    :meth:`slogdet`, :meth:`spectral_norm`, :meth:`condition_number`.

    A forward pass of N rows either applies the factors to them or builds W and multiplies,
    whichever takes fewer operations: a square layer with all reflectors builds W from N = 5/3·d
    rows on. A graph of ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` works for any N
    and does what is cheaper for 256 rows.

    U and V are initialised uniformly (Haar measure, given all reflectors), and all σ to
    √(out_features/r), so that outputs have the mean square of the inputs; to the nearest value in
    ``clip`` if clipped, and to σ* for a pair. The bias is initialised as in ``torch.nn.Linear``.

    Args:
        in_features, out_features: sizes of x (..., in_features) and y (..., out_features).
        bias: whether to add b.
        n_reflectors: number of reflectors of U and of V, 1 … r; by default r, which can represent
            every W.
        sigma: "free"; "clipped", to the interval ``clip``; or a pair (σ*, r), for
            σ = 2r(sigmoid(σ̂) − ½) + σ*, in [σ* − r, σ* + r].
        clip: (lo, hi), used if sigma is "clipped".

    Raises:
        TypeError: sizes that are not whole numbers.
        ValueError: sizes below 1, n_reflectors out of range, an unknown sigma, lo > hi, r < 0,
            a dtype that is not real floating point.

    Example:
        >>> layer = SVDLinear(64, 64, sigma=(1.0, 0.1))
        >>> x = torch.randn(64, 5)
        >>> bool(torch.dist(layer.inverse(layer.weight @ x), x) < 1e-3)
        True

    Sources: Zhang, Lei, Dhillon, "Stabilizing Gradients for Deep Neural Networks via
    Efficient SVD Parameterization", ICML 2018; Mathiasen et al., "What if Neural Networks
    had SVDs?", NeurIPS 2020.
    """

    signs: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        n_reflectors: int | None = None,
        sigma: Sigma = "free",
        clip: Sequence[float] = (0.0, 1.0),
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        in_features = integer("in_features", in_features)
        out_features = integer("out_features", out_features)
        if in_features < 1 or out_features < 1:
            raise ValueError(f"sizes must be 1 or more, not {in_features} and {out_features}")
        r = min(in_features, out_features)
        n = r if n_reflectors is None else as_integer(n_reflectors)
        if n is None or not 1 <= n <= r:
            raise ValueError(
                f"n_reflectors must be a whole number from 1 to {r} for a layer of {out_features}×"
                f"{in_features}, not {n_reflectors!r}; None takes {r}, enough for all"
            )
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"the factors are real floating-point numbers, not {dtype}")
        self.in_features, self.out_features, self.n_reflectors = in_features, out_features, n
        place = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        center = math.sqrt(out_features / r) if isinstance(sigma, str) else sigma[0]
        self.singular_values: FreeSigma | ClippedSigma | IntervalSigma
        self.singular_values = _singular_values(sigma, clip, r, center, place)
        self.U = nn.Parameter(torch.empty(n, out_features, **place))
        self.V = nn.Parameter(torch.empty(n, in_features, **place))
        self.register_buffer("signs", torch.empty(r, **place))
        self.bias = nn.Parameter(torch.empty(out_features, **place)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new U, V and bias, and set the singular values to their initial values."""
        if not holds_data(self.U):
            return
        self.singular_values.reset_parameters()
        work = torch.promote_types(self.U.dtype, torch.float32)
        signs = torch.ones_like(self.signs)
        for rows in (self.U, self.V):
            # The Q factor of a Gaussian matrix is uniform, given the signs of R (Stewart 1980).
            G = torch.randn(*rows.shape, dtype=work, device=rows.device).mT
            reflectors, factor_signs = qr_reflectors(G)
            assign(rows, reflectors)
            signs[: self.n_reflectors] *= factor_signs
        self.signs.copy_(of_first_process(signs, self.U))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(self.in_features**-0.5), self.in_features**-0.5)

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls, linear: nn.Linear, *, sigma: Sigma = "free", clip: Sequence[float] = (0.0, 1.0)
    ) -> "SVDLinear":
        """A layer equivalent to ``linear``, on the same device and in the same dtype.

        Equal up to rounding, except that singular values outside the limits set by ``sigma`` move
        to the nearest value inside.
        """
        weight = linear.weight
        P, values, Rt = torch.linalg.svd(weight.double(), full_matrices=False)
        place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            sigma=sigma,
            clip=clip,
            **place,
        )
        layer.singular_values = _singular_values(sigma, clip, len(values), values, place)
        U, left = qr_reflectors(P)
        V, right = qr_reflectors(Rt.mT)
        layer.U.copy_(U)
        layer.V.copy_(V)
        layer.signs.copy_(left * right)
        if layer.bias is not None:
            layer.bias.copy_(linear.bias)
        return layer

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        """A ``torch.nn.Linear`` with copies of W and b."""
        place = {"device": self.U.device, "dtype": self.U.dtype}
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, **place)
        linear.weight.copy_(self.weight)
        if self.bias is not None:
            linear.bias.copy_(self.bias)
        return linear

    def forward(self, x: Tensor) -> Tensor:
        return svd_linear(x, self.U, self._diagonal(), self.V, self.bias)

    @property
    def weight(self) -> Tensor:
        """W (out_features, in_features), built from the factors on each access."""
        return _matrix(self.U, self._diagonal(), self.V)

    def sigma(self) -> Tensor:
        """The r singular values, unsorted; if "free", up to their signs."""
        values: Tensor = self.singular_values()
        return values

    def inverse(self, X: Tensor) -> Tensor:
        """W⁻¹ X for X (d,), (d, m) or (..., d, m), in O(d²m).

        Raises:
            ValueError: W is not square, or singular.
        """
        self._check_square("an inverse")
        sigma = self.sigma()
        if _may_branch_on(sigma) and bool((sigma == 0).any()):
            raise ValueError("W is singular (a singular value is 0): it has no inverse")
        return factored.inverse_apply(self.U, self._diagonal(), self.V, X)

    def logabsdet(self) -> Tensor:
        """log|det W| = Σ log|σᵢ|, in O(d); −∞ if W is singular.

        Raises:
            ValueError: W is not square.
        """
        self._check_square("a determinant")
        return factored.logabsdet(self.sigma())

    def slogdet(self) -> SlogDet:
        """Sign and logarithm of det W, as from ``torch.linalg.slogdet``.

        Raises:
            ValueError: W is not square.
        """
        self._check_square("a determinant")
        return factored.slogdet(self.U, self._diagonal(), self.V)

    def spectral_norm(self) -> Tensor:
        """The largest singular value."""
        return self.sigma().abs().amax()

    def condition_number(self) -> Tensor:
        """The largest singular value divided by the smallest; ∞ if that is 0."""
        moduli = self.sigma().abs()
        return moduli.amax() / moduli.amin()

    def _diagonal(self) -> Tensor:
        return self.signs * self.sigma()

    def _check_square(self, what: str) -> None:
        if self.in_features != self.out_features:
            raise ValueError(
                f"only square matrices have {what}, and W is {self.out_features}×{self.in_features}"
            )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, n_reflectors={self.n_reflectors}"
        )


@torch.fx.wrap  # symbolic tracing records one call: what is cheaper depends on the shape of x
def svd_linear(x: Tensor, U: Tensor, s: Tensor, V: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b for x (..., d_in), W = U diag(s) Vᵀ; uses the factors or W, whichever is cheaper.

    Args:
        U, s, V: as in :func:`svdbench.nn.factored.apply`.
        bias: (d_out,) or None.
    """
    (n, d_out), d_in = U.shape, V.shape[-1]
    if not torch.jit.is_tracing() and x.shape[-1] != d_in:
        raise ValueError(f"x must be (..., {d_in}), not {tuple(x.shape)}")
    if build_is_cheaper(expected_rows(x), n, d_in, d_out):
        return nn.functional.linear(x, _matrix(U, s, V), bias)

    def apply(x: Tensor) -> Tensor:
        # The transposes of W's three factors one after the other; no copy, as the reflectors
        # take and return the columns of x.t() as they lie.
        x = apply_reflectors(V, x.t(), transpose=True).t()
        x = x[:, :d_out] * s
        if d_in < d_out:
            x = nn.functional.pad(x, (0, d_out - d_in))
        return apply_reflectors(U, x.t()).t()

    return map_rows(apply, x, U.dtype, bias)


def build_is_cheaper(rows: int, n: int, d_in: int, d_out: int) -> bool:
    """Whether building W (d_out, d_in) takes fewer operations than applying 2n reflectors."""
    # A reflector of length d on a column takes 4d operations.
    reflect, multiply = 4 * n * (d_in + d_out), 2 * d_in * d_out
    return min(d_in, d_out) * (reflect + multiply) + rows * multiply < rows * reflect


def _matrix(U: Tensor, s: Tensor, V: Tensor) -> Tensor:
    r = s.shape[-1]
    return (reflector_matrix(U, r) * s) @ reflector_matrix(V, r).mT


def _may_branch_on(tensor: Tensor) -> bool:
    """Whether Python may branch on the numbers of a tensor."""
    return holds_data(tensor) and not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _singular_values(
    sigma: Sigma, clip: Sequence[float], r: int, values: Values, place: dict[str, Any]
) -> FreeSigma | ClippedSigma | IntervalSigma:
    if sigma == "free":
        return FreeSigma(r, values, **place)
    if sigma == "clipped":
        lo, hi = clip
        return ClippedSigma(r, lo, hi, values, **place)
    if not isinstance(sigma, str) and len(sigma) == 2:
        center, radius = sigma
        return IntervalSigma(r, center, radius, values, **place)
    raise ValueError(f"sigma must be 'free', 'clipped' or a pair (center, radius), not {sigma!r}")
