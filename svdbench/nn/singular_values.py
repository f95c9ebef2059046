"""Singular values as parameters: free, clipped to an interval, or mapped into one."""

from typing import Any

import torch
from torch import Tensor, nn

from svdbench.nn.deferred import assign

Values = float | Tensor


class FreeSigma(nn.Module):
    """σ is the parameter itself, of any sign."""

    def __init__(self, n: int, values: Values, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.start = values.detach().double() if isinstance(values, Tensor) else float(values)
        self.raw = nn.Parameter(torch.empty(n, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset to the initial values."""
        assign(self.raw, self.start)

    def forward(self) -> Tensor:
        return self.raw


class ClippedSigma(FreeSigma):
    """σ is the parameter, clipped to [lo, hi].

    The gradient passes through unless it would push a clipped value further out: with the gradient
    of ``torch.clamp``, a value that has left the interval could never return.

    Raises:
        ValueError: lo > hi.
    """

    def __init__(
        self, n: int, lo: float, hi: float, values: Values, *, device: Any = None, dtype: Any = None
    ) -> None:
        if not lo <= hi:
            raise ValueError(f"singular values cannot be clipped to [{lo}, {hi}]: give lo ≤ hi")
        self.lo, self.hi = lo, hi
        super().__init__(n, values, device=device, dtype=dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Reset to the initial values, clipped."""
        assign(self.raw, self.start)
        self.raw.clamp_(self.lo, self.hi)

    def forward(self) -> Tensor:
        return clipped(self.raw, self.lo, self.hi)

    def extra_repr(self) -> str:
        return f"lo={self.lo}, hi={self.hi}"


class IntervalSigma(FreeSigma):
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
        if not radius >= 0:
            raise ValueError(f"the radius about sigma = {center} must be 0 or more, not {radius}")
        self.center, self.radius = center, radius
        super().__init__(n, values, device=device, dtype=dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Reset to the initial values, or the nearest to them in the interval."""
        fraction = (self.start - self.center) / (2 * self.radius) if self.radius else 0.0
        assign(self.raw, 0.5 + fraction)
        # The ends of the interval would be at infinity.
        self.raw.logit_(eps=torch.finfo(self.raw.dtype).eps)

    def forward(self) -> Tensor:
        return 2 * self.radius * (self.raw.sigmoid() - 0.5) + self.center

    def extra_repr(self) -> str:
        return f"center={self.center}, radius={self.radius}"


@torch.fx.wrap  # symbolic tracing can't look into a function with a gradient of its own
def clipped(raw: Tensor, lo: float, hi: float) -> Tensor:
    """The values in [lo, hi], with the gradient of :class:`ClippedSigma`."""
    # torch.compile takes no function with a derivative in forward mode.
    clip = _Clip if torch.compiler.is_compiling() else _ClipForwardMode
    values: Tensor = clip.apply(raw, lo, hi)
    return values


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


class _ClipForwardMode(_Clip):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        _Clip.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        # There is no loss to say which way is out: the derivative is that of torch.clamp.
        (raw,) = ctx.saved_tensors
        return tangent * ((raw >= ctx.lo) & (raw <= ctx.hi))
