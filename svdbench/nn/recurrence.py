"""``recurrence``: h_t = φ(W h_{t−1} + u_t) for all t, with a hand-written gradient.

Autograd would record every step, multiply out dW at each of them and add up T results.
Here the backward pass is one loop for δ_t, the gradient at W h_{t−1} + u_t,

    δ_t = φ'(h_t) ∘ (g_t + Wᵀ δ_{t+1}),

and then dW = Σ_t δ_t h_{t−1}ᵀ is one product over all steps and sequences. The states are saved,
and all δ_t are stored, which are also the gradients with respect to the inputs.
"""

from typing import Any

import torch
from torch import Tensor

from svdbench.kernels.apply import is_transformed
from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrence_loops import (
    PackedLayout,
    first_step,
    loop_backward,
    loop_backward_plain,
    loop_forward,
    loop_plain,
    weight_grad,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def recurrence(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None = None,
    *,
    activation: str = "tanh",
    bias: Tensor | None = None,
    layout: PackedLayout | None = None,
) -> Tensor:
    """All states h_1 … h_T of h_t = φ(W h_{t−1} + u_t).

    Differentiable in inputs, W, h0 and bias, in closed form, by one loop over time and one product
    for dW. Only the states are saved, so an in-place operation on the result makes the backward
    pass raise RuntimeError, as after ``torch.tanh``: clone the states first. Second derivatives,
    forward mode, batched gradients, ``torch.func`` and ``torch.jit.trace`` (for one T) use plain
    operations. Under ``torch.compile`` and ``torch.export`` it is one operator,
    ``svdbench::recurrence``, with first derivatives only; import ``svdbench.nn`` before loading
    such a program. Under autocast it runs in the widest dtype among its arguments.

    Args:
        inputs: all u_t = M x_t + b, shape (T, B, n).
        W: recurrent weight, (n, n).
        h0: initial state, (B, n); zeros by default.
        activation: φ, "tanh", "relu" or "identity"; "modrelu", φ(z) = sign(z)·relu(|z| + bias); or
            "complex_modrelu", for n even: the halves of z are its real and imaginary parts, and
            φ(z) = z·relu(|z| + bias)/|z|, φ(0) = 0.
        bias: of modReLU, (n,), or (n/2,) if complex; the other activations have none.
        layout: layout of packed sequences, see :func:`svdbench.nn.recurrence_loops.packed_layout`;
            inputs and states are then (N, n), a row for each step of each sequence.

    Returns:
        The states, (T, B, n), in the dtype of the arguments.

    Raises:
        ValueError: shapes or devices that don't match, an unknown activation, a bias that is
            missing or not used.
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
            return recurrence(inputs, W, h0, activation=activation, bias=bias, layout=layout)
    _check(inputs, W, h0, activation, bias, layout)
    compiling = torch.compiler.is_compiling()
    if _needs_plain_operations() or (compiling and layout is not None):
        return loop_plain(inputs, W, h0, bias, ACTIVATIONS[activation], layout)
    if compiling:
        return recurrence_op(inputs, W, h0, bias, activation)
    states: Tensor = _Recurrence.apply(inputs, W, h0, bias, activation, layout)
    return states


def recurrence_reference(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None = None,
    *,
    activation: str = "tanh",
    bias: Tensor | None = None,
    layout: PackedLayout | None = None,
) -> Tensor:
    """``recurrence`` step by step, differentiated by autograd: its reference."""
    _check(inputs, W, h0, activation, bias, layout)
    return loop_plain(inputs, W, h0, bias, ACTIVATIONS[activation], layout)


def _needs_plain_operations() -> bool:
    """Whether a transform or a tracer is active that only operations of PyTorch support."""
    if torch._C._are_functorch_transforms_active():
        return True
    if torch.compiler.is_compiling():
        return False
    # Gradients are batched (is_grads_batched, vectorize=True) by a vmap older than functorch.
    return is_transformed() or torch._C._dispatch_tls_is_dispatch_key_included("VmapMode")


class _Recurrence(torch.autograd.Function):
    """Gradients of the loop; second derivatives, too, use the states and not the inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        W: Tensor,
        h0: Tensor | None,
        bias: Tensor | None,
        activation: str,
        layout: PackedLayout | None,
    ) -> Tensor:
        ctx.phi, ctx.layout = ACTIVATIONS[activation], layout
        keep = any(ctx.needs_input_grad)
        states, kept = loop_forward(inputs, W, h0, bias, ctx.phi, keep, layout)
        ctx.save_for_backward(W, h0, bias, states, kept)
        return states

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        W, h0, bias, states, kept = ctx.saved_tensors
        _, need_W, need_h0, need_bias, *_ = ctx.needs_input_grad
        # Second derivatives are wanted, or G is a batch of gradients.
        if torch.is_grad_enabled() or _needs_plain_operations():
            deltas = loop_backward_plain(G, W, bias, states, ctx.phi, ctx.layout)
        else:
            deltas = loop_backward(G, W, states, kept, ctx.phi, ctx.layout)
        dW = weight_grad(deltas, states, h0, ctx.layout) if need_W else None
        dh0 = first_step(deltas, ctx.layout) @ W if need_h0 else None
        dbias = ctx.phi.bias_grad(deltas, states) if need_bias else None
        return deltas, dW, dh0, dbias, None, None


def _check(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    activation: str,
    bias: Tensor | None,
    layout: PackedLayout | None,
) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(ACTIVATIONS)}")
    if inputs.dtype not in DTYPES:
        raise TypeError(f"inputs must be real floating point, not {inputs.dtype}: convert them")
    if inputs.ndim != (3 if layout is None else 2):
        wanted = "(T, B, n)" if layout is None else "(N, n), as they are packed"
        raise ValueError(f"inputs must be {wanted}, not {tuple(inputs.shape)}")
    phi, n = ACTIVATIONS[activation], inputs.shape[-1]
    B = inputs.shape[1] if layout is None else layout.sizes[0]
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
                f"inputs of shape {tuple(inputs.shape)} need {name} of shape {shape}, "
                f"not {tuple(tensor.shape)}"
            )
        if tensor.dtype != inputs.dtype:
            raise TypeError(f"inputs are {inputs.dtype}, {name} is {tensor.dtype}: convert one")
        if tensor.device != inputs.device:
            raise ValueError(f"inputs are on {inputs.device}, {name} on {tensor.device}: move one")


def recurrence_op(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str
) -> Tensor:
    """:func:`recurrence` as one operator of PyTorch, so that torch.compile does not unroll it."""
    given = (inputs, W, h0, bias)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    return _forward(inputs, W, h0, bias, activation, keep)[0]


@torch.library.custom_op("svdbench::recurrence", mutates_args=())
def _forward(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str, keep: bool
) -> tuple[Tensor, Tensor]:
    return loop_forward(inputs, W, h0, bias, ACTIVATIONS[activation], keep)


@_forward.register_fake
def _(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str, keep: bool
) -> tuple[Tensor, Tensor]:
    T, B, n = inputs.shape
    kept = inputs.new_empty(T if keep else 1, B, ACTIVATIONS[activation].kept_size(n))
    return inputs.new_empty(inputs.shape), kept


@torch.library.custom_op("svdbench::recurrence_backward", mutates_args=())
def _backward(G: Tensor, W: Tensor, states: Tensor, kept: Tensor, activation: str) -> Tensor:
    return loop_backward(G, W, states, kept, ACTIVATIONS[activation])


@_backward.register_fake
def _(G: Tensor, W: Tensor, states: Tensor, kept: Tensor, activation: str) -> Tensor:
    return torch.empty_like(states)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, W, h0, bias, ctx.activation, _ = inputs
    ctx.save_for_backward(W, h0, bias, *output)


def _gradients(ctx: Any, G: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    W, h0, bias, states, kept = ctx.saved_tensors
    deltas = _backward(G, W, states, kept, ctx.activation)
    dh0 = None if h0 is None else first_step(deltas, None) @ W
    dbias = None if bias is None else ACTIVATIONS[ctx.activation].bias_grad(deltas, states)
    return deltas, weight_grad(deltas, states, h0), dh0, dbias, None, None


_forward.register_autograd(_gradients, setup_context=_setup)
