"""Singular values as parameters: free, clipped, or within an interval by a sigmoid.

Each is a module whose ``forward()`` returns σ (n,) and which starts at given values, or
at those nearest to them that it can take.
"""

from typing import Any

import torch
from torch import Tensor, nn

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
