"""``recurrence``: h_t = φ(W h_{t−1} + u_t) for all t, with a hand-written gradient."""

from typing import Any

import torch
from torch import Tensor

from svdbench.nn import bptt
from svdbench.nn.activations import ACTIVATIONS

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def recurrence(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None = None,
    *,
    activation: str = "tanh",
    bias: Tensor | None = None,
) -> Tensor:
    """All states h_1 … h_T of h_t = φ(W h_{t−1} + u_t).

    Differentiable in inputs, W, h0 and bias, in closed form, by one loop over time and one
    product for dW; it keeps the states only. Second derivatives and ``torch.func`` work
    too, through plain operations. Under ``torch.compile`` it is one operator, with first
    derivatives only. Under autocast it runs in the widest dtype among its arguments.

    Args:
        inputs: all u_t = M x_t + b, shape (T, B, n).
        W: recurrent weight, (n, n).
        h0: the state before the first, (B, n); zeros by default.
        activation: φ, "tanh", "relu" or "identity"; "modrelu", φ(z) = sign(z)·relu(|z| + bias);
            or "complex_modrelu", for n even: the halves of z are real and imaginary part,
            and φ(z) = z·relu(|z| + bias)/|z|, φ(0) = 0.
        bias: of modReLU, (n,), or (n/2,) if complex; the other activations have none.

    Returns:
        The states, (T, B, n), in the dtype of the arguments.

    Raises:
        ValueError: shapes or devices that don't fit, an unknown activation, a bias that is
            missing or has no use.
        TypeError: dtypes that differ or are not real floating point.

    Example:
        >>> recurrence(torch.randn(10, 2, 8), torch.eye(8), activation="relu").shape
        torch.Size([10, 2, 8])
    """
    device = inputs.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        given = [t for t in (inputs, W, h0, bias) if t is not None]
        widest = max((t.dtype for t in given), key=lambda dtype: dtype.itemsize)
        with torch.autocast(device, enabled=False):
            parts = (None if t is None else t.to(widest) for t in (inputs, W, h0, bias))
            inputs, W, h0, bias = parts  # type: ignore[assignment]
            return recurrence(inputs, W, h0, activation=activation, bias=bias)
    _check(inputs, W, h0, activation, bias)
    if inputs.numel() == 0 or torch._C._are_functorch_transforms_active():
        return recurrence_reference(inputs, W, h0, activation=activation, bias=bias)
    if torch.compiler.is_compiling():
        from svdbench.nn.recurrence_op import recurrence_op

        return recurrence_op(inputs, W, h0, bias, activation)
    states: Tensor = _Recurrence.apply(inputs, W, h0, bias, activation)
    return states


def recurrence_reference(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None = None,
    *,
    activation: str = "tanh",
    bias: Tensor | None = None,
) -> Tensor:
    """The same step by step, left to autograd: what ``recurrence`` is checked against."""
    _check(inputs, W, h0, activation, bias)
    state = inputs.new_zeros(inputs.shape[1:]) if h0 is None else h0
    states = []
    for u in inputs.unbind(0):
        state = ACTIVATIONS[activation].plain(torch.addmm(u, state, W.t()), bias)
        states.append(state)
    return torch.stack(states) if states else inputs.clone()


class _Recurrence(torch.autograd.Function):
    """The inputs are not kept: second derivatives, too, go by way of the states."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str
    ) -> Tensor:
        ctx.phi = ACTIVATIONS[activation]
        states, kept = bptt.forward(inputs, W, h0, bias, ctx.phi, any(ctx.needs_input_grad))
        ctx.save_for_backward(W, h0, bias, states, kept)
        return states

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        W, h0, bias, states, kept = ctx.saved_tensors
        _, need_W, need_h0, need_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # create_graph: somebody wants second derivatives
            deltas = bptt.plain_backward(G, W, bias, states, ctx.phi)
        else:
            deltas = bptt.backward(G, W, states, kept, ctx.phi)
        dW = bptt.weight_grad(deltas, states, h0) if need_W else None
        dh0 = deltas[0] @ W if need_h0 else None
        dbias = ctx.phi.bias_grad(deltas, states) if need_bias else None
        return deltas, dW, dh0, dbias, None


def _check(
    inputs: Tensor, W: Tensor, h0: Tensor | None, activation: str, bias: Tensor | None
) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(ACTIVATIONS)}")
    if inputs.dtype not in DTYPES:
        raise TypeError(f"inputs must be real floating point, not {inputs.dtype}: convert them")
    if inputs.ndim != 3:
        raise ValueError(f"inputs must be (T, B, n), not {tuple(inputs.shape)}")
    phi, (_, B, n) = ACTIVATIONS[activation], inputs.shape
    if activation == "complex_modrelu" and n % 2:
        raise ValueError(f"complex_modrelu needs an even number of hidden units, not {n}")
    if phi.needs_bias and bias is None:
        raise ValueError(f"activation {activation!r} needs a bias ({phi.bias_size(n)},): give one")
    if not phi.needs_bias and bias is not None:
        raise ValueError(f"activation {activation!r} has no bias: add it to the inputs")
    shapes = {"W": (W, (n, n)), "h0": (h0, (B, n)), "bias": (bias, (phi.bias_size(n),))}
    for name, (tensor, shape) in shapes.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(
                f"inputs (T, B, n) = {tuple(inputs.shape)} need {name} of shape {shape}, "
                f"not {tuple(tensor.shape)}"
            )
        if tensor.dtype != inputs.dtype:
            raise TypeError(f"inputs are {inputs.dtype}, {name} is {tensor.dtype}: convert one")
        if tensor.device != inputs.device:
            raise ValueError(f"inputs are on {inputs.device}, {name} on {tensor.device}: move one")
