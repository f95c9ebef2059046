"""Deep networks of blocks x ← x + GLU(GELU(mix(LN x))), where a recurrence mixes along time.

Recurrences are compared at the same depth: only the :class:`Mixer` differs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.arguments import check_whole

from .base import ModelSizes, SequenceModel


class Mixer(nn.Module, ABC):
    """The recurrence of a block, which maps u (T, B, d) to y (T, B, d).

    Attributes:
        state_size: s, the size of the recurrent state.
    """

    state_size: int

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialise all parameters again."""

    @abstractmethod
    def forward(self, u: Tensor, h0: Tensor | None = None) -> Tensor:
        """y (T, B, d) for u (T, B, d) and the initial state (B, s)."""

    @abstractmethod
    def states(self, u: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same y, and the state after every step, (T, B, s)."""

    @abstractmethod
    def expected_parameters(self) -> int:
        """Free parameters, by the formula for this kind of mixer."""

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        """Parameters of a recurrent weight that stays on, or near, a manifold."""
        return []

    def promise(self) -> float | None:
        """As :meth:`svdbench.models.base.SequenceModel.promise`."""
        return None


class Block(nn.Module):
    """x + GLU(GELU(mix(LN x))) for x (T, B, d); GLU(v) = a ∘ σ(b), a and b the halves of Gv + g."""

    def __init__(self, d: int, mixer: Mixer) -> None:
        super().__init__()
        self.norm, self.mixer, self.gate = nn.LayerNorm(d), mixer, nn.Linear(d, 2 * d)

    def reset_parameters(self) -> None:
        """Initialise all parameters again."""
        for part in (self.norm, self.mixer, self.gate):
            part.reset_parameters()

    def forward(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        return self._added(x, self.mixer(self.norm(x), h0))

    def last(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        """The last step only, (1, B, d)."""
        return self._added(x[-1:], self.mixer(self.norm(x), h0)[-1:])

    def states(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output, and the states of the mixer, (T, B, s)."""
        mixed, states = self.mixer.states(self.norm(x), h0)
        return self._added(x, mixed), states

    def _added(self, x: Tensor, mixed: Tensor) -> Tensor:
        return x + F.glu(self.gate(F.gelu(mixed)))


class BlockOptions(ModelSizes, total=False):
    """Sizes and options of all models of blocks; see :class:`BlockModel`."""

    layers: int


class BlockModel(SequenceModel):
    """An encoder, L blocks of width d = ``hidden_size``, LN, and a linear readout.

    The state consists of the states of all mixers and the d numbers that are read out, which the
    next step does not use. With n_i inputs, n_o outputs and P parameters in a mixer there are
    d(n_i + 1) + L(2d + P + 2d² + 2d) + 2d + n_o(d + 1) parameters.

    Args:
        mixer: function that returns the mixer of a block of width d; it is called L times.
        layers: L, number of blocks.

    Raises:
        ValueError: a size that is not a positive whole number.
    """

    kind = "linear"

    def __init__(
        self,
        mixer: Callable[[int], Mixer],
        *,
        input_size: int,
        hidden_size: int,
        output_size: int,
        layers: int = 2,
        readout_bias: bool = True,
    ) -> None:
        check_whole(1, hidden_size=hidden_size, layers=layers)
        blocks = [Block(hidden_size, mixer(hidden_size)) for _ in range(layers)]
        self.sizes = [block.mixer.state_size for block in blocks] + [hidden_size]
        super().__init__(
            *(input_size, hidden_size, output_size),
            readout_bias=readout_bias,
            state_size=sum(self.sizes),
            read=hidden_size,
        )
        self.encoder = nn.Linear(input_size, hidden_size)
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(hidden_size)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for block in self.blocks:
            block.reset_parameters()

    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        x, kept = self.encoder(x), []
        for block, first in zip(self.blocks, self._first(h0), strict=True):
            x, states = block.states(x, first)
            kept.append(states)
        return torch.cat([*kept, self.norm(x)], -1)

    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        state, states = h0, []
        for u in x.split(1):
            state = self.states(u, state).squeeze(0)
            states.append(state)
        return states

    def forward(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        x = self.encoder(x)
        for block, first in zip(self.blocks, self._first(h0), strict=True):
            x = block(x, first)
        outputs: Tensor = self.readout(self.norm(x))
        return outputs

    def last(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        x = self.encoder(x)
        *before, (block, first) = zip(self.blocks, self._first(h0), strict=True)
        for each, state in before:
            x = each(x, state)
        output: Tensor = self.readout(self.norm(block.last(x, first).squeeze(0)))
        return output

    def _first(self, h0: Tensor | None) -> list[Tensor] | list[None]:
        """The state before the first step of each mixer."""
        if h0 is None:
            return [None] * len(self.blocks)
        return list(h0.split(self.sizes, -1))[:-1]

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [p for block in self.blocks for p in block.mixer.orthogonal_parameters()]

    def promise(self) -> float | None:
        """The largest of the mixers'."""
        promises = [block.mixer.promise() for block in self.blocks]
        return None if None in promises else max(promises)

    def expected_parameters(self) -> int:
        d = self.hidden_size
        blocks = sum(2 * d + b.mixer.expected_parameters() + 2 * d * (d + 1) for b in self.blocks)
        return d * (self.input_size + 1) + blocks + 2 * d + self.readout_parameters()
