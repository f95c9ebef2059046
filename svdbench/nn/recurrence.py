"""``recurrence``: h_t = φ(W h_{t−1} + u_t) for all t, with a hand-written gradient.

Autograd would record every step, multiply out dW at each of them and add up T results.
Here the backward pass is one loop for δ_t, the gradient at W h_{t−1} + u_t,

    δ_t = φ'(h_t) ∘ (g_t + Wᵀ δ_{t+1}),

and then dW = Σ_t δ_t h_{t−1}ᵀ is one product over all steps and sequences. The states are
kept and room is taken for all δ_t, which are also the gradients at the inputs.
"""

from typing import Any

import torch
from torch import Tensor

from svdbench.nn.activations import ACTIVATIONS, Activation

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def loop_forward(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, phi: Activation, keep: bool
) -> tuple[Tensor, Tensor]:
    """All states (T, B, n), T > 0, and on request what :func:`loop_backward` needs of φ."""
    T, B, n = inputs.shape
    states = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    kept = inputs.new_empty(T if keep else 1, B, phi.kept_size(n))
    spare = torch.empty_like(states[0])
    before, Wt = h0, W.t()
    moments = kept.unbind(0) if keep else kept.unbind(0) * T
    for u, state, moment in zip(inputs.unbind(0), states.unbind(0), moments, strict=True):
        if before is None:
            state.copy_(u)
        else:
            torch.addmm(u, before, Wt, out=state)
        phi.step_(state, bias, moment, spare)
        before = state
    return states, kept


def loop_backward(G: Tensor, W: Tensor, states: Tensor, kept: Tensor, phi: Activation) -> Tensor:
    """All δ_t (T, B, n), given the gradients G at the states."""
    deltas = torch.empty_like(states)
    spare = torch.empty_like(states[0])
    after: Tensor | None = None
    steps = zip(G.unbind(0), deltas.unbind(0), states.unbind(0), kept.unbind(0), strict=True)
    for g, delta, state, moment in reversed(list(steps)):
        if after is None:
            delta.copy_(g)
        else:
            torch.addmm(g, after, W, out=delta)
        phi.grad_(delta, state, moment, spare)
        after = delta
    return deltas


def loop_backward_plain(
    G: Tensor, W: Tensor, bias: Tensor | None, states: Tensor, phi: Activation
) -> Tensor:
    """As :func:`loop_backward`, in operations that autograd differentiates itself."""
    deltas: list[Tensor] = []
    for g, state in zip(reversed(G.unbind(0)), reversed(states.unbind(0)), strict=True):
        if deltas:
            g = torch.addmm(g, deltas[-1], W)
        deltas.append(phi.plain_grad(g, state, bias))
    return torch.stack(deltas[::-1])


def weight_grad(deltas: Tensor, states: Tensor, h0: Tensor | None) -> Tensor:
    """dW = Σ_t δ_t h_{t−1}ᵀ, (n, n)."""
    dW = deltas[1:].flatten(0, 1).t() @ states[:-1].flatten(0, 1)
    return dW if h0 is None else torch.addmm(dW, deltas[0].t(), h0)


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
    """The same step by step, differentiated by autograd: the reference for ``recurrence``."""
    _check(inputs, W, h0, activation, bias)
    state = inputs.new_zeros(inputs.shape[1:]) if h0 is None else h0
    states = []
    for u in inputs.unbind(0):
        state = ACTIVATIONS[activation].plain(torch.addmm(u, state, W.t()), bias)
        states.append(state)
    return torch.stack(states) if states else inputs.clone()


class _Recurrence(torch.autograd.Function):
    """Gradients of the loop; second derivatives, too, use the states and not the inputs."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str
    ) -> Tensor:
        ctx.phi = ACTIVATIONS[activation]
        states, kept = loop_forward(inputs, W, h0, bias, ctx.phi, any(ctx.needs_input_grad))
        ctx.save_for_backward(W, h0, bias, states, kept)
        return states

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        W, h0, bias, states, kept = ctx.saved_tensors
        _, need_W, need_h0, need_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # create_graph: somebody wants second derivatives
            deltas = loop_backward_plain(G, W, bias, states, ctx.phi)
        else:
            deltas = loop_backward(G, W, states, kept, ctx.phi)
        dW = weight_grad(deltas, states, h0) if need_W else None
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


def recurrence_op(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str
) -> Tensor:
    """:func:`recurrence` as one operator of PyTorch, so that torch.compile does not unroll it."""
    given = (inputs, W, h0, bias)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    return _forward(inputs, W, h0, bias, activation, keep)[0]


@torch.library.custom_op("svdbench::recurrence", mutates_args=())
def _forward(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    bias: Tensor | None,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    return loop_forward(inputs, W, h0, bias, ACTIVATIONS[activation], keep)


@_forward.register_fake
def _(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    bias: Tensor | None,
    activation: str,
    keep: bool,
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
    dh0 = None if h0 is None else deltas[0] @ W
    dbias = None if bias is None else ACTIVATIONS[ctx.activation].bias_grad(deltas, states)
    return deltas, weight_grad(deltas, states, h0), dh0, dbias, None, None


_forward.register_autograd(_gradients, setup_context=_setup)
