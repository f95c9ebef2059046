"""A weight as components in the order in which a loss can do without them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from svdbench.lowrank.layers.base import Factors, Folding, Weight, check_rank
from svdbench.lowrank.layers.factor import factors_of
from svdbench.lowrank.layers.weights import FactorableWeight
from svdbench.lowrank.ranks.moments import Moments, precision

# Numbers of a weight that are in float64 at a time.
PIECE = 2**20


@dataclass(frozen=True)
class Spectrum:
    """W = Σ lᵢ rᵢᵀ, where leaving out the components from k on costs ½ Σ_{i≥k} σᵢ².

    Of a weight in groups, all groups have a component i, and energies are their sums.

    Attributes:
        weight: which, with its size (m, n).
        folding: how the kernel of a convolution is seen as that matrix.
        energies: σᵢ² (r,), float64, descending, r = min(m, n).
        short: of the components, the vectors on the shorter side of W as columns (s, k), with
            s = min(m, n) and k up to the highest rank at which factors have fewer numbers; of
            a weight in groups (groups, s, k). None after :meth:`emptied`.
        through: (s, k), what makes the vectors of the longer side of W, each as long as its
            partner: Wᵀ·through of a wide W, and W·through of a tall one. W has them already,
            so that a spectrum of a long W is much smaller than W.
        means: for each module that has the weight, E[x] (n,) or (groups, n) where its bias
            takes over what the mean input loses, else None.
        lost: E‖lᵢ rᵢᵀ x‖² (r,), float64, of x less its mean where the bias takes that over; as
            no two components overlap, those left out make E‖(W − W_k) x‖², at most.
        output: E‖W x‖²; None for the plain kind, which saw no x, and for tied weights.
    """

    weight: Weight
    folding: Folding
    energies: Tensor
    short: Tensor | None
    through: Tensor | None
    means: tuple[Tensor | None, ...]
    lost: Tensor
    output: float | None

    def numbers(self, rank: int | None) -> int:
        """How many numbers the factors have at a rank; None is the dense weight."""
        return self.weight.numbers(rank)

    def output_bound(self, k: int) -> float | None:
        """‖(W − W_k)X‖_F/‖WX‖_F of the calibration rows, at most (damping only adds to it)."""
        if self.output is None:
            return None
        return float((self.lost[k:].sum() / max(self.output, 1e-300)).sqrt())

    def components(self, W: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k leading ones as columns lᵢ (m, k) and rows rᵢᵀ (k, n).

        Args:
            W: the weight; what lies on its shorter side is a slice of this spectrum.
        """
        if self.short is None or self.through is None:
            raise ValueError(
                f"the components of {self.weight.name} went into the compressed model: make "
                "another frontier with rank_frontier"
            )
        tall = self.weight.rows > self.weight.columns
        through = self.through[..., :k].mT
        long = (through @ (W.mT if tall else W).to(through.dtype)).to(W.dtype)
        short = self.short[..., :k]
        return (long.mT, short.mT) if tall else (short, long)

    def emptied(self) -> "Spectrum":
        """Without its components, of which only the energies are left."""
        return replace(self, short=None, through=None)

    def factors(self, site: FactorableWeight, k: int, *, shared: bool = True) -> list[Factors]:
        """The k leading components in the place of the weight, for each module that has it.

        Args:
            shared: with this spectrum, as far as it has them.

        Raises:
            ValueError: a rank out of range, or at which factors have no fewer numbers.
        """
        k = check_rank(k, self.weight.rows, self.weight.columns)
        if k > self.weight.most:
            raise ValueError(
                f"rank {k} of {self.weight.name} saves no parameters: "
                f"leave it dense, or give {self.weight.most} at most"
            )
        W1, W2 = self.components(site.matrix, k)
        if not shared:
            W1, W2 = (W.clone(memory_format=torch.contiguous_format) for W in (W1, W2))
        shifts = [
            None if mean is None else _shift(site.matrix, W1, W2, mean) for mean in self.means
        ]
        return factors_of(site, W1, W2, shifts)


def spectrum(
    site: FactorableWeight,
    moments: Sequence[Moments],
    *,
    damping: float,
    recentre: bool,
    matrix: Tensor | None = None,
) -> Spectrum:
    """The components of a weight W (m, n) by the SVD of R^½ W C^½.

    W_k = R^−½ SVD_k(R^½ W C^½) C^−½ minimises tr((W − W_k)ᵀ R (W − W_k) C) among those of
    rank k. If W is wide, its left vectors U are eigenvectors of Lᵀ(W C Wᵀ)L for R = L Lᵀ, and
    W_k = L^−ᵀ U_k U_kᵀ LᵀW: of the two roots only that of the shorter side is formed, by
    Cholesky, of the longer side only W C Wᵀ is needed, and no component that is kept suffers
    from squaring.

    Args:
        moments: for each use of the weight; none, for the weight alone.
        damping: what is added to the diagonals of C and of R, as a fraction of their means,
            so that directions which no calibration row has do not count as free.
        recentre: biases make up for (W − W_k) E[x], so that C is the covariance.
        matrix: in the place of the weight's own numbers.

    Raises:
        ValueError: the moments are not positive definite: more damping is needed.

    Sources: Wang et al., "SVD-LLM", 2024 (arXiv 2403.07378), for R = I; the same with
    Kronecker-factored curvature (Martens and Grosse 2015) for the loss.
    """
    W, weight = site.matrix if matrix is None else matrix, site.weight
    tall = weight.rows > weight.columns
    B = W.mT if tall else W
    BBt = _product(B, B.mT)
    means = tuple(
        each.mean.to(W.dtype) if recentre and each.mean is not None and use.part.bias else None
        for use, each in zip(site.uses, moments, strict=bool(moments))
    ) or (None,) * len(site.uses)

    L, P = None, BBt
    if moments:
        sides = [
            _sides(BBt, W, each, mean, damping) for each, mean in zip(moments, means, strict=True)
        ]
        S, P = sides[0][:2] if len(sides) == 1 else _together(sides)
        if any(each.short is not None for each in moments):
            L = _root(S, weight.name)
    values, U = torch.linalg.eigh(P if L is None else L.mT @ P @ L)
    values, U = values.flip(-1).clamp(min=0), U.flip(-1)
    thin = U if L is None else torch.linalg.solve_triangular(L.mT, U, upper=True)
    LU = U if L is None else L @ U

    long_norms = (LU * (BBt @ LU)).sum(-2).clamp(min=0)  # of the rows of (LU)ᵀB, squared
    short_norms = thin.square().sum(-2)
    arriving_short = tall != site.uses[0].kind.lookup
    lost = long_norms if arriving_short else values * short_norms
    k = weight.most
    # Equally long, as a factored layer learns best; but for components that are nothing, whose
    # factors would be 0 and infinity in W's dtype.
    ratio = long_norms / short_norms.clamp(min=1e-300)
    ratio = ratio.maximum(1e-40 * ratio.amax(-1, keepdim=True)).clamp(min=1e-300)
    ratio = ratio.pow(0.25)[..., :k]
    short = (thin[..., :k] * ratio.unsqueeze(-2)).to(W.dtype)
    through = (LU[..., :k] / ratio.unsqueeze(-2)).to(precision(W))
    return Spectrum(
        weight,
        site.folding,
        _over_groups(values, weight),
        short,
        through,
        means,
        _over_groups(lost, weight),
        _output(BBt, moments[0], arriving_short) if len(moments) == 1 else None,
    )


def _sides(
    BBt: Tensor, W: Tensor, moments: Moments, mean: Tensor | None, damping: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides in float64, the shorter, the longer as B sees it, and its trace; damped."""
    tall, size = W.shape[-2] > W.shape[-1], max(W.shape[-2:])
    eye = torch.eye(BBt.shape[-1], dtype=BBt.dtype, device=BBt.device).expand_as(BBt)
    S, P, trace = eye, BBt, BBt.new_full(BBt.shape[:-2], size)
    if moments.short is not None:
        S = moments.short.double()
        if tall and mean is not None:
            S = S - mean.double().unsqueeze(-1) * mean.double().unsqueeze(-2)
        # At least something, of a layer that sees or does nothing.
        scale = S.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-30)
        S = S + damping * scale[..., None, None] * eye
    if moments.long is not None and moments.long_trace is not None:
        P, trace = moments.long.double(), moments.long_trace.double()
        if not tall and mean is not None:
            through = _product(W, mean.unsqueeze(-1))
            P, trace = P - through @ through.mT, trace - mean.double().square().sum(-1)
        P = P + damping * (trace.clamp(min=1e-30) / size)[..., None, None] * BBt
    return S, P, trace


def _together(sides: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """One Kronecker product for a sum of them, over the uses of a tied weight.

    Σ Aᵢ ⊗ Bᵢ ≈ (Σ tr(Bᵢ) Aᵢ) ⊗ (Σ tr(Aᵢ) Bᵢ) / Σ tr(Aᵢ) tr(Bᵢ), which has both partial traces
    of the sum, and so its trace.
    """
    S, P, total = (torch.zeros_like(each) for each in sides[0])
    for short, long, trace in sides:
        weight = short.diagonal(dim1=-2, dim2=-1).sum(-1)
        S += trace[..., None, None] * short
        P += weight[..., None, None] * long
        total += weight * trace
    return S, P / total.clamp(min=1e-300)[..., None, None]


def _root(S: Tensor, name: str) -> Tensor:
    """L with L Lᵀ = S."""
    L, failed = torch.linalg.cholesky_ex(S)
    if failed.any():
        raise ValueError(f"the moments of {name} are singular to rounding: give more damping")
    return L


def _product(A: Tensor, B: Tensor) -> Tensor:
    """AB in float64, in parts, as float64 takes twice the memory."""
    inner, columns = B.shape[-2:]
    if columns > inner:
        step = max(1, PIECE // inner)
        return torch.cat([A.double() @ b.double() for b in B.split(step, -1)], -1)
    total = A.new_zeros(*A.shape[:-1], columns, dtype=torch.float64)
    step = max(1, PIECE // max(A.shape[-2], columns))
    for a, b in zip(A.split(step, -1), B.split(step, -2), strict=True):
        total += a.double() @ b.double()
    return total


def _shift(W: Tensor, W1: Tensor, W2: Tensor, mean: Tensor) -> Tensor:
    """(W − W₁W₂) E[x]: (m,), or (groups, m)."""
    x = mean.unsqueeze(-1)
    return (W @ x - W1 @ (W2 @ x)).squeeze(-1)


def _output(BBt: Tensor, moments: Moments, arriving_short: bool) -> float | None:
    """E‖Wx‖² over all rows, without damping."""
    if not arriving_short:
        arrived = moments.long
        return None if arrived is None else float(arrived.diagonal(dim1=-2, dim2=-1).sum())
    return None if moments.short is None else float((moments.short.double() * BBt).sum())


def _over_groups(values: Tensor, weight: Weight) -> Tensor:
    return values if weight.groups == 1 else values.sum(0)
