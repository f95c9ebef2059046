"""Convolutional networks that classify images: four convolutions, pooling, one linear layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor, nn

from svdbench.side_by_side.families import NetworkFamily, scaled_width
from svdbench.side_by_side.networks import ACTIVATIONS, Loss, loss_for

CHANNELS = (32, 64, 128, 128)


class Images(nn.Module):
    """Flat images (N, d) as (N, channels, height, width).

    Args:
        shape: of an image: (height, width), or (height, width, channels).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        height, width, *channels = shape
        self.shape = (height, width, *(channels or (1,)))

    def forward(self, X: Tensor) -> Tensor:
        return X.view(len(X), *self.shape).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ConvFamily(NetworkFamily):
    """3×3 convolutions, each with an activation, and pooling of 2×2 after all but the last.

    The mean over the places that are left goes to one linear layer. A side of one place is
    pooled no more.

    Args:
        shape: of an image: (height, width), or (height, width, channels).
        classes: logits.
        channels: of each convolution.

    Example:
        >>> ConvFamily((28, 28), 10).scaled(0.25).label
        'conv-8-16-32-32'
    """

    shape: Sequence[int]
    classes: int
    channels: Sequence[int] = CHANNELS
    activation: str = "relu"

    @property
    def label(self) -> str:
        return "-".join(["conv", *map(str, self.channels)])

    def build(self) -> nn.Module:
        images = Images(self.shape)
        modules: list[nn.Module] = [images]
        height, width, colours = images.shape
        for number, (inputs, outputs) in enumerate(pairwise((colours, *self.channels)), 1):
            modules += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                ACTIVATIONS[self.activation](),
            ]
            if number < len(self.channels) and min(height, width) > 1:
                modules.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*modules, nn.Linear(self.channels[-1], self.classes))

    def scaled(self, share: float) -> "ConvFamily":
        return replace(self, channels=tuple(scaled_width(n, share) for n in self.channels))

    @property
    def loss(self) -> Loss:
        return loss_for(self.classes)
