"""The parametrisation behind ``orthogonal``: reflectors to orthonormal matrices, and back."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svdbench.kernels import apply_reflectors, reflector_matrix
from svdbench.nn.deferred import holds_data
from svdbench.nn.reflectors import few_reflectors, q_factor, qr_reflectors, signed_reflectors

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
      Torch calls ``right_inverse`` to register and to assign alike; ``StiefelList`` says
      which it is.
    * As many reflectors as the shorter dimension reach everything, by QR, and make
      the parameter the shape of the weight: optimizers, gradients and
      ``remove_parametrizations`` see no change.
    * Rows start with a length of 1 to √2 and the map ignores it; so learning rates
      mean about what they do for torch's parametrisation.
    * Complex weights have signs of 1, and their columns are multiplied by the phases of
      place j of the j-th reflector instead, which H(v) ignores. These learn too, so that
      training reaches every unitary matrix, of any determinant.
    """

    signs: Tensor

    def __init__(self, weight: Tensor, n_reflectors: int) -> None:
        super().__init__()
        self.shape = weight.shape
        self.n_reflectors = n_reflectors
        self.d, self.r = max(weight.shape[-2:]), min(weight.shape[-2:])
        self.registered = False  # on a first module
        self.shared = False  # with a second one, so that signs must stay
        self.assigning = False
        self.register_buffer("signs", weight.new_ones(*weight.shape[:-2], self.r))

    @property
    def tall(self) -> bool:
        return self.shape[-2] > self.shape[-1]

    @property
    def wide(self) -> bool:
        return self.shape[-2] < self.shape[-1]

    def forward(self, reflectors: Tensor) -> Tensor:
        V = reflectors.mT if self.tall else reflectors
        Q = reflector_matrix(V, self.r) * self.signs.to(V.dtype).unsqueeze(-2)
        if V.is_complex():
            pivots = V.diagonal(dim1=-2, dim2=-1)[..., : self.r]
            phases = torch.where(pivots == 0, torch.ones_like(pivots), pivots.sgn())
            Q = Q * phases.unsqueeze(-2)
        return Q.mT if self.wide else Q

    def apply_to_rows(self, reflectors: Tensor, x: Tensor) -> Tensor:
        """x Wᵀ (N, columns of Wᵀ) for real W and x (N, columns of W), without building W.

        Nothing is copied: the reflectors take and return the columns of x.t() as they lie.
        """
        if self.wide:
            return apply_reflectors(reflectors, x.t(), transpose=True).t()[:, : self.r] * self.signs
        x = x * self.signs
        if self.d > self.r:
            x = nn.functional.pad(x, (0, self.d - self.r))
        return apply_reflectors(reflectors.mT if self.tall else reflectors, x.t()).t()

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        if not holds_data(weight):
            self.check(weight, values=False)
            return self._empty()
        self.shared |= self.registered and not self.assigning
        self.check(weight, values=self.assigning)
        if not bool(weight.isfinite().all()):
            # As of skip_init, whose memory nobody wrote: it may be filled later.
            return self._empty().fill_(torch.nan)
        V, signs = self.decompose(weight, self.signs if self.shared else None, self.assigning)
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
        check_dtype(weight)
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
        if self.registered:
            warnings.warn(
                f"{n} reflectors cannot make the {'×'.join(map(str, self.shape))} weight of the "
                f"module that this is registered on: it becomes another, unless replaced at once",
                stacklevel=2,
            )
        return qr_reflectors(W)[0][..., :n, :], W.new_ones(*batch, r) if signs is None else signs

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, n_reflectors={self.n_reflectors}"


class StiefelList(parametrize.ParametrizationList):
    """The parametrisations of one weight, one of which is ``Stiefel``."""

    # torch.fx goes by it: modules of torch.nn are not traced into.
    __module__ = parametrize.__name__

    def right_inverse(self, value: Tensor) -> None:
        own = [child for child in self.children() if isinstance(child, Stiefel)]
        for stiefel in own:
            stiefel.assigning = True
        try:
            super().right_inverse(value)
        finally:
            for stiefel in own:
                stiefel.assigning = False

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **options: Any
    ) -> None:
        own = next((i, c) for i, c in enumerate(self.children()) if isinstance(c, Stiefel))
        error = self._convert(state_dict, prefix, *own)
        if error:
            errors: list[str] = rest[-1]
            errors.append(
                f'"{prefix}original" is of torch\'s own orthogonal, and cannot be converted: '
                f"{error}; load it into torch's parametrisation, then assign the weight of that one"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest, **options)

    def _convert(
        self, state_dict: dict[str, Any], prefix: str, position: int, stiefel: Stiefel
    ) -> str:
        """Replace what torch's own ``orthogonal`` stored by reflectors; or say why not."""
        key, base_key = f"{prefix}original", f"{prefix}{position}.base"
        signs_key, error = f"{prefix}{position}.signs", ""
        if key not in state_dict or signs_key in state_dict:
            return ""
        original, signs = self.original, stiefel.signs  # these are loaded if it is refused
        base = state_dict.pop(base_key, None)
        weight = weight_of_torch(state_dict[key], base) if position == 0 else None
        if weight is None:
            error = "it does not say which map it is for"
        else:
            try:
                stiefel.check(weight)
                original, signs = stiefel.decompose(weight, None, exact=True)
            except ValueError as reason:
                error = str(reason)
        state_dict[key], state_dict[signs_key] = original, signs
        return error


def check_dtype(weight: Tensor) -> None:
    if weight.dtype not in DTYPES:
        raise ValueError(
            "reflectors are floating-point or complex numbers, but the weight is "
            f"{weight.dtype}: convert it to one of {', '.join(str(dtype)[6:] for dtype in DTYPES)}"
        )


def weight_of_torch(original: Tensor, base: Tensor | None) -> Tensor | None:
    """The orthonormal weight of torch's ``original`` and ``base``, or None if it isn't determined.

    Torch's three maps (matrix_exp, cayley, householder) store the same tensors, but not which
    of them it was. Two cases leave no doubt:

    * with ``base``, a parameter that was not trained: all maps give the first columns of base;
    * without it, a diagonal of ±1 above which something is left of R: the Householder map, as
      an orthonormal weight with 1 in its diagonal, of the other maps, has only zeros there.

    Args:
        original: the parameter, of the shape of the weight (..., m, n).
        base: the buffer of the dynamic trivialisation, (..., d, d) for d = max(m, n), or None.

    Returns:
        The weight, of the shape of original.
    """
    wide = original.shape[-2] < original.shape[-1]
    X = original.mT if wide else original
    diagonal = X.diagonal(dim1=-2, dim2=-1)
    weight = None
    if base is not None:
        if bool((X.tril(-1) == 0).all()) and bool((diagonal == -1).all()):
            weight = base[..., : X.shape[-1]]
    elif not X.is_complex():
        left = X.triu(1).ne(0).flatten(-2).any(-1)
        if bool((diagonal.abs() == 1).all()) and bool(left.all()):
            A = X.tril(-1)
            tau = 2 / (1 + A.square().sum(-2))
            weight = torch.linalg.householder_product(A, tau) * diagonal.unsqueeze(-2)
    return weight.mT if weight is not None and wide else weight
