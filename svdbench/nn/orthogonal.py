"""``orthogonal``: keep a weight orthonormal, as a product of Householder reflectors."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svdbench.arguments import as_integer
from svdbench.kernels import apply_reflectors
from svdbench.nn.reflectors import few_reflectors, qr_reflectors

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Stiefel(nn.Module):
    """Reflectors ↦ matrices with orthonormal columns (tall, square) or rows (wide).

    A weight of d × r, d ≥ r, is ``H(v₁)⋯H(vₙ) E diag(signs)``, with E the first r
    columns of the identity; a wide one is the transpose of that. Why so:

    * Every reflector is a full row, not a trapezoidal one: the kernel costs the same,
      nothing has to be masked, and the spare directions do no harm, as the map has
      full rank onto the manifold already where the rows are trapezoidal.
    * ``signs`` is a fixed vector of ±1, chosen when a weight is assigned. Reflectors
      alone have determinant (−1)ⁿ, and would need zero rows, which cannot learn, or
      cancellation, to stand for some matrices. Training keeps the determinant.
    * As many reflectors as the shorter dimension reach everything, by QR, and make
      the parameter the shape of the weight: optimizers, gradients and
      ``remove_parametrizations`` see no change.
    * Rows start with a length of 1 to √2 and the map ignores it; so learning rates
      mean about what they do for torch's parametrisation.
    """

    signs: Tensor

    def __init__(self, weight: Tensor, n_reflectors: int) -> None:
        super().__init__()
        self.shape = weight.shape
        self.n_reflectors = n_reflectors
        self.d, self.r = max(weight.shape[-2:]), min(weight.shape[-2:])
        # Whether an assigned weight must be met exactly; the first one need not be.
        self.strict = False
        self.register_buffer("signs", weight.new_ones(*weight.shape[:-2], self.r))

    @property
    def tall(self) -> bool:
        return self.shape[-2] > self.shape[-1]

    @property
    def wide(self) -> bool:
        return self.shape[-2] < self.shape[-1]

    def forward(self, reflectors: Tensor) -> Tensor:
        V = reflectors.mT.contiguous() if self.tall else reflectors
        E = torch.eye(self.d, self.r, dtype=V.dtype, device=V.device)
        E = E * self.signs.to(V.dtype).unsqueeze(-2)
        Q = apply_reflectors(V, E)
        return Q.mT if self.wide else Q

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        if weight.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {tuple(self.shape)}, "
                f"got {tuple(weight.shape)}: assign a weight of the layer's shape"
            )
        _check_dtype(weight)
        if not (weight.is_meta or weight.isfinite().all()):
            raise ValueError("the weight has infinite or NaN entries: assign a finite one")
        W = weight.mT if self.wide else weight
        W = W.to(self.signs.device, torch.promote_types(W.dtype, torch.float32))
        V, signs = qr_reflectors(W)
        if self.n_reflectors < self.r:
            V, signs = self._few(V, signs, weight.dtype)
        elif self.n_reflectors > self.r:
            # More than needed: reflect the coordinates that E doesn't have.
            spare = torch.eye(self.n_reflectors, self.d, dtype=V.dtype, device=V.device)[self.r :]
            V = torch.cat([V, spare.expand(*V.shape[:-2], -1, -1)], -2)
        self.signs.copy_(signs)
        V = V.to(self.signs.dtype)
        return V.mT.contiguous() if self.tall else V

    def _few(self, V: Tensor, signs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """n < r reflectors for the product of the r reflectors V, or as near as it starts."""
        n, d, r = self.n_reflectors, self.d, self.r
        # What a weight of orthonormal columns may be off by: 10·d·eps, as torch's
        # own check has it, from computing it and eps/2 an entry from storing it.
        dtype = max(dtype, self.signs.dtype, key=lambda t: torch.finfo(t).eps)
        work = torch.promote_types(dtype, torch.float32)
        tol = 10 * d * torch.finfo(work).eps + r**0.5 * torch.finfo(dtype).eps / 2
        E = torch.eye(d, r, dtype=V.dtype, device=V.device)
        Q = (apply_reflectors(V, E) * signs.unsqueeze(-2)).reshape(-1, d, r)
        found = [] if Q.is_meta else [few_reflectors(q, n, tol) for q in Q]
        made = [pair for pair in found if pair is not None]
        if len(made) == len(Q):
            batch = self.shape[:-2]
            rows, ends = (torch.stack(part) for part in zip(*made, strict=True))
            return rows.view(*batch, n, d), ends.view(*batch, r)
        if self.strict:
            raise ValueError(
                f"{n} reflectors cannot make this {'×'.join(map(str, self.shape))} weight W: "
                f"rank(W − I) is above {n}; assign another one, or make the layer with "
                f"n_reflectors=None, which reaches every weight"
            )
        return V[..., :n, :], torch.ones_like(signs)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, n_reflectors={self.n_reflectors}"


def orthogonal(
    module: nn.Module, name: str = "weight", *, n_reflectors: int | None = None
) -> nn.Module:
    """Keep ``module.<name>`` orthonormal, as a product of Householder reflectors.

    A drop-in for ``torch.nn.utils.parametrizations.orthogonal``, registered with
    ``torch.nn.utils.parametrize`` and computed by ``svdbench.kernels.apply_reflectors``.
    The weight W (m × n) has orthonormal columns if m ≥ n (WᵀW = I) and orthonormal
    rows otherwise (WWᵀ = I), to a small multiple of max(m, n)·eps, however long it is
    trained. A tensor of more dimensions, such as that of a convolution, is a batch of
    matrices (..., m, n) in its last two.

    It starts at the old weight if that is orthonormal, of either determinant, and at
    its Q factor (the one with diag(R) ≥ 0) if it isn't; assigning ``module.<name> = W``
    does the same. Training moves within the matrices of the same determinant.

    The parameter, ``module.parametrizations.<name>.original``, holds the reflectors
    along the longer dimension: as rows, (..., n_reflectors, n), of a wide or square
    weight, and as columns, (..., m, n_reflectors), of a tall one. Their lengths mean
    nothing, so weight decay on them only changes the size of the steps.

    Args:
        module: the module that owns the tensor.
        name: the tensor to keep orthonormal, a parameter or buffer of float32, float64,
            bfloat16 or float16, of two dimensions or more.
        n_reflectors: 1 … max(m, n). By default min(m, n), which reaches every weight of
            that shape; the parameter then has the weight's shape. Fewer are less work and
            reach only weights with rank(W − I) ≤ n_reflectors, up to the sign of the last
            column (row, if wide); the layer starts at the product of the first reflectors
            of the QR factorisation if it can't start at the old weight. More than
            min(m, n) reach nothing new.

    Returns:
        The module, changed in place.

    Raises:
        ValueError: no such tensor, or not a matrix or batch of matrices; empty, complex,
            integer or not initialised; ``n_reflectors`` out of range. Later, when a weight
            is assigned that has another shape, is not finite, or that ``n_reflectors``
            reflectors cannot make.

    Example:
        >>> layer = orthogonal(torch.nn.Linear(20, 40))
        >>> bool(torch.dist(layer.weight.mT @ layer.weight, torch.eye(20)) < 1e-4)
        True

    Sources: Householder, "Unitary triangularization of a nonsymmetric matrix", J. ACM
    1958; Mathiasen et al., "What if Neural Networks had SVDs?" (FastH), NeurIPS 2020;
    Mhammedi et al., "Efficient orthogonal parametrisation of recurrent neural networks
    using Householder reflections", ICML 2017.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"{type(module).__name__} has no parameter or buffer named {name!r}: "
            f"give the name of one of its tensors"
        )
    if nn.parameter.is_lazy(weight):
        raise ValueError(f"{name!r} has no shape yet: run the lazy module once before")
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(
            f"Expected a matrix or batch of matrices, got {name!r} of shape "
            f"{tuple(weight.shape)}: choose a tensor of two dimensions or more, none of them 0"
        )
    _check_dtype(weight)
    d, r = max(weight.shape[-2:]), min(weight.shape[-2:])
    n = r if n_reflectors is None else as_integer(n_reflectors)
    if n is None or not 1 <= n <= d:
        raise ValueError(
            f"n_reflectors must be a whole number from 1 to {d} for matrices of "
            f"{weight.shape[-2]}×{weight.shape[-1]}, not {n_reflectors!r}; None takes {r}, "
            "enough for all"
        )
    if n != r and parametrize.is_parametrized(module, name):
        raise ValueError(
            f"{name!r} is parametrised already, and {n} reflectors don't have its shape: "
            f"take n_reflectors=None, or remove_parametrizations first"
        )
    if n != r:
        weight.grad = None  # the parameter keeps its identity but not its shape
    stiefel = Stiefel(weight, n)
    # unsafe only says: no check of what is registered, and none is needed.
    parametrize.register_parametrization(module, name, stiefel, unsafe=True)
    stiefel.strict = True
    return module


def _check_dtype(weight: Tensor) -> None:
    if weight.dtype not in DTYPES:
        raise ValueError(
            "reflectors are real floating-point numbers, but the weight is "
            f"{weight.dtype}: convert it to "
            f"one of {', '.join(str(dtype)[6:] for dtype in DTYPES)}"
        )
