"""What tests of ``orthogonal`` share: how near a weight is to orthonormal, and to another."""

import torch
from torch import Tensor, nn

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def error_of(weight: Tensor) -> float:
    """How far WᴴW, or WWᴴ, is from I."""
    W = weight.detach().to(torch.promote_types(weight.dtype, torch.float64))
    W = W if W.shape[-2] >= W.shape[-1] else W.mT
    return (W.mH @ W - torch.eye(W.shape[-1], dtype=W.dtype)).abs().max().item()


def tolerance(weight: Tensor) -> float:
    """As in PyTorch's tests: 10·d·eps."""
    return 10 * max(weight.shape[-2:]) * torch.finfo(weight.dtype).eps


def q_factor(weight: Tensor) -> Tensor:
    """That with diag(R) ≥ 0, of the transpose if the weight is wide."""
    W = weight.detach() if weight.shape[-2] >= weight.shape[-1] else weight.detach().mT
    Q, R = torch.linalg.qr(W)
    Q = Q * R.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)
    return Q if weight.shape[-2] >= weight.shape[-1] else Q.mT


def near(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a - b).abs().max().item() <= tolerance(a)


def linear(rows: int = 6, columns: int = 6, seed: int = 0, **options) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(columns, rows, **options)
