"""Networks whose recurrent weight is orthogonal: reflectors, exponential and Cayley maps."""

from typing import Unpack

import torch
from torch import Tensor, nn

from svdbench.arguments import check_whole
from svdbench.nn.deferred import assign
from svdbench.nn.spectral_weight import OrthogonalWeight

from .manifold import (
    cayley_of_rotation,
    exp_skew,
    log_of_rotation,
    rotation,
    skew,
    towards_isometry,
    triangle_of,
)
from .recurrent import Recurrent, Reflected, Shared, distance_to_isometry


class Orthogonal(Recurrent):
    """A recurrence whose weight is orthogonal."""

    kind = "orthogonal"

    def promise(self) -> float:
        return distance_to_isometry(self.recurrent_weight())


class SkewSymmetric(Orthogonal):
    """A recurrence whose weight is a map of a skew-symmetric matrix: n(n − 1)/2 parameters."""

    def __init__(self, *, activation: str, init: str, **shared: Unpack[Shared]) -> None:
        super().__init__(activation=activation, **shared)
        self.init = init
        self.A = nn.Parameter(torch.empty(self.weight_parameters()))

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.A]

    def weight_parameters(self) -> int:
        return self.hidden_size * (self.hidden_size - 1) // 2


class OrthogonalModel(Reflected, Orthogonal):
    """oRNN: W = H_n(u_n) ⋯ H_{n−m+1}(u_{n−m+1}), u_k ∈ Rᵏ: mn − m(m − 1)/2 parameters.

    Args:
        m: number of reflectors, 1 to n; None is n, which can represent every orthogonal matrix.
        init: initial W, or its approximation by m reflectors: "henaff", "cayley", "identity" or
            "random".

    Raises:
        ValueError: m out of range, or a value that :class:`Recurrent` refuses.
    """

    weight: OrthogonalWeight

    name = "orthogonal_rnn"
    source = (
        "Mhammedi et al., Efficient Orthogonal Parametrisation of Recurrent Neural Networks "
        "Using Householder Reflections, ICML 2017"
    )

    def __init__(
        self,
        *,
        activation: str = "modrelu",
        m: int | None = None,
        init: str = "henaff",
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("readout_bias", False)
        super().__init__(activation=activation, **shared)
        n = self.hidden_size
        self.weight = OrthogonalWeight(n, n if m is None else m, init=init)

    def weight_parameters(self) -> int:
        m = self.weight.m
        return m * self.hidden_size - m * (m - 1) // 2


class ExpRNN(SkewSymmetric):
    """W = exp(A), or B exp(A), A skew-symmetric: n(n − 1)/2 parameters.

    Args:
        init: initial W, a rotation: "henaff", "cayley", "identity" or "random".
        dynamic: dtriv, the dynamic trivialisation: W = B exp(A), and every ``rebase_every`` steps B
            becomes W and A zero, where the exponential preserves lengths and directions.
        rebase_every: K of the source; has no effect unless ``dynamic``.

    Raises:
        ValueError: ``rebase_every`` below 1, or a value that :class:`Recurrent` refuses.
    """

    name = "exprnn"
    source = (
        "Lezcano-Casado and Martínez-Rubio, Cheap Orthogonal Constraints in Neural Networks, "
        "ICML 2019; dynamic: Lezcano-Casado, Trivializations for Gradient-Based Optimization on "
        "Manifolds, NeurIPS 2019"
    )

    base: Tensor | None
    steps: Tensor

    def __init__(
        self,
        *,
        activation: str = "modrelu",
        init: str = "henaff",
        dynamic: bool = False,
        rebase_every: int = 100,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(activation=activation, init=init, **shared)
        check_whole(1, rebase_every=rebase_every)
        n, self.rebase_every = self.hidden_size, rebase_every
        self.register_buffer("base", torch.empty(n, n) if dynamic else None)
        self.register_buffer("steps", torch.tensor(0))
        self.reset_weight()

    def reset_weight(self) -> None:
        W = rotation(self.hidden_size, self.init)
        self.steps.zero_()
        if self.base is None:
            assign(self.A, triangle_of(log_of_rotation(W)))
        else:
            self.base.copy_(W)
            assign(self.A, 0.0)

    def recurrent_weight(self) -> Tensor:
        E = exp_skew(skew(self.A, self.hidden_size))
        return E if self.base is None else self.base @ E

    @torch.no_grad()
    def after_step(self) -> None:
        if self.base is None:
            return
        self.steps += 1
        if self.steps % self.rebase_every == 0:
            self.base.copy_(towards_isometry(self.recurrent_weight()))
            self.A.zero_()


class ScoRNN(SkewSymmetric):
    """W = (I + A)⁻¹(I − A) D, A skew-symmetric: n(n − 1)/2 parameters.

    D is diagonal and fixed: its last ρ entries are −1, the others 1. Without it, no W with an
    eigenvalue −1 could be represented. W is built as 2(I + A)⁻¹D − D.

    Args:
        rho: ρ, 0 to n; None is n/2, the source's for copying (about n/10 for MNIST).
        init: initial WD, a rotation: "cayley" (the source's), "henaff", "identity", "random".

    Raises:
        ValueError: ρ out of range, or a value that :class:`Recurrent` refuses.
    """

    name = "scornn"
    source = "Helfrich, Willmott and Ye, Orthogonal RNNs with Scaled Cayley Transform, ICML 2018"

    signs: Tensor

    def __init__(
        self,
        *,
        activation: str = "modrelu",
        rho: int | None = None,
        init: str = "cayley",
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(activation=activation, init=init, **shared)
        n, rho = self.hidden_size, self.hidden_size // 2 if rho is None else rho
        if not (isinstance(rho, int) and 0 <= rho <= n):
            raise ValueError(f"rho is {rho!r}: give a whole number from 0 to hidden_size = {n}")
        self.rho = rho
        self.register_buffer("signs", torch.empty(n))
        self.reset_weight()

    def reset_weight(self) -> None:
        n = self.hidden_size
        self.signs.fill_(1)
        self.signs[n - self.rho :] = -1
        assign(self.A, triangle_of(cayley_of_rotation(rotation(n, self.init))))

    def recurrent_weight(self) -> Tensor:
        D = torch.diag(self.signs)
        eye = torch.eye(self.hidden_size, dtype=D.dtype, device=D.device)
        W: Tensor = torch.linalg.solve(eye + skew(self.A, self.hidden_size), 2 * D) - D
        return W
