"""Steps on the Stiefel manifold, and skew-symmetric maps."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.errors import refuse_second_derivative
from svdbench.nn.spectral_weight import start


class CayleyStep(nn.Module):
    """Gradient descent that stays on the group: M ← (I + ½lr A)⁻¹(I − ½lr A) M, A = G Mᴴ − M Gᴴ.

    G is the gradient at M. A is skew-Hermitian, so the factor of M is unitary. A Newton step
    towards the nearest unitary matrix follows, so that rounding errors don't add up.

    Args:
        shape: of the parameter: (n, n), or (n, n, 2) for complex M, as real and imaginary part.
        rms: first divide each entry of G by the root of its running mean square, as RMSprop does.
        alpha: decay of that running mean.

    Source: Wisdom et al., "Full-Capacity Unitary Recurrent Neural Networks", NeurIPS 2016,
    eqs. 8 and 9, after Tagare's notes on the Stiefel manifold (2011), and its code, which
    scales by ``rms``.
    """

    mean_square: Tensor | None

    def __init__(self, shape: tuple[int, ...], rms: bool, alpha: float = 0.9) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("mean_square", torch.zeros(shape) if rms else None)

    def reset_parameters(self) -> None:
        """Reset the running mean of squared gradients."""
        if self.mean_square is not None:
            self.mean_square.zero_()

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


def skew(triangle: Tensor, n: int) -> Tensor:
    """The skew-symmetric matrix (n, n) with ``triangle``, (n(n − 1)/2,), below its diagonal."""
    rows, columns = torch.tril_indices(n, n, -1, device=triangle.device)
    lower = triangle.new_zeros(n, n).index_put((rows, columns), triangle)
    return lower - lower.mT


def triangle_of(A: Tensor) -> Tensor:
    """The entries below the diagonal of A (n, n), in the order that ``skew`` takes them."""
    rows, columns = torch.tril_indices(len(A), len(A), -1, device=A.device)
    return A[rows, columns]


def rotation(n: int, init: str) -> Tensor:
    """The matrix (n, n) to start at, in float64, made a rotation if its determinant is −1.

    See :func:`svdbench.nn.spectral_weight.start` for ``init``.
    """
    W = start(init, n)
    W[:, 0] *= torch.linalg.det(W).sign()
    return W


def log_of_rotation(W: Tensor) -> Tensor:
    """The skew-symmetric A (n, n) with exp(A) = W and angles in (−π, π)."""
    eigenvalues, Q = torch.linalg.eig(W)
    A = torch.linalg.solve(Q.mH, (Q * torch.log(eigenvalues)).mH).mH.real
    return (A - A.mT) / 2


def cayley_of_rotation(W: Tensor) -> Tensor:
    """The skew-symmetric A (n, n) with (I + A)⁻¹(I − A) = W; the map is its own inverse."""
    eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
    A = 2 * torch.linalg.inv(eye + W) - eye
    return (A - A.mT) / 2


def exp_skew(A: Tensor) -> Tensor:
    """exp(A), orthogonal, for A (n, n) skew-symmetric; differentiable once.

    iA is Hermitian, so exp(A) = Q e^{−iω} Qᴴ by its eigenvectors Q and eigenvalues ω. The
    gradient is Daleckii and Krein's: the divided differences of exp between eigenvalues,
    e^{−i(ω_j + ω_k)/2} sinc((ω_j − ω_k)/2), are smooth where they meet. On a CPU both
    passes take less time than the backward pass of ``torch.matrix_exp``, an exponential of
    twice the size, which for long incoming gradients also loses two digits.

    Source: Higham, Functions of Matrices, SIAM 2008, §3.2.
    """
    E: Tensor = _ExpSkew.apply(A)
    return E


class _ExpSkew(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Tensor) -> Tensor:
        omega, Q = torch.linalg.eigh(torch.complex(torch.zeros_like(A), A))
        ctx.save_for_backward(omega, Q)
        return ((Q * torch.exp(-1j * omega)) @ Q.mH).real

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        refuse_second_derivative("exp_skew")
        omega, Q = ctx.saved_tensors
        half = torch.exp(-0.5j * omega)
        gaps = torch.sinc((omega.unsqueeze(-1) - omega) / (2 * math.pi))
        differences = half.unsqueeze(-1) * half * gaps
        inner = Q.mH @ G.to(Q.dtype) @ Q
        return (Q @ (differences.conj() * inner) @ Q.mH).real
