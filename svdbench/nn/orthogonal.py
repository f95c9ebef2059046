"""``orthogonal``: keep a weight orthonormal, as a product of Householder reflectors."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svdbench.arguments import as_integer
from svdbench.kernels import apply_reflectors
from svdbench.nn.deferred import holds_data
from svdbench.nn.reflectors import few_reflectors, q_factor, qr_reflectors, signed_reflectors
from svdbench.nn.torch_checkpoints import weight_of_torch

DTYPES = (
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16),
    *(torch.complex128, torch.complex64),
)


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
    * Once the parametrisation is registered on a second module, ``signs`` are constant, as
      the weights of both depend on them. A square weight of the other determinant that is
      assigned then has a zero for its last reflector, which was no more than a sign.
    * As many reflectors as the shorter dimension reach everything, by QR, and make
      the parameter the shape of the weight: optimizers, gradients and
      ``remove_parametrizations`` see no change.
    * Rows start with a length of 1 to √2 and the map ignores it; so learning rates
      mean about what they do for torch's parametrisation.
    * Complex weights have signs of 1, and their columns are multiplied by the phases of
      place j of the j-th reflector instead, which H(v) ignores. These learn too, so that
      training reaches every unitary matrix, whatever its determinant.
    """

    signs: Tensor

    def __init__(self, weight: Tensor, n_reflectors: int) -> None:
        super().__init__()
        self.shape = weight.shape
        self.n_reflectors = n_reflectors
        self.d, self.r = max(weight.shape[-2:]), min(weight.shape[-2:])
        # Whether an assigned weight must be met exactly; the first one need not be.
        self.strict = False
        # Whether another module was given this parametrisation, so that signs must stay.
        self.shared = False
        self.register_buffer("signs", weight.new_ones(*weight.shape[:-2], self.r))

    @property
    def tall(self) -> bool:
        return self.shape[-2] > self.shape[-1]

    @property
    def wide(self) -> bool:
        return self.shape[-2] < self.shape[-1]

    def forward(self, reflectors: Tensor) -> Tensor:
        V = reflectors.mT if self.tall else reflectors
        E = torch.diag_embed(self.signs.to(V.dtype))
        if self.d > self.r:
            E = nn.functional.pad(E, (0, 0, 0, self.d - self.r))
        Q = apply_reflectors(V, E)
        if V.is_complex():
            pivots = V.diagonal(dim1=-2, dim2=-1)[..., : self.r]
            phases = torch.where(pivots == 0, torch.ones_like(pivots), pivots.sgn())
            Q = Q * phases.unsqueeze(-2)
        return Q.mT if self.wide else Q

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        if not holds_data(weight):
            self.check(weight, values=False)
            return self._empty()
        # A parameter is not assigned but registered: by torch's transfer of parametrisations,
        # for one, which then replaces what is returned here.
        assigned = self.strict and not isinstance(weight, nn.Parameter)
        self.shared |= self.strict and not assigned
        self.check(weight, values=assigned)
        if not assigned and not bool(weight.isfinite().all()):
            # As of skip_init, whose memory nobody wrote: it may be filled later.
            return self._empty().fill_(torch.nan)
        signs = self.signs if self.shared else None
        V, signs = self.decompose(weight, signs, exact=assigned)
        if not self.shared:
            self.signs.copy_(signs)
        return V

    def _empty(self) -> Tensor:
        size = (self.d, self.n_reflectors) if self.tall else (self.n_reflectors, self.d)
        return self.signs.new_empty(*self.shape[:-2], *size)

    def check(self, weight: Tensor, values: bool = True) -> None:
        """Raise ValueError if a weight has another shape or dtype, or is not finite."""
        if weight.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {tuple(self.shape)}, "
                f"got {tuple(weight.shape)}: assign a weight of the layer's shape"
            )
        _check_dtype(weight)
        if weight.is_complex() and not self.signs.is_complex():
            raise ValueError(
                f"the weight is {weight.dtype}, but the layer is real: assign its .real"
            )
        if values and not weight.isfinite().all():
            raise ValueError("the weight has infinite or NaN entries: assign a finite one")

    def decompose(self, weight: Tensor, signs: Tensor | None, exact: bool) -> tuple[Tensor, Tensor]:
        """The parameter and the signs of a weight, without a change of this module.

        Args:
            weight: of the shape of the layer, finite.
            signs: those to use, ±1; None chooses them.
            exact: refuse a weight that n reflectors cannot make, rather than take others.

        Raises:
            ValueError: n reflectors cannot make the weight.
        """
        W = weight.mT if self.wide else weight
        W = W.to(self.signs.device, torch.promote_types(W.dtype, torch.float32))
        if self.signs.is_complex():
            W = W.to(torch.promote_types(W.dtype, torch.complex64))
        if self.n_reflectors < self.r:
            V, signs = self._few(W, signs, weight.dtype, exact)
        elif signs is None and not W.is_complex():
            V, signs = qr_reflectors(W)
        else:
            V, signs = signed_reflectors(q_factor(W), signs)
        if self.n_reflectors > self.r:
            # More than needed: reflect the coordinates that E doesn't have.
            spare = torch.eye(self.n_reflectors, self.d, dtype=V.dtype, device=V.device)[self.r :]
            V = torch.cat([V, spare.expand(*V.shape[:-2], -1, -1)], -2)
        if V.is_complex():
            signs = torch.ones_like(signs)  # the reflectors carry the phases
        V = V.to(self.signs.dtype)
        return (V.mT if self.tall else V).contiguous(), signs

    def _few(
        self, W: Tensor, signs: Tensor | None, dtype: torch.dtype, exact: bool
    ) -> tuple[Tensor, Tensor]:
        """n < r reflectors for the Q factor of W, or the first n of r if there are none."""
        n, d, r = self.n_reflectors, self.d, self.r
        # What a weight of orthonormal columns may be off by: 10·d·eps, as torch's
        # own check has it, from computing it and eps/2 an entry from storing it.
        dtype = max(dtype, self.signs.dtype, key=lambda t: torch.finfo(t).eps)
        work = torch.promote_types(dtype, torch.float32)
        tol = 10 * d * torch.finfo(work).eps + r**0.5 * torch.finfo(dtype).eps / 2
        Q, batch = q_factor(W), W.shape[:-2]
        given = [None] * batch.numel() if signs is None else signs.reshape(-1, r)
        found = [
            few_reflectors(q, n, tol, s) for q, s in zip(Q.reshape(-1, d, r), given, strict=True)
        ]
        made = [pair for pair in found if pair is not None]
        if len(made) == len(found):
            rows, ends = (torch.stack(part) for part in zip(*made, strict=True))
            return rows.view(*batch, n, d), ends.view(*batch, r)
        if exact:
            raise ValueError(
                f"{n} reflectors cannot make this {'×'.join(map(str, self.shape))} weight W: "
                f"rank(W − I) is above {n}; assign another one, or make the layer with "
                f"n_reflectors=None, which reaches every weight"
            )
        return qr_reflectors(W)[0][..., :n, :], W.new_ones(*batch, r) if signs is None else signs

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, n_reflectors={self.n_reflectors}"


def orthogonal(
    module: nn.Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
    n_reflectors: int | None = None,
) -> nn.Module:
    """Keep ``module.<name>`` orthonormal, as a product of Householder reflectors.

    A drop-in for ``torch.nn.utils.parametrizations.orthogonal``, registered with
    ``torch.nn.utils.parametrize`` and computed by ``svdbench.kernels.apply_reflectors``.
    The weight W (m × n) has orthonormal columns if m ≥ n (WᴴW = I) and orthonormal
    rows otherwise (WWᴴ = I), to a small multiple of max(m, n)·eps, however long it is
    trained. A tensor of more dimensions, such as that of a convolution, is a batch of
    matrices (..., m, n) in its last two.

    It starts at the old weight if that is orthonormal, of either determinant. A weight
    that isn't becomes its Q factor, the one with diag(R) ≥ 0: Q of ``torch.linalg.qr`` with
    its columns negated where R has a negative diagonal. If its rank
    is below min(m, n), the columns of Q that R doesn't determine are orthonormal but
    arbitrary, and a weight of zeros becomes the identity, or its first columns or rows,
    up to signs. One with infinite or NaN entries becomes NaN, until a checkpoint is loaded or
    a weight assigned. Assigning ``module.<name> = W`` does the same, but refuses those.
    Training moves within the matrices of the same determinant, if W is real and square.

    The parameter, ``module.parametrizations.<name>.original``, holds the reflectors
    along the longer dimension: as rows, (..., n_reflectors, n), of a wide or square
    weight, and as columns, (..., m, n_reflectors), of a tall one. Their lengths mean
    nothing, so weight decay on them only changes the size of the steps.

    The parametrisation has one buffer, ``signs`` (±1), chosen with the reflectors whenever a
    weight is assigned, and constant once ``transfer_parametrizations_and_params``,
    ``torch.ao``'s ``prepare_qat`` or you register it on a second module: that changes no
    weight. ``deepcopy``, ``state_dict``, ``load_state_dict(assign=True)``,
    ``parametrize.cached`` and stacked states under ``torch.func.vmap`` work. On the meta
    device there is nothing to decompose: after ``to_empty``, load a checkpoint or assign a
    weight. A checkpoint of torch's own ``orthogonal`` is converted where it determines its
    weight, and refused otherwise.

    Args:
        module: the module that owns the tensor.
        name: the tensor to keep orthonormal, a parameter or buffer of float32, float64,
            bfloat16, float16, complex64 or complex128, of two dimensions or more.
        orthogonal_map: None or "householder", which mean the same.
        use_trivialization: accepted for torch's sake; without effect, as this map is the
            same about every weight.
        n_reflectors: 1 … max(m, n). By default min(m, n), which reaches every weight of
            that shape; the parameter then has the weight's shape. Fewer, of real weights,
            are less work and reach only weights with rank(W − I) ≤ n_reflectors, up to the
            sign of the last column (row, if wide); the layer starts at the product of the
            first reflectors of the QR factorisation if it can't start at the old weight.
            More than min(m, n) reach nothing new.

    Returns:
        The module, changed in place.

    Raises:
        ValueError: no such tensor, or not a matrix or batch of matrices; empty, integer or
            not initialised; another map; ``n_reflectors`` out of range. Later, when a weight
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
    if orthogonal_map not in (None, "householder"):
        raise ValueError(
            f'orthogonal_map has to be one of None, "householder", not {orthogonal_map!r}: leave '
            f"it out, or take torch.nn.utils.parametrizations.orthogonal for torch's own maps"
        )
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
    if n < r and weight.is_complex():
        raise ValueError(
            f"a complex {weight.shape[-2]}×{weight.shape[-1]} weight needs {r} reflectors or more, "
            f"not {n}: take n_reflectors=None"
        )
    if n != r and parametrize.is_parametrized(module, name):
        raise ValueError(
            f"{name!r} is parametrised already, and {n} reflectors don't have its shape: "
            f"take n_reflectors=None, or remove_parametrizations first"
        )
    if n != r:
        weight.grad = None  # the parameter keeps its identity but not its shape
    # unsafe only says: no check of what is registered, and none is needed.
    stiefel = Stiefel(weight, n)
    parametrize.register_parametrization(module, name, stiefel, unsafe=True)
    stiefel.strict = True
    module.parametrizations[name].register_load_state_dict_pre_hook(_convert_checkpoint)  # type: ignore[index,union-attr]
    return module


def _convert_checkpoint(
    entry: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any
) -> None:
    """Replace what torch's own ``orthogonal`` stored by the reflectors of the same weight."""
    key, named = f"{prefix}original", dict(entry.named_children())
    position = next(i for i, child in named.items() if isinstance(child, Stiefel))
    stiefel: Any = named[position]
    signs_key, base_key = f"{prefix}{position}.signs", f"{prefix}{position}.base"
    if key not in state_dict or signs_key in state_dict:
        return
    original, signs, error = entry.original, stiefel.signs, ""
    weight = None if position != "0" else weight_of_torch(state_dict[key], state_dict.get(base_key))
    if weight is None:
        error = "it does not say which map it is for"
    else:
        try:
            stiefel.check(weight)
            original, signs = stiefel.decompose(weight, None, exact=True)
        except ValueError as reason:
            error = str(reason)
    # Where it is refused, the module loads what it has.
    state_dict.pop(base_key, None)
    state_dict[key], state_dict[signs_key] = original, signs
    if error:
        errors: list[str] = rest[-1]
        errors.append(
            f'"{key}" is of torch\'s own orthogonal, and cannot be converted: {error}; load it '
            f"into torch's parametrisation, then assign the weight of that module"
        )


def _check_dtype(weight: Tensor) -> None:
    if weight.dtype not in DTYPES:
        raise ValueError(
            "reflectors are floating-point or complex numbers, but the weight is "
            f"{weight.dtype}: convert it to "
            f"one of {', '.join(str(dtype)[6:] for dtype in DTYPES)}"
        )
