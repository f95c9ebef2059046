"""The steps of torch's recurrent networks and their gradients, for a loop over time that trains.

The loop multiplies states by the recurrent weight, and gradients by its transpose; a cell does the
rest of a step, in place.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from svdbench.lowrank.layers.recurrent_steps import State

_of_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
_of_tanh = torch.ops.aten.tanh_backward.grad_input
_of_relu = torch.ops.aten.threshold_backward.grad_input

# The tensors of each step that a method ``step`` takes.
Views = Iterable[Sequence[Tensor]]


class ForwardCell(ABC):
    """One direction of a layer: T steps of B sequences with n units.

    Args:
        u: what comes from the inputs, (T, B, gates·n); overwritten.
        start: states before the first step, (B, n) each.

    Attributes:
        y: the states h, the first one too, (T + 1, B, n).
        z: where the loop writes the product with the state, (T, B, gates·n); u is added to it,
            or in a GRU the bias.
        saved: what the gradient needs beside y.
    """

    y: Tensor
    z: Tensor
    saved: tuple[Tensor, ...] = ()

    def __init__(self, u: Tensor, start: State) -> None:
        T, B, _ = u.shape
        h = start[0]
        self.y = u.new_empty(T + 1, B, h.shape[1])
        self.y[0] = h
        self.z = u

    @abstractmethod
    def views(self) -> Views:
        """For each step what :meth:`step` takes."""

    @abstractmethod
    def step(self, *views: Tensor) -> None:
        """Write the next state to y, once z is there."""

    def last(self) -> State:
        """The states after the last step but for h."""
        return ()


class CellGradient(ABC):
    """The gradient of a cell.

    Args:
        y, saved: of the cell.
        ends: gradients of the last states but for h; they become those of the first.

    Class attributes:
        skips: whether h reaches the next state also beside the product.

    Attributes:
        dz: the gradient of z, (T, B, gates·n).
        du: that of what comes from the inputs.
    """

    skips: ClassVar[bool] = False

    dz: Tensor
    du: Tensor

    def __init__(self, y: Tensor, saved: Sequence[Tensor], ends: State) -> None:
        self.y, self.saved, self.ends = y, saved, ends

    @abstractmethod
    def views(self) -> Views:
        """For each step what :meth:`step` takes, after dh."""

    @abstractmethod
    def step(self, dh: Tensor, *views: Tensor) -> None:
        """Write dz and du of a step, of the gradient dh of its state.

        Where h ``skips``, dh becomes what reaches the state before beside the product.
        """


class _TanhSteps(ForwardCell):
    """h ← tanh(z)."""

    def views(self) -> Views:
        return zip(self.z.unbind(), self.y[1:].unbind(), strict=True)

    def step(self, *views: Tensor) -> None:
        z, new = views
        torch.tanh(z, out=new)


class _ReLUSteps(_TanhSteps):
    """h ← max(z, 0)."""

    def step(self, *views: Tensor) -> None:
        z, new = views
        torch.clamp_min(z, 0, out=new)


class _TanhGradient(CellGradient):
    def __init__(self, y: Tensor, saved: Sequence[Tensor], ends: State) -> None:
        super().__init__(y, saved, ends)
        self.dz = self.du = torch.empty_like(y[1:])

    def views(self) -> Views:
        return zip(self.y[1:].unbind(), self.dz.unbind(), strict=True)

    def step(self, dh: Tensor, *views: Tensor) -> None:
        new, dz = views
        _of_tanh(dh, new, grad_input=dz)


class _ReLUGradient(_TanhGradient):
    def step(self, dh: Tensor, *views: Tensor) -> None:
        new, dz = views
        _of_relu(dh, new, 0, grad_input=dz)


class _LSTMSteps(ForwardCell):
    """c ← f∘c + i∘g and h ← o∘tanh(c); z has i, f, g and o, as torch has them."""

    def __init__(self, u: Tensor, start: State) -> None:
        super().__init__(u, start)
        self.cells, self.tanhs = torch.empty_like(self.y), torch.empty_like(self.y[1:])
        self.cells[0] = start[1]
        self.saved = u, self.cells, self.tanhs

    def views(self) -> Views:
        n = self.y.shape[2]
        i_f, g, o = self.z[..., : 2 * n], self.z[..., 2 * n : 3 * n], self.z[..., 3 * n :]
        i, f, before, now = i_f[..., :n], i_f[..., n:], self.cells[:-1], self.cells[1:]
        each = (i_f, i, f, g, o, before, now, self.tanhs, self.y[1:])
        return zip(*(whole.unbind() for whole in each), strict=True)

    def step(self, *views: Tensor) -> None:
        i_f, i, f, g, o, before, now, tanh, new = views
        i_f.sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(f, before, out=now)
        now.addcmul_(i, g)
        torch.tanh(now, out=tanh)
        torch.mul(o, tanh, out=new)

    def last(self) -> State:
        return (self.cells[-1].clone(),)


class _LSTMGradient(CellGradient):
    def __init__(self, y: Tensor, saved: Sequence[Tensor], ends: State) -> None:
        super().__init__(y, saved, ends)
        self.dz = self.du = torch.empty_like(saved[0])
        self.part, self.other = (torch.empty_like(y[0]) for _ in range(2))

    def views(self) -> Views:
        gates, cells, tanhs = self.saved
        n = self.y.shape[2]
        each = (*gates.split(n, -1), cells[:-1], tanhs, *self.dz.split(n, -1))
        return zip(*(whole.unbind() for whole in each), strict=True)

    def step(self, dh: Tensor, *views: Tensor) -> None:
        i, f, g, o, before, tanh, di, df, dg, do = views
        (dc,), part = self.ends, self.part
        torch.mul(dh, tanh, out=part)
        _of_sigmoid(part, o, grad_input=do)
        torch.mul(dh, o, out=part)
        dc += _of_tanh(part, tanh, grad_input=self.other)
        torch.mul(dc, g, out=part)
        _of_sigmoid(part, i, grad_input=di)
        torch.mul(dc, before, out=part)
        _of_sigmoid(part, f, grad_input=df)
        torch.mul(dc, i, out=part)
        _of_tanh(part, g, grad_input=dg)
        dc *= f


class _GRUSteps(ForwardCell):
    """a ← tanh(uₐ + r∘zₐ) and h ← a + k∘(h − a), with r and k of u + z; z has r, k and a."""

    def __init__(self, u: Tensor, start: State) -> None:
        super().__init__(u, start)
        self.u, self.z = u, torch.empty_like(u)
        self.saved = u, self.z

    def views(self) -> Views:
        n = self.y.shape[2]
        r, k, a = self.u.split(n, -1)
        both = self.u[..., : 2 * n], self.z[..., : 2 * n]
        each = (*both, r, k, a, self.z[..., 2 * n :], self.y[:-1], self.y[1:])
        return zip(*(whole.unbind() for whole in each), strict=True)

    def step(self, *views: Tensor) -> None:
        rk, z_rk, r, k, a, z_a, h, new = views
        rk.add_(z_rk).sigmoid_()
        a.addcmul_(r, z_a).tanh_()
        torch.lerp(a, h, k, out=new)


class _GRUGradient(CellGradient):
    skips = True

    def __init__(self, y: Tensor, saved: Sequence[Tensor], ends: State) -> None:
        super().__init__(y, saved, ends)
        self.dz, self.du = (torch.empty_like(saved[0]) for _ in range(2))
        self.part = torch.empty_like(y[0])

    def views(self) -> Views:
        u, z = self.saved
        n = self.y.shape[2]
        both = self.du[..., : 2 * n], self.dz[..., : 2 * n]
        each = (*u.split(n, -1), z[..., 2 * n :], self.y[:-1], *both)
        each += (*self.du.split(n, -1), self.dz[..., 2 * n :])
        return zip(*(whole.unbind() for whole in each), strict=True)

    def step(self, dh: Tensor, *views: Tensor) -> None:
        r, k, a, z_a, h, du_rk, dz_rk, du_r, du_k, du_a, dz_a = views
        part = self.part
        torch.sub(h, a, out=part)
        part *= dh
        _of_sigmoid(part, k, grad_input=du_k)
        torch.mul(dh, k, out=part)
        dh -= part
        _of_tanh(dh, a, grad_input=du_a)
        torch.mul(du_a, r, out=dz_a)
        torch.mul(du_a, z_a, out=dh)
        _of_sigmoid(dh, r, grad_input=du_r)
        dz_rk.copy_(du_rk)
        dh.copy_(part)


CELLS: Mapping[str, tuple[type[ForwardCell], type[CellGradient]]] = {
    "LSTM": (_LSTMSteps, _LSTMGradient),
    "GRU": (_GRUSteps, _GRUGradient),
    "RNN_TANH": (_TanhSteps, _TanhGradient),
    "RNN_RELU": (_ReLUSteps, _ReLUGradient),
}
