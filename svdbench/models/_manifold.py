"""Steps along the orthogonal and the unitary group, in place of an optimizer's."""

import torch
from torch import Tensor, nn


class CayleyStep(nn.Module):
    """Gradient descent that stays on the group: M ← (I + ½lr A)⁻¹(I − ½lr A) M, A = G Mᴴ − M Gᴴ.

    G is the gradient at M. A is skew-Hermitian, so what multiplies M is unitary. A Newton
    step towards the nearest unitary matrix follows, lest rounding add up over many steps.

    Args:
        shape: of the parameter: (n, n), or (n, n, 2) for complex M, as real and imaginary part.
        rms: divide each number of G by the root of its mean square over the past, as RMSprop
            does, first.
        alpha: of that running mean, the share of the past.

    Source: Wisdom et al., "Full-Capacity Unitary Recurrent Neural Networks", NeurIPS 2016,
    eqs. 8 and 9, after Tagare's notes on the Stiefel manifold (2011), and its code, which
    scales by ``rms``.
    """

    mean_square: Tensor | None

    def __init__(self, shape: tuple[int, ...], rms: bool, alpha: float = 0.9) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("mean_square", torch.zeros(shape) if rms else None)

    @torch.no_grad()
    def forward(self, parameter: nn.Parameter, lr: float) -> None:
        """One step, in place; none if there is no gradient."""
        if (grad := parameter.grad) is None:
            return
        if self.mean_square is not None:
            self.mean_square.lerp_(grad.square(), 1 - self.alpha)
            grad = grad / (self.mean_square.sqrt() + 1e-8)
        complex_valued = parameter.ndim == 3
        M, G = (torch.view_as_complex(t) if complex_valued else t for t in (parameter, grad))
        M = cayley_step(M, G, lr)
        parameter.copy_(torch.view_as_real(M) if complex_valued else M)


def cayley_step(M: Tensor, G: Tensor, lr: float) -> Tensor:
    """M (n, n), orthogonal or unitary, moved against its gradient G (n, n)."""
    A = G @ M.mH
    half = lr / 2 * (A - A.mH)
    eye = torch.eye(len(M), dtype=M.dtype, device=M.device)
    return towards_isometry(torch.linalg.solve(eye + half, M - half @ M))


def towards_isometry(M: Tensor) -> Tensor:
    """A Newton (–Schulz) step to the nearest orthogonal or unitary matrix: squares the error."""
    return 1.5 * M - 0.5 * M @ (M.mH @ M)
