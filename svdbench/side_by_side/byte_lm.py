"""A transformer that predicts the next byte of a text."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.side_by_side.families import NetworkFamily, scaled_width
from svdbench.side_by_side.networks import ACTIVATIONS, Loss, sequence_cross_entropy

BYTES = 256
# Widths are multiples of this, and a head has at least so many features.
MULTIPLE, LEAST_HEAD = 4, 32


def heads_of(width: int) -> int:
    """The most heads of equal size that have 32 features or more; one for a narrow network.

    Example:
        >>> [heads_of(width) for width in (24, 48, 128, 136)]
        [1, 1, 4, 4]
    """
    most = max(1, width // LEAST_HEAD)
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


class CausalAttention(nn.Module):
    """Attention of every place to itself and those before, of x (N, T, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = heads_of(width)
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        by_head = self.inputs(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = by_head.unbind()
        found = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        mixed: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return mixed


class TransformerBlock(nn.Module):
    """x + attention, then x + two linear layers, each of x normalised (pre-norm)."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.activation = ACTIVATIONS[activation]()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        changed: Tensor = self.down(self.activation(self.up(self.feedforward_norm(x))))
        return x + changed


class ByteTransformer(nn.Module):
    """Logits (N, T, 256) of the byte after each place, of bytes (N, T), T up to ``context``.

    The embedding and the readout share their weight. Weights are drawn as GPT-2's: from
    N(0, .02²), those that are added to the residual stream from N(0, .02²/(2·layers)).

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019.
    """

    def __init__(self, width: int, layers: int, context: int, activation: str = "relu") -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, activation) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, BYTES, bias=False)
        self.readout.weight = self.embedding.weight
        nn.init.normal_(self.positions, std=0.02)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            for last in (block.attention.output, block.down):
                nn.init.normal_(last.weight, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.embedding(numbers) + self.positions[: numbers.shape[1]]
        logits: Tensor = self.readout(self.norm(self.blocks(x)))
        return logits


@dataclass(frozen=True)
class ByteLmFamily(NetworkFamily):
    """Byte-level causal transformers: pre-norm, learned positions, tied embedding and readout.

    Args:
        width: features, a multiple of 4; heads of 32 features or more follow from it.
        layers: blocks of attention and two linear layers.
        context: bytes seen at once.

    Example:
        >>> ByteLmFamily(128, 4, 128).scaled(0.375).label
        'byte-lm-48x4-128'
    """

    width: int
    layers: int
    context: int
    activation: str = "relu"

    @property
    def label(self) -> str:
        return f"byte-lm-{self.width}x{self.layers}-{self.context}"

    def build(self) -> nn.Module:
        return ByteTransformer(self.width, self.layers, self.context, self.activation)

    def scaled(self, share: float) -> "ByteLmFamily":
        return replace(self, width=scaled_width(self.width, share, MULTIPLE))

    @property
    def loss(self) -> Loss:
        return sequence_cross_entropy
