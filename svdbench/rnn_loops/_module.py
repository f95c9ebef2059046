"""torch.nn's own recurrent networks, called on leaves."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from svdbench.algorithm import Flops, Problem

from .base import RNNLoop, products


class TorchModule(RNNLoop):
    """One layer of ``torch.nn.RNN``, ``LSTM`` or ``GRU``, with its own first weights.

    Class attributes:
        module: the class.
        gates: blocks of d rows in its weights.
    """

    builds = "W h"
    gradients = "torch's"
    module: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]
    gates: ClassVar[int]

    def parameter(
        self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor
    ) -> tuple[Tensor, ...]:
        """Input and recurrent weights (gates·d, n_in) and (gates·d, d), and a bias for each."""
        made = self._new(M.shape[1], len(b), M)
        return tuple(parameter.detach() for parameter in made.parameters())

    def prepare(self, *inputs: Tensor) -> None:
        """Lay the weights in one piece of memory, as cuDNN wants them."""
        *weights, X = inputs
        self._module = self._new(X.shape[-1], weights[1].shape[-1], X)
        with torch.no_grad():
            for own, given in zip(self._module.parameters(), weights, strict=True):
                own.copy_(given)
        self._module.flatten_parameters()
        for own, given in zip(self._module.parameters(), weights, strict=True):
            given.data = own.data

    def apply(self, *inputs: Tensor) -> Tensor:
        *weights, X = inputs
        names = (name for name, _ in self._module.named_parameters())
        named = dict(zip(names, weights, strict=True))
        states: Tensor = torch.func.functional_call(self._module, named, (X,))[0]
        return states

    def flops(self, problem: Problem) -> Flops:
        once = products(problem)
        return Flops(self.gates * once.forward, self.gates * once.backward)

    def _new(self, inputs: int, d: int, like: Tensor) -> Any:
        return self.module(inputs, d, device=like.device, dtype=like.dtype)
