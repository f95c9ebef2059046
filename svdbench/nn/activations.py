"""Activations of z = W h + u in a recurrence: plain, in place, and their derivatives.

The derivative is taken from the state h = φ(z), so z need not be kept. Only the complex
modReLU keeps something beside its states, the moduli |z|: where the bias is positive,
|h| − bias would lose the digits of a small |z|.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

aten = torch.ops.aten


class Activation(ABC):
    """φ, elementwise or on pairs of elements.

    Methods that end in an underscore work in place on one step: ``state``, ``grad`` and the work
    space ``spare`` are (B, n), ``kept`` is (B, kept_size). The others can be differentiated.
    """

    needs_bias = False
    in_kernel: ClassVar[str | None] = None  # its name in ``kernels.triton_recurrence``

    def bias_size(self, n: int) -> int:
        """Entries of the bias for n hidden units."""
        return n

    def kept_size(self, n: int) -> int:
        """Numbers that ``step_`` keeps for ``grad_``, for n hidden units of one sequence."""
        return 0

    @abstractmethod
    def plain(self, z: Tensor, bias: Tensor | None) -> Tensor:
        """φ(z)."""

    @abstractmethod
    def plain_grad(self, grad: Tensor, state: Tensor, bias: Tensor | None) -> Tensor:
        """The gradient at z, given that at the state φ(z)."""

    @abstractmethod
    def step_(self, state: Tensor, bias: Tensor | None, kept: Tensor, spare: Tensor) -> None:
        """Replace z by φ(z)."""

    @abstractmethod
    def grad_(self, grad: Tensor, state: Tensor, kept: Tensor, spare: Tensor) -> None:
        """Replace the gradient at the state by that at z."""

    def bias_grad(self, grads: Tensor, states: Tensor) -> Tensor:
        """The gradient at the bias, given all those at z and all states (..., n)."""
        raise TypeError(f"{type(self).__name__} has no bias")


class Identity(Activation):
    in_kernel = "identity"

    def plain(self, z: Tensor, bias: Tensor | None) -> Tensor:
        return z

    def plain_grad(self, grad: Tensor, state: Tensor, bias: Tensor | None) -> Tensor:
        return grad

    def step_(self, state: Tensor, bias: Tensor | None, kept: Tensor, spare: Tensor) -> None:
        pass

    def grad_(self, grad: Tensor, state: Tensor, kept: Tensor, spare: Tensor) -> None:
        pass


class Tanh(Activation):
    in_kernel = "tanh"

    def plain(self, z: Tensor, bias: Tensor | None) -> Tensor:
        return z.tanh()

    def plain_grad(self, grad: Tensor, state: Tensor, bias: Tensor | None) -> Tensor:
        return grad * (1 - state * state)

    def step_(self, state: Tensor, bias: Tensor | None, kept: Tensor, spare: Tensor) -> None:
        state.tanh_()

    def grad_(self, grad: Tensor, state: Tensor, kept: Tensor, spare: Tensor) -> None:
        aten.tanh_backward(grad, state, grad_input=grad)


class Relu(Activation):
    in_kernel = "relu"

    def plain(self, z: Tensor, bias: Tensor | None) -> Tensor:
        return z.relu()

    def plain_grad(self, grad: Tensor, state: Tensor, bias: Tensor | None) -> Tensor:
        return grad * (state > 0)

    def step_(self, state: Tensor, bias: Tensor | None, kept: Tensor, spare: Tensor) -> None:
        state.relu_()

    def grad_(self, grad: Tensor, state: Tensor, kept: Tensor, spare: Tensor) -> None:
        aten.threshold_backward(grad, state, 0, grad_input=grad)


class ModRelu(Activation):
    """sign(z)·relu(|z| + bias): its slope is 1 where h ≠ 0, and 0 elsewhere.

    Source: Helfrich, Willmott, Ye, "Orthogonal recurrent neural networks with scaled
    Cayley transform", ICML 2018.
    """

    needs_bias = True
    in_kernel = "modrelu"

    def plain(self, z: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        return z.sign() * (z.abs() + bias).relu()

    def plain_grad(self, grad: Tensor, state: Tensor, bias: Tensor | None) -> Tensor:
        return grad * (state != 0)

    def step_(self, state: Tensor, bias: Tensor | None, kept: Tensor, spare: Tensor) -> None:
        # With s = sign(z): z + s·bias, kept where s·(z + s·bias) = |z| + bias is positive.
        assert bias is not None
        sign = torch.sign(state, out=spare)
        state.addcmul_(sign, bias)
        aten.threshold_backward(state, sign.mul_(state), 0, grad_input=state)

    def grad_(self, grad: Tensor, state: Tensor, kept: Tensor, spare: Tensor) -> None:
        aten.threshold_backward(grad, torch.abs(state, out=spare), 0, grad_input=grad)

    def bias_grad(self, grads: Tensor, states: Tensor) -> Tensor:
        return (grads * states.sign()).reshape(-1, states.shape[-1]).sum(0)


class ComplexModRelu(Activation):
    """relu(|z| + bias)·z/|z| for complex z: one half real parts, the other imaginary parts.

    Along e = z/|z| the slope is 1, across it |h|/|z|. At z = 0 value and slope are 0.

    Source: Arjovsky, Shah, Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
    """

    needs_bias = True

    def bias_size(self, n: int) -> int:
        return n // 2

    def kept_size(self, n: int) -> int:
        return n // 2

    def plain(self, z: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        modulus, unit = _polar(_pairs(z))
        return (unit * (modulus + bias).relu().unsqueeze(-2)).reshape(z.shape)

    def plain_grad(self, grad: Tensor, state: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        g, (size, unit) = _pairs(grad), _polar(_pairs(state))
        across = size / torch.where(size > 0, size - bias, 1)
        along = unit * (g * unit).sum(-2, keepdim=True)
        return (along + (g - along) * across.unsqueeze(-2)).reshape(grad.shape)

    def step_(self, state: Tensor, bias: Tensor | None, kept: Tensor, spare: Tensor) -> None:
        assert bias is not None
        z = _pairs(state)
        modulus = torch.sum(torch.mul(z, z, out=_pairs(spare)), -2, out=kept).sqrt_()
        scale = (modulus + bias).relu_().div_(modulus).masked_fill_(modulus == 0, 0)
        z.mul_(scale.unsqueeze(-2))

    def grad_(self, grad: Tensor, state: Tensor, kept: Tensor, spare: Tensor) -> None:
        g, (size, unit) = _pairs(grad), _polar(_pairs(state))
        across = (size / kept).masked_fill_(size == 0, 0)
        along = (g * unit).sum(-2, keepdim=True)
        torch.mul(unit, along, out=_pairs(spare))
        g.sub_(_pairs(spare)).mul_(across.unsqueeze(-2)).add_(_pairs(spare))

    def bias_grad(self, grads: Tensor, states: Tensor) -> Tensor:
        _, unit = _polar(_pairs(states))
        return (_pairs(grads) * unit).reshape(-1, unit.shape[-1]).sum(0)


def _pairs(z: Tensor) -> Tensor:
    """(..., n) as (..., 2, n/2): real and imaginary parts."""
    return z.view(*z.shape[:-1], 2, z.shape[-1] // 2)


def _polar(z: Tensor) -> tuple[Tensor, Tensor]:
    """Moduli (..., n/2) and directions (..., 2, n/2) of pairs; both 0, with slope 0, at 0."""
    square = (z * z).sum(-2)
    modulus = torch.where(square > 0, square, 1).sqrt()
    zero = (square > 0).to(z.dtype)
    return modulus * zero, z * (zero / modulus).unsqueeze(-2)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Tanh(),
    "relu": Relu(),
    "identity": Identity(),
    "modrelu": ModRelu(),
    "complex_modrelu": ComplexModRelu(),
}
