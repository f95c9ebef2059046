"""Resemblyzer's speaker encoder: an LSTM of three layers and a linear one, 1.4 M parameters.

Its package wants others for audio, so its layers are built here and its weights read from the
wheel, as numbers only. The voices are synthetic: pulses through formants that a speaker's vocal
tract scales. The loss is the cross entropy of who speaks, by the encoder's own scale of cosines
(GE2E: Wan et al. 2018), against centroids of utterances that the dense encoder heard.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.files import package_file

RATE, FRAMES, MELS, HOP, LENGTH = 16_000, 160, 40, 160, 400
SPEAKERS, ENROLLED = 32, 8
# Formants in Hz (Peterson and Barney 1952, men).
FRONT = [(270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410)]
BACK = [(730, 1090, 2440), (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240)]
MIDDLE = [(640, 1190, 2390), (490, 1350, 1690)]
VOWELS = torch.tensor([*FRONT, *BACK, *MIDDLE])


class SpeakerEncoder(nn.Module):
    """Embeddings of unit length (B, 256) of mel spectrograms (B, frames, 40)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1)


class SpeakerIdentifier(nn.Module):
    """Logits of speakers: the encoder's scaled cosines to their centroids."""

    def __init__(self, encoder: nn.Module, centroids: Tensor, scale: float) -> None:
        super().__init__()
        self.encoder, self.scale = encoder, scale
        self.register_buffer("centroids", centroids)

    def forward(self, mels: Tensor) -> Tensor:
        found: Tensor = self.scale * self.encoder(mels) @ self.get_buffer("centroids").T
        return found


def _weights() -> dict[str, Tensor]:
    path = package_file("resemblyzer", "pretrained.pt")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
        "model_state"
    ]
    return state


def encoder() -> nn.Module:
    model = SpeakerEncoder()
    model.load_state_dict(_weights(), strict=False)
    return model.eval()


def build() -> nn.Module:
    heard, who = voices(SPEAKERS * ENROLLED, seed=1)
    model = encoder()
    with torch.no_grad():
        embedded = model(heard)
    centroids = torch.stack([embedded[who == k].mean(0) for k in range(SPEAKERS)])
    scale = float(_weights()["similarity_weight"])
    return SpeakerIdentifier(model, F.normalize(centroids, dim=1), scale).eval()


def voices(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mel spectrograms (N, 160, 40) of 1.6 s each, and who speaks (N,); the speakers in turn."""
    own = torch.Generator().manual_seed(0)  # the same speakers every time
    height = 90 * (240 / 90) ** torch.rand(SPEAKERS, generator=own)
    tract = 0.85 + 0.4 * torch.rand(SPEAKERS, generator=own)
    tilt = 6 + 8 * torch.rand(SPEAKERS, generator=own)
    width = 60 + 80 * torch.rand(SPEAKERS, 3, generator=own)
    generator = torch.Generator().manual_seed(seed)
    who = torch.arange(count) % SPEAKERS
    found = [
        _mel(_utterance(height[k], tract[k], tilt[k], width[k], generator)) for k in who.tolist()
    ]
    return torch.stack(found), who


def _utterance(
    height: Tensor, tract: Tensor, tilt: Tensor, width: Tensor, generator: torch.Generator
) -> Tensor:
    """A voice over random vowels: harmonics of a gliding pitch, weighted by formants."""
    samples = FRAMES * HOP + LENGTH
    seconds = torch.arange(samples) / RATE
    vowels = VOWELS[torch.randint(len(VOWELS), (8,), generator=generator)].float() * tract
    track = F.interpolate(vowels.T[None], samples, mode="linear")[0]  # (3, samples)
    glide = 2 ** (0.25 * torch.randn(6, generator=generator))
    pitch = height * F.interpolate(glide[None, None], samples, mode="linear")[0, 0]
    phase = 2 * math.pi * pitch.cumsum(0) / RATE
    number = torch.arange(1.0, 31.0)[:, None]
    hertz = number * pitch
    gain = sum(1 / (1 + ((hertz - track[i]) / width[i]) ** 2) for i in range(3))
    strength = gain * 10 ** (-tilt / 20 * number.log2()) * (hertz < RATE / 2)
    x = (strength * (number * phase).sin()).sum(0)
    loud = 0.6 + 0.4 * (2 * math.pi * 4 * seconds + 6 * torch.rand(1, generator=generator)).sin()
    x = x * loud + 0.003 * torch.randn(samples, generator=generator)
    return x * 10 ** (-30 / 20) / x.square().mean().sqrt()  # −30 dBFS, as its package makes it


def _mel(x: Tensor) -> Tensor:
    """The power in mel bands (160, 40), not its logarithm, as its package computes it."""
    window = torch.hann_window(LENGTH)
    power = torch.stft(x, LENGTH, HOP, window=window, center=False, return_complex=True)
    return (_bands() @ power.abs().square())[:, :FRAMES].T


@cache
def _bands() -> Tensor:
    """Triangles of unit area on Slaney's mel scale (40, 201)."""
    step = math.log(6.4) / 27

    def hertz(mel: Tensor) -> Tensor:
        return torch.where(mel < 15, 200 / 3 * mel, 1000 * (step * (mel - 15)).exp())

    edges = hertz(torch.linspace(0, 15 + math.log(8) / step, MELS + 2))
    bins = torch.linspace(0, RATE / 2, LENGTH // 2 + 1)
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return up.minimum(down).clamp(min=0) * (2 / (edges[2:] - edges[:-2]))[:, None]


def loader(count: int = 640) -> tuple[Tensor, Tensor]:
    return voices(count, seed=2)


def few() -> tuple[Tensor, Tensor]:
    return voices(64, seed=2)
