"""minGRU and minLSTM: gates that do not depend on the state, so that the recurrence is linear."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.nn.scans import gated_scan

from .blocks import BlockModel, BlockOptions, Mixer

SOURCE = "Feng et al., Were RNNs All We Needed?, 2024, arXiv 2410.01201"


class MinimalMixer(Mixer):
    """h_t = (1 − z_t) ∘ h_{t−1} + z_t ∘ c_t, c = W_c u + b_c; the states are also the outputs.

    Args:
        d: width, of the input and of the state.
        gates: 1 for z = σ(p₁), 2 for z = i/(f + i) with i = σ(p₁) and f = σ(p₂); each p is
            an affine map of u.
        memory: biases of the gates are initialised so that z is 1/(1 + m) at p's mean, with m, the
            steps to remember, uniform from 1 to this number; None: as in ``torch.nn.Linear``.

    Raises:
        ValueError: a memory below 1.

    Source of the initialisation: Tallec and Ollivier, Can Recurrent Neural Networks Warp Time?,
    ICLR 2018.
    """

    def __init__(self, d: int, gates: int, memory: float | None) -> None:
        super().__init__()
        if memory is not None and not memory >= 1:
            raise ValueError(f"memory is {memory}: give a number of steps from 1, or null")
        self.state_size, self.gates, self.memory = d, gates, memory
        self.inputs = nn.Linear(d, (1 + gates) * d)
        self._reset_gates()

    def reset_parameters(self) -> None:
        self.inputs.reset_parameters()
        self._reset_gates()

    @torch.no_grad()
    def _reset_gates(self) -> None:
        if self.memory is not None:
            steps = torch.empty(self.state_size).uniform_(1, self.memory).log()
            signs = torch.tensor([-1.0, 1.0])[: self.gates]
            self.inputs.bias[self.state_size :] = (signs.unsqueeze(-1) * steps).flatten()

    def forward(self, u: Tensor, h0: Tensor | None = None) -> Tensor:
        # Each by itself, so that autograd need not join their gradients.
        weights = zip(
            *(t.chunk(1 + self.gates) for t in (self.inputs.weight, self.inputs.bias)), strict=True
        )
        content, p, *forget = (F.linear(u, weight, bias) for weight, bias in weights)
        if forget:  # ln i − ln f, which σ takes to i/(f + i)
            p = F.softplus(-forget[0]) - F.softplus(-p)
        return gated_scan(p, content, h0)

    def states(self, u: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self(u, h0)
        return h, h

    def expected_parameters(self) -> int:
        d = self.state_size
        return (1 + self.gates) * d * (d + 1)


class MinGRU(BlockModel):
    """Blocks of minGRU: h_t = (1 − z_t) ∘ h_{t−1} + z_t ∘ c_t, z and c from the input alone.

    Args:
        layers: L, blocks.
        memory: biases of z are initialised so that it is 1/(1 + m), m uniform from 1 to this number
            of steps; None: as in ``torch.nn.Linear``.

    Raises:
        ValueError: a size that is not a positive whole number, or a memory below 1.
    """

    name = "mingru"
    source = SOURCE
    gates: ClassVar[int] = 1

    def __init__(self, *, memory: float | None = None, **shared: Unpack[BlockOptions]) -> None:
        super().__init__(lambda d: MinimalMixer(d, self.gates, memory), **shared)


class MinLSTM(MinGRU):
    """Blocks of minLSTM: like minGRU, with z = i/(f + i) from an input and a forget gate.

    Args:
        layers, memory: as in :class:`MinGRU`.

    Raises:
        ValueError: a size that is not a positive whole number, or a memory below 1.
    """

    name = "minlstm"
    source = SOURCE
    gates = 2
